"""Percentiles of ages in constant memory, however long a run is."""

from __future__ import annotations

import math
from array import array

SMALLEST_MS = 0.01
LARGEST_MS = 1e6  # no deadline is longer than 600 s
RELATIVE_ERROR = 0.005

_STEP = 2 * math.log1p(RELATIVE_ERROR)  # a bin's middle is this error away from its ends
_BINS = math.ceil(math.log(LARGEST_MS / SMALLEST_MS) / _STEP) + 1


class Ages:
    """A histogram whose bins are equally wide in the logarithm: 1,848 counters, 15 KB.

    Percentiles are within RELATIVE_ERROR of the exact ones, between SMALLEST_MS and LARGEST_MS.
    """

    def __init__(self) -> None:
        self.count = 0
        self._bins = array("Q", bytes(8 * _BINS))
        self._least, self._most = math.inf, -math.inf

    def add(self, age_ms: float) -> None:
        """Count one. If a frame claims to be captured in the future, its age is below 0."""
        self.count += 1
        self._least, self._most = min(self._least, age_ms), max(self._most, age_ms)
        place = math.log(max(age_ms, SMALLEST_MS) / SMALLEST_MS) / _STEP
        self._bins[min(int(place), _BINS - 1)] += 1

    def percentile(self, percent: float) -> float | None:
        """As `numpy.percentile` has it, in ms. None: nothing was counted."""
        if not self.count:
            return None
        rank = (self.count - 1) * percent / 100
        below, above = self._at(math.floor(rank)), self._at(math.ceil(rank))
        return below + (above - below) * (rank % 1)

    def _at(self, rank: int) -> float:
        """The approximate age with `rank` smaller ones."""
        seen = 0
        for place, count in enumerate(self._bins):
            seen += count
            if seen > rank:
                middle = SMALLEST_MS * math.exp((place + 0.5) * _STEP)
                return min(max(middle, self._least), self._most)
        raise ValueError(f"rank is {rank}, expected less than {self.count}")
