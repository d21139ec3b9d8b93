"""What the device's own runs take: a guard of deadlines, and a load factor for the scheduler."""

from __future__ import annotations

from collections.abc import Sequence

from spinn_stream.plan import LoadTracker, Profile

Piece = tuple[int, int]
"""(first cut point, last cut point) of one graph."""


class StageClock:
    """How long each piece takes on this device: a slowly forgotten maximum, since it guards deadlines.

    A piece that never ran is expected to take what the profile says, times the load of the last second.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._ms: dict[Piece, float] = {}
        self._load = LoadTracker()

    def observe(self, start: int, stop: int, *, exit: bool, ms: float, now: float) -> None:
        """One run, with or without the exit at `stop`; `now` in seconds."""
        self._ms[start, stop] = max(ms, 0.9 * self._ms.get((start, stop), 0.0))
        expected = self._profile.expected_ms([(start, stop)], {stop} if exit else ())
        self._load.observe((start, stop), observed_ms=ms, expected_ms=expected, now=now)

    def expected_ms(self, pieces: Sequence[Piece], now: float) -> float:
        total = 0.0
        for piece in pieces:
            seen = self._ms.get(piece)
            total += (
                seen if seen is not None else self._profile.expected_ms([piece], {piece[1]}) * self.load_factor(now)
            )
        return total

    def load_factor(self, now: float) -> float:
        """How much slower the device is than its profile, over the last second; 1.0 where little ran."""
        return self._load.factor(now)
