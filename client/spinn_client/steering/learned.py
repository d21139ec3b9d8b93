"""What this camera and this device are like beyond the tables and the profile. One rule for all of it: means of what
was expected and of what came, over about the last OVER events."""

from __future__ import annotations

import math

from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting
from spinn_stream.plan.predict.exits import Exits, of_those_that_come

OVER, AT_FIRST = 300, 30
"""Events that the means are over, as a scene is about a hundred similar frames; and those that they begin with, as if
these had gone as expected."""

CERTAIN = 0.005
"""Probabilities this near to 0 or 1 are not learned from: such exits nearly always, or never, answer."""


class Learned:
    """Of one figure, what was expected and what came: two running means."""

    def __init__(self) -> None:
        self._expected = self._came = 0.0
        self._events = 0

    def add(self, expected: float, came: float) -> None:
        if not self._events:
            self._expected = self._came = expected
            self._events = AT_FIRST
        self._events = min(self._events + 1, OVER)
        self._expected += (expected - self._expected) / self._events
        self._came += (came - self._came) / self._events

    @property
    def beyond(self) -> float:
        """By how much more came than was expected; not below 0."""
        return max(0.0, self._came - self._expected)

    @property
    def ratio(self) -> float:
        """What came, over what was expected; 1 if nothing did."""
        return self._came / self._expected if self._expected else 1.0

    @property
    def shift(self) -> float:
        """Of probabilities: the log-odds of what came, less those of what was expected."""
        return _log_odds(self._came) - _log_odds(self._expected) if self._events else 0.0


class Pictures:
    """What the camera's pictures are like: how often exits answer them, and how many bytes they take."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._expected_bytes = {(row.cut, row.codec): row.bytes_mean for row in bundle.payloads}
        self._bytes: dict[str, Learned] = {}
        self._answers = of_those_that_come(Exits(bundle).share)  # the bundle's rows come first
        self._exits = {e.cut: Learned() for e in bundle.exits[:-1]}

    def coded(self, split: int, setting: CodecSetting, size: int) -> None:
        """A frame, or its activation, was coded in `size` bytes."""
        expected = self._expected_bytes.get((split, str(setting)))
        if expected:
            self._bytes.setdefault(setting.codec, Learned()).add(expected, size)

    def went(self, threshold: float | None, start: int, stop: int, answered_at: int | None) -> None:
        """See `Guide.went`. threshold: of the plan that the frame was under."""
        row = self._bundle.threshold_row(threshold)
        if row is None:  # no exit may answer
            return
        for (cut, learned), expected in zip(self._exits.items(), self._answers[row].tolist(), strict=False):
            if start < cut <= stop and CERTAIN < expected < 1 - CERTAIN:
                learned.add(expected, cut == answered_at)
            if cut == answered_at:
                return

    @property
    def payload_factors(self) -> dict[str, float]:
        """By codec: bytes over those of the tables. What is learned of one quality holds for the others."""
        return {codec: learned.ratio for codec, learned in self._bytes.items()}

    @property
    def shifts(self) -> tuple[float, ...]:
        """For each early exit, as of `shifted`, for all thresholds alike; 0 for an exit that no plan evaluated."""
        return tuple(learned.shift for learned in self._exits.values())


def _log_odds(p: float) -> float:
    p = min(max(p, CERTAIN), 1 - CERTAIN)
    return math.log(p / (1 - p))
