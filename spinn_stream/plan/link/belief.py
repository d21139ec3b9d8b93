"""How fast and how far the server is, as a probability for each capacity and round trip, learned from the traffic.

A histogram filter (Thrun, Burgard, Fox, Probabilistic Robotics, 2005, section 4.1) over capacity upwards and round
trip of an empty message, both on logarithmic grids. A request of n bytes under hypothesis (c, r) comes back after

    max(r, q) + 8 n / c + the server's own time

where q is what was left of the round trip of the request before it, when this one was sent. Requests wait for each
other, so a burst is no evidence against the link, and time in our own buffers counts as waiting. Small requests take no
time except at the lowest capacities, so they say little about the capacity. A ping is a request of no bytes. Behind a
request under way, it tells a slow link (the ping waits until those bytes have left) from a distant server (it does not
wait). A request without an answer is evidence, too: it takes at least the time that has passed.

Between two pieces of evidence the belief spreads: capacities drift, and sometimes jump to any value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

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

DRIFT_UP, DRIFT_RTT = 0.1, 0.05
"""How far the logarithms wander in a second (standard deviation)."""

MOST_DRIFT_S = 4.0
"""Longest drift without evidence: after that, jumps matter more."""

JUMPS = 0.05
"""Probability of a jump in a second: one every 20 s, as on a walk through a house or on a train into a tunnel."""

JUMPS_UP, JUMPS_RTT = 0.6, 0.2
"""Shares of the jumps that change the capacity alone, and the round trip alone; the rest change both."""

FIRST_WAVER, LEAST_WAVER, MOST_WAVER = 0.15, 0.05, 0.3
"""Standard deviation of a transfer's time, as a share of it; learned between these. With a fixed value and a steadier
link, a fast and distant server would always explain round trips of one size better: they are all the same then."""

LEAST_JITTER_MS, MOST_JITTER_MS = 1.5, 50.0
"""Standard deviation of the delays by event loops, timers and radios; learned between these."""

SPREAD_STEP = 0.05
"""How fast both are learned: each round trip moves them by this share, so that they follow a median."""

TRANSFER_JITTERS = 3.0
"""Only transfers that take longer than the jitter by this factor show how much transfer times vary."""

RTT_WAVER = 0.03
"""Standard deviation of the round trip itself, as a share of it, besides the jitter."""

ODD, ODD_MS = 0.05, 500.0
"""Share of outliers among round trips, and the width of their range. No round trip takes less than half of the link's
own: a ping of 40 ms proves that the server is not 80 ms away."""

SURPRISE = 3.0
"""A round trip is a surprise if it is off by this many standard deviations."""

MOST_AHEAD = 3
"""Largest number of requests ahead of a ping for it to count; behind more it only shows that they have arrived."""

MOST_IN_FLIGHT = 1000
"""Requests that are remembered at most."""


@dataclass
class _Request:
    at: float
    size: int
    alone: bool  # nothing else was under way when it was sent
    arrived: bool = False  # known from something later that came through


class LinkBelief:
    """Collects what happens on one connection after the other; it is told of every request.

    Args:
        now: in seconds, here as everywhere; never falls.
        surprised: called after an unexpected round trip. Only a ping can tell whether the link is slower now or the
            server farther, and the next ping may be half a second away.
    """

    def __init__(self, now: float, surprised: Callable[[], None] = lambda: None) -> None:
        self._surprised = surprised
        self._prior_up, self._prior_rtt = _lognormal(UP_MBPS, *TYPICAL_MBPS), _lognormal(RTT_MS, *TYPICAL_RTT_MS)
        self._prior: Grid = self._prior_up[:, None] * self._prior_rtt[None, :]
        self._belief: Grid = self._prior.copy()
        self._time = now
        self._sent: dict[int, _Request] = {}  # oldest first
        self._last: tuple[float, float] | None = None  # the request that arrived last: when sent, its round trip in s
        self._server_ms = 0.0
        self._jitter_ms = LEAST_JITTER_MS
        self._waver = FIRST_WAVER
        self.heard = now  # when something last came back

    @property
    def in_flight(self) -> int:
        """Requests without an answer."""
        return len(self._sent)

    def sent(self, request: int, size: int, now: float) -> None:
        """A request's bytes are given to the connection."""
        if len(self._sent) < MOST_IN_FLIGHT:
            self._sent[request] = _Request(now, size, not self._sent)

    def answered(self, request: int, now: float, *, arrived_ms: float, left_ms: float) -> None:
        """Its result came; the server's stamps are on the server's clock."""
        sent = self._sent.pop(request, None)
        if sent is None:
            return
        server_ms = max(0.0, left_ms - arrived_ms)
        self._server_ms += 0.1 * (server_ms - self._server_ms)
        round_trip = max(0.0, now - sent.at - server_ms / 1000)
        self._observe(sent, round_trip * 1000, now)
        if self._last is None or sent.at + round_trip >= sum(self._last):
            self._last = sent.at, round_trip

    def refused(self, request: int, now: float) -> None:
        """It arrived, but without the server's times. So it is no evidence itself; it only orders the requests behind
        it."""
        sent = self._sent.pop(request, None)
        if sent is not None:
            self._last = sent.at, now - sent.at
            self.heard = now

    def ponged(self, rtt_ms: float, now: float) -> None:
        """A ping came back. All that was sent before it has arrived, since one connection keeps the order."""
        began = now - rtt_ms / 1000
        before = [r for r in self._sent.values() if r.at <= began]
        ahead = [r for r in before if not r.arrived]
        if len(ahead) <= MOST_AHEAD:
            alone = not before and (self._last is None or sum(self._last) <= began)
            self._observe(_Request(began, 0, alone), rtt_ms, now, ahead)
        for request in ahead:
            request.arrived = True
        self.heard = now

    def disconnected(self) -> None:
        """The requests in flight are lost, and the next connection may use another network."""
        self._sent.clear()
        self._last = None
        self._belief = self._mixed(0.5)

    def state(self, now: float, up: float = UP_QUANTILE, rtt: float = RTT_QUANTILE) -> LinkState:
        """The link to plan with, or other quantiles of the capacity and of the round trip, each alone.

        Requests under way without an answer count as evidence.
        """
        belief = self._spread_to(now)
        silence = self._silence(now)
        if silence is not None:
            belief = belief * silence
        capacity = min(_quantile(UP_MBPS, belief.sum(1), up), self._bound_of_silence(now))
        return LinkState(capacity, _quantile(RTT_MS, belief.sum(0), rtt), jitter_ms=self._jitter_ms)

    def _expected_ms(self, request: _Request, ahead: Sequence[_Request] = ()) -> Grid | None:
        """(capacities, round trips); None: it waited for a request of which nothing is known.

        Args:
            ahead: requests sent before it that had not arrived when it was sent.
        """
        first = ahead[0] if ahead else request
        left_ms = 0.0  # of the last one's round trip, when the first was sent
        if not first.alone:
            if self._last is None or self._last[0] > first.at:  # the server answered out of turn
                return None
            left_ms = (sum(self._last) - first.at) * 1000
        expected = np.maximum(RTT_MS, np.float32(left_ms))[None, :] + _transfer_ms(first.size)[:, None]
        for before, behind in pairwise((*ahead, request)):
            since_ms = np.float32((behind.at - before.at) * 1000)
            expected = np.maximum(RTT_MS[None, :], expected - since_ms) + _transfer_ms(behind.size)[:, None]
        return np.asarray(expected)

    def _deviations(self, expected: Grid, size: int, ahead_size: int = 0) -> Grid:
        """(capacities, round trips): standard deviation of a round trip, ms. It includes the grid's own coarseness.

        Args:
            expected: as from `_expected_ms`. size, ahead_size: bytes of the request, and of those that it waits for.
        """
        share = math.hypot(self._waver, _step(UP_MBPS) / math.sqrt(12))
        transfer = _transfer_ms(size)[:, None]
        way = math.hypot(RTT_WAVER, _step(RTT_MS) / math.sqrt(12)) * RTT_MS
        variance = (share * transfer) ** 2 + (way * way + np.float32(self._jitter_ms**2))[None, :]
        if ahead_size:  # where it waits for none of them, they do not matter
            waits = expected - transfer - RTT_MS[None, :]
            variance = variance + np.minimum(waits, share * _transfer_ms(ahead_size)[:, None]) ** 2
        return np.asarray(np.sqrt(variance))

    def _observe(self, request: _Request, ms: float, now: float, ahead: Sequence[_Request] = ()) -> None:
        self.heard = now
        expected = self._expected_ms(request, ahead)
        if expected is None:
            return
        self._belief = self._spread_to(now)
        self._time = now
        deviation = self._deviations(expected, request.size, sum(r.size for r in ahead))
        z = (np.float32(ms) - expected) / deviation
        t = 1 + z * z * np.float32(1 / 3)  # Student's, three degrees of freedom: outliers are no surprise
        likelihood = (1 - ODD) * 0.3676 / (t * t * deviation) + ODD / ODD_MS * (expected < 2 * ms)
        if request.size and abs(ms - self._mean(expected)) > SURPRISE * self._mean(deviation):
            self._surprised()
        weights = self._belief * likelihood
        self._belief = weights / weights.sum()
        off = abs(ms - self._mean(expected))
        transfer_ms = float((self._belief.sum(1) * _transfer_ms(request.size)).sum())
        if transfer_ms > TRANSFER_JITTERS * self._jitter_ms:
            self._waver = _followed(self._waver, off / transfer_ms, LEAST_WAVER, MOST_WAVER)
        self._jitter_ms = _followed(self._jitter_ms, off, LEAST_JITTER_MS, MOST_JITTER_MS)

    def _mean(self, values: Grid) -> float:
        return float(np.vdot(self._belief, values))

    def _waiting(self) -> _Request | None:
        """The oldest request of which nothing is known since it was sent."""
        return next((r for r in self._sent.values() if not r.arrived), None)

    def _bound_of_silence(self, now: float) -> float:
        """Upper bound of the capacity, Mb/s, if a request has been under way for longer than any outlier takes.

        While answers come to earlier requests, it waits for its turn.
        """
        waiting = self._waiting()
        elapsed_ms = 0.0
        if waiting is not None:
            turn = waiting.at if self._last is None else max(waiting.at, sum(self._last))
            elapsed_ms = (now - turn) * 1000 - 2 * self._server_ms
        if waiting is None or elapsed_ms <= ODD_MS:
            return math.inf
        return max(float(UP_MBPS[0]), waiting.size * 8e-3 / elapsed_ms)

    def _silence(self, now: float) -> Grid | None:
        """Likelihood that the oldest request has no answer by now; None: none is under way."""
        waiting = self._waiting()
        if waiting is None:
            return None
        expected = self._expected_ms(waiting)
        elapsed_ms = (now - waiting.at) * 1000 - 2 * self._server_ms
        if expected is None or elapsed_ms <= 0:
            return None
        z = (np.float32(elapsed_ms) - expected) / (self._deviations(expected, waiting.size) * np.float32(math.sqrt(3)))
        later = 0.5 - (z / (1 + z * z) + np.arctan(z)) / np.float32(math.pi)
        return np.asarray((1 - ODD) * later + ODD * max(0.001, 1 - elapsed_ms / ODD_MS))

    def _spread_to(self, now: float) -> Grid:
        """The belief, with the doubt that time has brought since the last evidence."""
        seconds = now - self._time
        if seconds <= 0:
            return self._belief
        belief = self._mixed(1 - math.exp(-JUMPS * seconds))
        seconds = min(seconds, MOST_DRIFT_S)
        up, rtt = (
            seconds * drift * drift / (2 * step * step)
            for drift, step in ((DRIFT_UP, _step(UP_MBPS)), (DRIFT_RTT, _step(RTT_MS)))
        )
        for _ in range(max(1, math.ceil(max(up, rtt) / 0.25))):
            belief = _blurred(_blurred(belief, min(up, 0.25)).T, min(rtt, 0.25)).T
            up, rtt = max(0.0, up - 0.25), max(0.0, rtt - 0.25)
        return belief

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


def _followed(spread: float, off: float, least: float, most: float) -> float:
    """A standard deviation, updated by one more deviation, so that two thirds of it are their median."""
    return min(max(spread * math.exp(SPREAD_STEP if off > spread / 1.5 else -SPREAD_STEP), least), most)


def _transfer_ms(size: int) -> Grid:
    """(capacities,)"""
    return np.asarray(size * 8e-3 / UP_MBPS)


def _step(grid: Grid) -> float:
    return float(np.log(grid[1] / grid[0]))


def _blurred(belief: Grid, share: float) -> Grid:
    """Each cell gives `share` of its weight to each neighbour along the first axis; the ends lose nothing."""
    if share <= 0:
        return belief
    blurred = belief * np.float32(1 - 2 * share)
    blurred[1:] += np.float32(share) * belief[:-1]
    blurred[:-1] += np.float32(share) * belief[1:]
    blurred[0] += np.float32(share) * belief[0]
    blurred[-1] += np.float32(share) * belief[-1]
    return blurred


def _quantile(grid: Grid, weights: Grid, level: float) -> float:
    """Between the middles of cells, linear in the logarithm."""
    total = np.cumsum(weights, dtype=np.float64)
    places = (total - 0.5 * weights) / total[-1]
    return float(np.exp(np.interp(level, places, np.log(grid))))
