"""A camera frame -> the picture that the network sees -> the network's input."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""A picture: (H, W, 3) uint8; BGR as OpenCV's cameras give it, RGB once cropped."""


TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


@dataclass(frozen=True)
class InputSpec:
    """How a frame becomes the network's input: (pixel - mean) * scale, RGB, (3, size, size)."""

    size: int
    mean: float
    scale: float


def upright(frame: Pixels, degrees: int) -> Pixels:
    """A frame that a recording says to turn by this, a multiple of 90, counterclockwise."""
    turn = TURNS.get(degrees % 360)
    return frame if turn is None else np.asarray(cv2.rotate(frame, turn), np.uint8)


def crop(frame: Pixels, size: int) -> Pixels:
    """The largest central square of a BGR frame, resized to (size, size, 3), RGB.

    Raises:
        ValueError: not an (H, W, 3) uint8 picture.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
        raise ValueError(f"got a frame of shape {frame.shape} and type {frame.dtype}, expected (H, W, 3) uint8")
    height, width = frame.shape[:2]
    side = min(height, width)
    halves = max(0, (side // size).bit_length() - 1)
    side = side >> halves << halves  # it can be halved that often
    top, left = (height - side) // 2, (width - side) // 2
    square = frame[top : top + side, left : left + side]
    for _ in range(halves):  # OpenCV has a fast way for this one: docs/decisions/0017-resizing.md
        side //= 2
        square = np.asarray(cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    small = cv2.resize(square, (size, size), interpolation=cv2.INTER_LINEAR) if side != size else square
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), np.uint8)


def reduced(picture: Pixels, side: int) -> Pixels:
    """A square picture as (side, side, 3), each pixel the mean of those that it stands for."""
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def normalise(picture: Pixels, spec: InputSpec) -> npt.NDArray[np.float32]:
    """(size, size, 3) RGB -> the network's input, (1, 3, size, size) float32: (pixel - mean) * scale."""
    x = np.empty((1, 3, *picture.shape[:2]), np.float32)
    np.subtract(picture.transpose(2, 0, 1), np.float32(spec.mean), out=x[0], dtype=np.float32)
    x *= np.float32(spec.scale)
    return x
