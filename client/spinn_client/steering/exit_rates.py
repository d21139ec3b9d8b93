"""How often exits answer this camera's frames, to correct a bundle's tables, which are of other pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spinn_stream.bundle import Bundle
from spinn_stream.plan.predict.exit_shares import exit_shares, of_those_that_come, planned_rows

FRAMES = 300
"""A mean is over about this number of frames that came to an exit. A scene is about a hundred similar ones."""

AT_FIRST = 30
"""The mean begins as if this number of frames had gone as the tables say."""

STEP = 0.15
"""Smaller changes of the log-odds are not worth a new table."""

REST_S = 3.0
"""Shortest time between two tables: setting one up takes some tenths of a second."""

CERTAIN = 0.005
"""Probabilities this near to 0 or 1 are not learned from: such exits nearly always, or never, answer."""


@dataclass
class _Tally:
    """Counts of one exit: frames that came to it, those it answered, and those it should have answered by the
    tables."""

    came: float = 0.0
    answered: float = 0.0
    expected: float = 0.0

    def count(self, expected: float, answered: bool) -> None:
        if not self.came:
            self.came, self.answered, self.expected = AT_FIRST, AT_FIRST * expected, AT_FIRST * expected
        kept = 1 - 1 / FRAMES
        self.came = kept * self.came + 1
        self.answered = kept * self.answered + answered
        self.expected = kept * self.expected + expected

    @property
    def shift(self) -> float:
        return _log_odds(self.answered / self.came) - _log_odds(self.expected / self.came) if self.came else 0.0


class ExitRates:
    """For each early exit: the shift of the log-odds that it answers a frame that comes to it.

    One number for all thresholds: frames that are harder at one are harder at the others. It stays 0 for an exit that
    no plan evaluated.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._cuts = [e.cut for e in bundle.exits[:-1]]
        self._bundle = bundle
        self._expected = of_those_that_come(exit_shares(planned_rows(bundle)))  # the bundle's rows come first
        self._tallies = [_Tally() for _ in self._cuts]
        self._told: tuple[float, ...] = (0.0,) * len(self._cuts)
        self._told_at = -math.inf

    def went(self, threshold: float | None, start: int, stop: int, answered_at: int | None) -> None:
        """A frame went from one cut point to another under a plan of this threshold.

        Args:
            answered_at: cut point of the exit that answered it on this way; None: none did.
        """
        row = self._bundle.threshold_row(threshold)
        if row is None:  # no exit may answer
            return
        for cut, tally, expected in zip(self._cuts, self._tallies, self._expected[row], strict=False):
            if start < cut <= stop and CERTAIN < expected < 1 - CERTAIN:
                tally.count(float(expected), cut == answered_at)
            if cut == answered_at:
                return

    def shifts(self, now: float) -> tuple[float, ...]:
        """The shifts for `build_table`. They change only if that is worth a new table. now: seconds."""
        found = tuple(tally.shift for tally in self._tallies)
        moved = any(abs(a - b) >= STEP for a, b in zip(found, self._told, strict=True))
        if moved and now - self._told_at >= REST_S:
            self._told, self._told_at = found, now
        return self._told


def _log_odds(p: float) -> float:
    p = min(max(p, CERTAIN), 1 - CERTAIN)
    return math.log(p / (1 - p))
