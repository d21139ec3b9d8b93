"""The demo's camera: pans and zooms over photographs that scikit-image ships. No download, no drawn shapes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from spinn_stream.errors import SourceError
from spinn_stream.frame import Pixels

from .base import Picture, Unusable

PHOTOGRAPHS = ("chelsea", "coffee", "rocket")
"""A cat, an espresso and a rocket: the default model knows all three, the rocket as a missile."""

FPS = 30.0
SECONDS_EACH = 4.0
VIEW = (480, 640)
"""Height and width of a frame in pixels, as a webcam gives."""


class DemoSource:
    """A clip of some seconds per photograph: the camera starts at one side, drifts to the other and comes closer."""

    name = "demo"
    live = False
    fps: float | None = FPS

    def __init__(self) -> None:
        try:
            from skimage import data
        except ImportError as error:
            raise SourceError("the demo's photographs are in scikit-image: pip install 'spinn-client[demo]'") from error
        self._pictures = [
            cv2.cvtColor(np.asarray(getattr(data, name)(), np.uint8), cv2.COLOR_RGB2BGR) for name in PHOTOGRAPHS
        ]

    def pictures(self) -> Iterator[Picture | Unusable]:
        steps = int(FPS * SECONDS_EACH)
        for picture in self._pictures:
            for i in range(steps):
                yield Picture(_view(np.asarray(picture, np.uint8), i / steps))

    def close(self) -> None:
        """Nothing is held."""


def open_demo(text: str) -> DemoSource:
    """The demo, whatever text asked for it."""
    return DemoSource()


def _view(picture: Pixels, progress: float) -> Pixels:
    """The camera's window at `progress` 0 to 1: its centre swings around the middle, its size goes from 100 % to 75
    %."""
    height, width = picture.shape[:2]
    aspect = VIEW[1] / VIEW[0]
    zoom = 1 - 0.25 * progress
    h = min(height, width / aspect) * zoom
    w = h * aspect
    swing = math.sin((progress - 0.5) * math.pi)
    x = (width - w) / 2 * (1 + 0.6 * swing)
    y = (height - h) / 2 * (1 - 0.3 * swing)
    window = np.array([[w / VIEW[1], 0, x], [0, h / VIEW[0], y]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(picture, window, (VIEW[1], VIEW[0]), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(seen, np.uint8)
