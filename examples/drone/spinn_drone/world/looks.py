"""What a forest looks like: bark, ground, sky and light, which a seed decides and a course keeps."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from spinn_stream.frame import Pixels

TEXTURE = 64
"""Side of a texture in pixels."""


@dataclass(frozen=True)
class Looks:
    """bark: textures that trees are given in turn, ground: one, (TEXTURE, TEXTURE, 3) uint8 RGB. sky: BGR colour.

    sun: where light comes from. ambient, diffuse: shares of light. brightness: factor on the picture; noise: standard
    deviation of the camera's, in 0..255.
    """

    bark: tuple[Pixels, ...]
    ground: Pixels
    sky: tuple[float, float, float]
    sun: tuple[float, float, float]
    ambient: float
    diffuse: float
    brightness: float
    noise: float

    @classmethod
    def of(cls, seed: int) -> Looks:
        """Every seed another forest, time of day and camera."""
        rng = np.random.default_rng([seed, 1])
        bark = tuple(
            _speckled(
                rng, rng.uniform((50, 35, 20), (150, 115, 85)), rng.uniform(10, 40), (int(rng.integers(2, 8)), 32)
            )
            for _ in range(4)
        )
        ground = _speckled(
            rng, rng.uniform((50, 60, 25), (150, 150, 100)), rng.uniform(8, 30), (int(rng.integers(4, 32)),) * 2
        )
        grey = rng.uniform(150, 240)
        sky = (grey, grey - rng.uniform(0, 20), grey - rng.uniform(0, 60))
        angle = rng.uniform(0, 2 * np.pi)
        sun = (10 * float(np.cos(angle)), 10 * float(np.sin(angle)), float(rng.uniform(5, 20)))
        ambient = float(rng.uniform(0.45, 0.7))
        return cls(
            bark, ground, sky, sun, ambient, float(rng.uniform(0.2, 0.5)), float(rng.uniform(0.6, 1.2)),
            float(rng.uniform(1, 6)),
        )  # fmt: skip


def _speckled(rng: np.random.Generator, colour: np.ndarray, spread: float, grain: tuple[int, int]) -> Pixels:
    """One colour with lighter and darker spots. grain: spots from left to right and from top to bottom."""
    spots = rng.normal(0, spread, (grain[1], grain[0], 1)) + rng.normal(0, spread / 3, (grain[1], grain[0], 3))
    large = cv2.resize(spots, (TEXTURE, TEXTURE), interpolation=cv2.INTER_LINEAR)
    return np.clip(colour + large, 0, 255).astype(np.uint8)
