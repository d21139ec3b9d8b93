"""How long the server's answers take, and whether it can be relied on to answer in time.

As TCP does for its acknowledgements (RFC 6298): a mean, and a margin of some mean deviations from it. So a
server is relied on if its answers are early enough, or if they are steady.
"""

from __future__ import annotations

import math

MEAN_STEP, SPREAD_STEP, MARGIN = 1 / 8, 1 / 4, 3.0
"""The shares of a new difference in the mean and in the mean deviation are RFC 6298's. Its factor on the latter is 4,
for time-outs that are nearly never wrong; 3 is enough for one wrong answer in a hundred (normally distributed, 2.9)."""

MISSED = 2.0
"""An answer that did not come in time counts as one that took this many times as long as it was allowed to take."""

FRESH_S = 1.0
"""What is older says nothing any more. So a server that did not answer in time is asked again this much later."""

RISK_S = 5.0
"""A frame that the server alone could answer is risked if nothing is known for this long, to learn of the server."""


class Reliance:
    """Told how each request ended. Times in seconds; how long one took is from giving it to the link to its answer."""

    def __init__(self) -> None:
        self._mean = self._spread = 0.0
        self._at = -math.inf  # when something was learned last

    def answered(self, took_s: float, now: float) -> None:
        """The server's answer came."""
        if now - self._at > FRESH_S:
            self._mean, self._spread = took_s, took_s / 2
        else:
            self._spread += SPREAD_STEP * (abs(took_s - self._mean) - self._spread)
            self._mean += MEAN_STEP * (took_s - self._mean)
        self._at = now

    def missed(self, allowed_s: float, now: float) -> None:
        """It did not come within `allowed_s`, or will not come."""
        self.answered(MISSED * allowed_s, now)

    def usual(self, now: float) -> float:
        """How long an answer takes on average; infinite: nothing is known."""
        return self._mean if now - self._at <= FRESH_S else math.inf

    def longest(self, now: float) -> float:
        """How long one takes at most; infinite: nothing is known."""
        return self.usual(now) + MARGIN * self._spread

    def perhaps(self, within_s: float, now: float) -> bool:
        """Whether the next answer may take no longer than that: on average they do not, or nothing is known."""
        return now - self._at > FRESH_S or self._mean <= within_s

    def worth_a_risk(self, within_s: float, now: float) -> bool:
        """Whether to send a frame that nobody else can answer, although the server cannot be relied on."""
        return now - self._at > RISK_S or self.usual(now) <= within_s
