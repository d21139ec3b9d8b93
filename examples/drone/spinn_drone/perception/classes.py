"""The classes of an answer: the way is blocked, or the most open of nine directions. And the true class of a place."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinn_drone.world.forest import Forest

DEGREES = (-40, -30, -20, -10, 0, 10, 20, 30, 40)
"""Of the directions, from forward; positive to the left."""

HEADINGS = np.radians(DEGREES)

BLOCKED = "blocked"
LABELS = tuple(f"{abs(d)} {'left' if d > 0 else 'right'}" if d else "straight" for d in DEGREES)
CLASSES = (BLOCKED, *LABELS)

HALF_WIDTH_M = 0.4
"""Half the width of the corridor that must be free: the hull's 0.25 m and a margin."""

SIGHT_M = 9.0
"""A direction that is free up to here counts as free; trees farther away do not matter."""

FREE_M = 6.0
"""If no direction is free up to here, the way is blocked. An answer that names a direction promises this distance."""

TURN_M = 1.5
"""A direction at the edge is preferred to the one ahead only if it is free for this many metres more."""

DOUBT_M = 0.5
"""Directions whose scores differ by less than this are about equally good; `Truth.probabilities` says so."""


@dataclass(frozen=True)
class Truth:
    """The truth of a place, by rays. scores: (9,), free distances less the cost of turning, metres. free: of the best
    one."""

    scores: npt.NDArray[np.float64]
    free: float

    @property
    def is_blocked(self) -> bool:
        return self.free < FREE_M

    @property
    def label(self) -> str:
        return BLOCKED if self.is_blocked else LABELS[int(np.argmax(self.scores))]

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """(9,), probability that each direction seems the most open, with an error of DOUBT_M."""
        shares = np.exp((self.scores - self.scores.max()) / DOUBT_M)
        return np.asarray(shares / shares.sum())


def truth(forest: Forest, x: float, y: float) -> Truth:
    """The most open direction from a point, by ray casts: the one with the longest free corridor, where a turn costs a
    little.
    """
    free = forest.free_distances(x, y, HEADINGS, half_width=HALF_WIDTH_M, reach=SIGHT_M)
    scores = free - TURN_M * np.abs(HEADINGS) / math.radians(DEGREES[-1])
    return Truth(scores, float(free[int(np.argmax(scores))]))
