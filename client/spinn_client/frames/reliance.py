"""Whether the server can be relied on to answer in time: by how long its last answers took."""

from __future__ import annotations

import math
from collections import deque

RECENT = 3
"""Requests that are remembered. More make a client slow to trust a server again, and to send anything at all."""

FRESH_S = 1.0
"""What is older says nothing any more. So a server that did not answer in time is asked again this much later."""

RISK_S = 5.0
"""A frame that the server alone could answer is risked if nothing is known for this long, to learn of the server."""


class Reliance:
    """Told how each request ended. Times in seconds; how long one took is from giving it to the link to its answer."""

    def __init__(self) -> None:
        self._took: deque[tuple[float, float]] = deque(maxlen=RECENT)  # (when it ended, how long it took)

    def answered(self, took_s: float, now: float) -> None:
        """The server's answer came."""
        self._took.append((now, took_s))

    def missed(self, now: float) -> None:
        """It did not, or too late."""
        self._took.append((now, math.inf))

    def longest(self, now: float) -> float:
        """Of the last ones; infinite: one did not come in time, or nothing is known."""
        return max(self._recent(now), default=math.inf)

    def perhaps(self, within_s: float, now: float) -> bool:
        """Whether it may: one of the last ones did, or nothing is known."""
        return min(self._recent(now), default=0.0) <= within_s

    def worth_a_risk(self, now: float) -> bool:
        """Whether nothing was learned for RISK_S, or ever."""
        return not self._took or now - self._took[-1][0] > RISK_S

    def _recent(self, now: float) -> list[float]:
        return [took for at, took in self._took if now - at <= FRESH_S]
