"""How much accuracy it costs to repeat an answer, by how much the picture has changed.

A frame that is fully answered, though an answer could have been repeated, shows what the repeat would have cost: the
probability that the network gives its own answer, less the one it gives the repeated answer. That is 0 if they are the
same, and little if the network wavers between the two. As exits are calibrated, the mean is the accuracy that repeats
lose.
"""

from __future__ import annotations

import bisect
import math

from spinn_stream.runtime.exits import Answer

EDGES = (0.005, 0.0071, 0.01, 0.0141, 0.02, 0.0283, 0.04)
"""Upper ends of the classes of change, each about the root of 2 times the one before; beyond the last, nothing is
repeated."""

PRIOR = (0.0002, 0.0003, 0.0005, 0.001, 0.008, 0.015, 0.03)
"""Mean loss in each class before a camera has shown its own: as measured on clips, made rising
(`benchmarks/repeat.py`)."""

PRIOR_FRAMES = 500
"""The prior counts as this number of frames: enough to repeat from the first frame on; minutes outweigh it."""

FRAMES = 1000
"""A mean is over about this number of frames, so that a camera that is moved to another scene is learned anew."""

Z = 1.645
"""The bound is kept with 95 % confidence: a standard normal value is below this one with that probability."""

DEFAULT_MOST_LOST = 0.01
"""Points of accuracy, if nobody says what may be lost: the bound of the default SLA."""


class Agreement:
    """Mean loss by class of change, and whether the SLA allows it.

    Each class counts by itself, so it is all the same that of an open class only audits are seen, and of a closed one
    every frame.
    """

    def __init__(self) -> None:
        self._frames = [float(PRIOR_FRAMES)] * len(EDGES)
        self._lost = [PRIOR_FRAMES * loss for loss in PRIOR]

    def observe(self, change: float, lost: float) -> None:
        """A frame was fully answered. change: see `Repeats`. lost: 0 to 1, what a repeat would have cost."""
        at = bisect.bisect_right(EDGES, change)
        if at < len(EDGES):
            kept = 1 - 1 / FRAMES
            self._frames[at] = kept * self._frames[at] + 1
            self._lost[at] = kept * self._lost[at] + lost

    def limit(self, most_lost: float) -> float:
        """Changes below this one may be repeated: the bound of their class, and of all smaller ones, is kept."""
        reached = 0.0
        for edge, frames, lost in zip(EDGES, self._frames, self._lost, strict=True):
            if upper_bound(lost, frames) > most_lost:
                break
            reached = edge
        return reached

    def loss(self, change: float) -> float:
        """Mean loss of repeats at a change, as estimated; 1.0 beyond all classes."""
        at = bisect.bisect_right(EDGES, change)
        return self._lost[at] / self._frames[at] if at < len(EDGES) else 1.0


def lost_by(label: int, answer: Answer) -> float:
    """What another label would cost where the network gives this answer: 0 to 1."""
    return 0.0 if label == answer.label else answer.confidence - dict(answer.top).get(label, 0.0)


def upper_bound(lost: float, frames: float) -> float:
    """Of a mean of values from 0 to 1, with 95 % confidence: Wilson 1927.

    It is exact for values that are 0 or 1, and careful for others, which vary less.
    """
    mean, z2 = lost / frames, Z * Z
    spread = math.sqrt(mean * (1 - mean) / frames + z2 / (4 * frames * frames))
    return (mean + z2 / (2 * frames) + Z * spread) / (1 + z2 / frames)
