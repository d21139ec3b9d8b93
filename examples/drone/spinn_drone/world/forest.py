"""Where the trees are: a forest that a seed decides, and distances in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CLEARING_M = 6.0
"""Nothing grows this near to the start."""

HALF_WIDTH_M = 25.0
"""The forest reaches this far to both sides of the course."""

TRIES = 20
"""Tries for each tree that the density asks for; a place that is too near to another tree is given up."""


@dataclass(frozen=True)
class ForestConfig:
    """density: trees for each square metre. radius: smallest and largest trunk, metres. gap: the least free space
    between two trunks, metres. length: of the course, metres; the forest goes on behind its end.
    """

    density: float = 0.07
    radius: tuple[float, float] = (0.15, 0.35)
    gap: float = 1.4
    length: float = 60.0
    beyond: float = 15.0


class Forest:
    """Upright trunks. trees: (N, 3) of x, y and radius in metres, by rising x."""

    def __init__(self, trees: npt.NDArray[np.float64]) -> None:
        self.trees = trees[np.argsort(trees[:, 0], kind="stable")]

    @classmethod
    def grown(cls, config: ForestConfig, seed: int) -> Forest:
        """Trees at random places that keep their distance; the same seed gives the same forest."""
        rng = np.random.default_rng(seed)
        end = config.length + config.beyond
        wanted = round(config.density * (end - CLEARING_M) * 2 * HALF_WIDTH_M)
        trees = np.empty((wanted, 3))
        count = 0
        for x, y, r in rng.uniform(
            (CLEARING_M, -HALF_WIDTH_M, config.radius[0]), (end, HALF_WIDTH_M, config.radius[1]), (TRIES * wanted, 3)
        ):
            near = trees[:count]
            if np.all(np.hypot(near[:, 0] - x, near[:, 1] - y) - near[:, 2] - r >= config.gap):
                trees[count] = x, y, r
                count += 1
                if count == wanted:
                    break
        return cls(trees[:count])

    def clearance(self, x: float, y: float) -> float:
        """From a point to the nearest bark, metres; negative inside of a trunk."""
        if not len(self.trees):
            return math.inf
        return float(np.min(np.hypot(self.trees[:, 0] - x, self.trees[:, 1] - y) - self.trees[:, 2]))

    def free_distances(
        self, x: float, y: float, headings: npt.NDArray[np.float64], *, half_width: float, reach: float
    ) -> npt.NDArray[np.float64]:
        """How far a disc of radius `half_width` can move along each heading before it touches a tree, metres.

        A ray from the disc's middle against trunks that are `half_width` thicker.

        Args:
            headings: (K,) radians from forward, positive to the left. reach: the most that is told, metres.

        Returns:
            (K,), each 0 to `reach`.
        """
        dx, dy = self.trees[:, 0] - x, self.trees[:, 1] - y
        near = dx * dx + dy * dy < (reach + 2.0) ** 2  # a thick trunk's bark is nearer than its middle
        dx, dy, thick = dx[near], dy[near], self.trees[near, 2] + half_width
        cos, sin = np.cos(headings)[:, None], np.sin(headings)[:, None]
        along = cos * dx + sin * dy  # (K, N)
        aside = cos * dy - sin * dx
        depth = thick**2 - aside**2
        hits = (depth > 0) & (along > 0)
        distance = np.where(hits, along - np.sqrt(np.maximum(depth, 0.0)), reach)
        return np.asarray(np.clip(distance.min(axis=1, initial=reach), 0.0, reach))
