"""How fast and how far the server is, as a probability for each capacity and round trip, learned from the traffic.

A histogram filter (Thrun, Burgard, Fox, Probabilistic Robotics, 2005, section 4.1) over capacity upwards and round
trip of an empty message, both on logarithmic grids. A request of n bytes under hypothesis (c, r) comes back after

    max(r, q) + 8 n / c + the server's own time

where q is what was left of the round trip of the request before it, when this one was sent. A ping is a request of no
bytes. A request without an answer takes at least the time that has passed. Between two pieces of evidence, capacity and
round trip may jump to any value. What follows from that: docs/scheduler/change.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spinn_stream.plan.predict.predictor import LinkState

Grid = npt.NDArray[np.float32]

UP_MBPS = np.geomspace(0.05, 500.0, 80).astype(np.float32)
RTT_MS = np.geomspace(0.5, 3000.0, 144).astype(np.float32)

UP_QUANTILE, RTT_QUANTILE = 0.25, 0.75
"""Levels to plan with: the link exceeds this capacity, and keeps this round trip, with a chance of 3 in 4."""

TYPICAL_MBPS, TYPICAL_RTT_MS = (8.0, 1.6), (40.0, 1.2)
"""Median and spread (of the natural logarithm) before anything is known, and after a jump: 3G to a local network."""

JUMPS, JUMPS_UP, JUMPS_RTT = 0.05, 0.6, 0.2
"""Jumps in a second (one every 20 s, as on a walk through a house or on a train into a tunnel), and the shares of them
that change the capacity alone, and the round trip alone; the rest change both."""

WAVER, RTT_WAVER = 0.15, 0.035
"""Standard deviations of a transfer's time and of the round trip, as shares of them; the grid's steps included."""

LEAST_JITTER_MS, MOST_JITTER_MS, JITTER_STEP = 1.5, 50.0, 0.05
"""Standard deviation of the delays by event loops, timers and radios; learned between these. Each round trip moves it
by this share, so that it follows a median."""

ODD, ODD_MS = 0.05, 500.0
"""Share of outliers among round trips, and the width of their range. No round trip takes less than half of the link's
own: a ping of 40 ms proves that the server is not 80 ms away."""

SURPRISE = 3.0
"""A round trip is a surprise if it is off by this many standard deviations."""


class _Request(NamedTuple):
    """at: when it was sent, s. size: bytes."""

    at: float
    size: int


class LinkBelief:
    """Collects what happens on one connection after the other; it is told of every request.

    Args:
        now: in seconds, here as everywhere; never falls.
        surprised: called after an unexpected round trip, as only a ping can tell a slower link from a farther server.
    """

    def __init__(self, now: float, surprised: Callable[[], None] = lambda: None) -> None:
        self._surprised = surprised
        self._prior_up, self._prior_rtt = _lognormal(UP_MBPS, *TYPICAL_MBPS), _lognormal(RTT_MS, *TYPICAL_RTT_MS)
        self._prior: Grid = self._prior_up[:, None] * self._prior_rtt[None, :]
        self._belief: Grid = self._prior.copy()
        self._time = now
        self._sent: dict[int, _Request | None] = {}  # without an answer, oldest first; None: known to have arrived
        self._free = -math.inf  # when the last thing that is known to have arrived came back, the server's time off
        self._jitter_ms = LEAST_JITTER_MS
        self._server_s = 0.0  # its time for the last answer

    @property
    def in_flight(self) -> int:
        """Requests without an answer."""
        return len(self._sent)

    def sent(self, request: int, size: int, now: float) -> None:
        """A request's bytes are given to the connection."""
        self._sent[request] = _Request(now, size)

    def answered(self, request: int, now: float, *, arrived_ms: float, left_ms: float) -> None:
        """Its result came; the server's stamps are on the server's clock."""
        sent = self._sent.get(request)
        if sent is not None:
            self._server_s = max(0.0, left_ms - arrived_ms) / 1000
            self._observe(self._arrived(sent), max(sent.at, now - self._server_s), now)
        self._sent.pop(request, None)

    def refused(self, request: int, now: float) -> None:
        """It arrived, but without the server's times. So it is no evidence itself; those behind it waited for it."""
        sent = self._sent.get(request)
        if sent is not None:
            self._arrived(sent)
            self._free = now
        self._sent.pop(request, None)

    def ponged(self, rtt_ms: float, now: float) -> None:
        """A ping came back. All that was sent before it has arrived, since one connection keeps the order."""
        ping = _Request(now - rtt_ms / 1000, 0)
        self._observe([*self._arrived(ping), ping], now, now)

    def disconnected(self) -> None:
        """The requests in flight are lost, and the next connection may use another network."""
        self._sent.clear()
        self._free = -math.inf
        self._belief = self._mixed(0.5)

    def state(self, now: float, up: float = UP_QUANTILE, rtt: float = RTT_QUANTILE) -> LinkState:
        """The link to plan with, or other quantiles of the capacity and of the round trip, each alone."""
        belief = self._at(now) * self._silence(now)
        capacity, round_trip = _quantile(UP_MBPS, belief.sum(1), up), _quantile(RTT_MS, belief.sum(0), rtt)
        return LinkState(capacity, round_trip, jitter_ms=self._jitter_ms)

    def _arrived(self, last: _Request) -> list[_Request]:
        """Requests that have arrived, as is news now that `last` came through: it, or those sent before it."""
        found = []
        for number, request in [(n, r) for n, r in self._sent.items() if r is not None and r.at <= last.at]:
            found.append(request)
            self._sent[number] = None
            if request is last:
                break
        return found

    def _expected_ms(self, requests: Sequence[_Request]) -> tuple[Grid, Grid]:
        """Mean and standard deviation of the last one's round trip, (capacities, round trips) each.

        Args:
            requests: it, and before it those of which nothing was known when it came back.
        """
        at = requests[-1].at
        done: Grid = np.full(1, (self._free - at) * 1000, np.float32)  # ms, from when the last one was sent
        for request in requests:
            done = np.maximum(RTT_MS + np.float32((request.at - at) * 1000), done) + _transfer_ms(request.size)
        waver = WAVER * np.minimum(done - RTT_MS, _transfer_ms(sum(r.size for r in requests)))
        return done, np.sqrt(waver**2 + (RTT_WAVER * RTT_MS) ** 2 + np.float32(self._jitter_ms**2))

    def _observe(self, requests: Sequence[_Request], through: float, now: float) -> None:
        """The last of these requests came back. through: when it would have without the server's time."""
        ms = (through - requests[-1].at) * 1000
        expected, deviation = self._expected_ms(requests)
        belief = self._at(now)
        if requests[-1].size and abs(ms - _mean(belief, expected)) > SURPRISE * _mean(belief, deviation):
            self._surprised()
        z = (np.float32(ms) - expected) / deviation
        t = 1 + z * z * np.float32(1 / 3)  # Student's, three degrees of freedom: outliers are no surprise
        weights = belief * ((1 - ODD) * 0.3676 / (t * t * deviation) + ODD / ODD_MS * (expected < 2 * ms))
        self._belief = weights / weights.sum()
        off = abs(ms - _mean(self._belief, expected))
        step = JITTER_STEP if off > self._jitter_ms / 1.5 else -JITTER_STEP  # two thirds of it are the median of `off`
        self._jitter_ms = min(max(self._jitter_ms * math.exp(step), LEAST_JITTER_MS), MOST_JITTER_MS)
        self._time = now
        self._free = max(self._free, through)

    def _silence(self, now: float) -> Grid | float:
        """Likelihood that the oldest request of which nothing is known has no answer by now."""
        waiting = next((request for request in self._sent.values() if request is not None), None)
        elapsed_ms = 0.0 if waiting is None else (now - waiting.at - 2 * self._server_s) * 1000
        if waiting is None or elapsed_ms <= 0:
            return 1.0
        expected, deviation = self._expected_ms([waiting])
        z = (np.float32(elapsed_ms) - expected) / (deviation * np.float32(math.sqrt(3)))
        later = 0.5 - (z / (1 + z * z) + np.arctan(z)) / np.float32(math.pi)
        return np.asarray((1 - ODD) * later + ODD * max(1e-9, 1 - elapsed_ms / ODD_MS))

    def _at(self, now: float) -> Grid:
        """The belief, with the doubt that time has brought since the last evidence."""
        return self._mixed(1 - math.exp(-JUMPS * (now - self._time)))

    def _mixed(self, share: float) -> Grid:
        """The belief after jumps of this probability."""
        belief = self._belief
        up, rtt = self._prior_up[:, None] * belief.sum(0)[None, :], belief.sum(1)[:, None] * self._prior_rtt[None, :]
        jumped = JUMPS_UP * up + JUMPS_RTT * rtt + (1 - JUMPS_UP - JUMPS_RTT) * self._prior
        return np.asarray((1 - share) * belief + share * jumped, np.float32)


def _lognormal(grid: Grid, median: float, spread: float) -> Grid:
    z = np.log(grid / np.float32(median)) / np.float32(spread)
    weights = np.exp(-z * z / 2) + 0.01
    return np.asarray(weights / weights.sum(), np.float32)


def _mean(belief: Grid, values: Grid) -> float:
    return float((belief * values).sum())  # not by BLAS, whose threads go on to spin after a product of this size


def _transfer_ms(size: int) -> Grid:
    """(capacities, 1)"""
    return np.asarray(size * 8e-3 / UP_MBPS)[:, None]


def _quantile(grid: Grid, weights: Grid, level: float) -> float:
    """Between the middles of cells, linear in the logarithm."""
    total = np.cumsum(weights, dtype=np.float64)
    places = (total - 0.5 * weights) / total[-1]
    return float(np.exp(np.interp(level, places, np.log(grid))))
