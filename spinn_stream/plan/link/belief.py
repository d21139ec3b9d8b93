"""How fast and how far the server is believed to be, with the doubt there is, from the traffic itself.

A histogram filter (Thrun, Burgard, Fox, Probabilistic Robotics, 2005, section 4.1) over capacity upwards and round
trip of an empty message, both on logarithmic grids. A request of n bytes under hypothesis (c, r) comes back after

    max(r, q) + 8 n / c + the server's own time

with q what was still left of the round trip of the request before it when it was sent: requests wait for each other,
so a burst is no evidence against the link, and what waits in our own buffers is counted as waiting. Small requests
take no time under any capacity but the lowest, so they say next to nothing of it. A ping is a request of no bytes; one
behind a request under way tells a slow link (it waits until those bytes have left) from a far one (it does not). A
request that nobody answers is evidence, too: it takes at least as long as it has taken so far.

Between two pieces of evidence the belief spreads: capacities drift, and now and then they jump to anything.
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
"""Plans are judged there: by a capacity that is exceeded, and a round trip that is kept, with three chances in four."""

TYPICAL_MBPS, TYPICAL_RTT_MS = (8.0, 1.6), (40.0, 1.2)
"""Median and spread (of the natural logarithm) before anything is known, and after a jump: 3G to a local network."""

DRIFT_UP, DRIFT_RTT = 0.1, 0.05
"""How far the logarithms wander in a second (standard deviation)."""

MOST_DRIFT_S = 4.0
"""Of one silence: after that, jumps are what there is to fear."""

JUMPS = 0.05
"""A second: a step every twenty, as when people walk through a house or a train enters a tunnel."""

JUMPS_UP, JUMPS_RTT = 0.6, 0.2
"""Of the jumps: the capacity alone, the round trip alone; the rest changes both."""

FIRST_WAVER, LEAST_WAVER, MOST_WAVER = 0.15, 0.05, 0.3
"""Standard deviation of a transfer's time, as a share of it; learned between these. Were it fixed and a link steadier,
a far link that is fast would always explain round trips of one size better, as it expects them to be all the same."""

LEAST_JITTER_MS, MOST_JITTER_MS = 1.5, 50.0
"""How late event loops, timers and radios are; the belief learns it between these."""

SPREAD_STEP = 0.05
"""How fast: jitter and wavering follow the median of what round trips are off by, up or down by this share a time."""

TRANSFER_JITTERS = 3.0
"""A transfer that takes this many times the jitter tells how much transfers waver."""

RTT_WAVER = 0.03
"""Standard deviation of the way's time, as a share of it, besides the jitter."""

ODD, ODD_MS = 0.05, 500.0
"""Share of the round trips that have nothing to do with the link as it is, and over how wide a range they lie. None
takes half of what the link does, or less: however busy that is, a ping of 40 ms tells that no server is 80 ms away."""

SURPRISE = 3.0
"""A round trip is a surprise if it is off by this many standard deviations."""

MOST_AHEAD = 3
"""Requests that a ping waits for; behind more of them it says little besides that they have come through."""

MOST_IN_FLIGHT = 1000
"""Requests that are remembered."""


@dataclass
class _Request:
    at: float
    size: int
    alone: bool  # nothing else was under way when it was sent
    arrived: bool = False  # known from something later that came through


@dataclass(frozen=True)
class LinkBounds:
    """A quantile of each, whatever the other is. jitter_ms: standard deviation of round trips besides."""

    up_mbps: float
    rtt_ms: float
    jitter_ms: float


class LinkBelief:
    """Collects what happens on one connection after the other; events as for `LinkEstimate`.

    Args:
        now: in seconds, here as everywhere; never falls.
        surprised: called when a request's round trip was none that was expected. Whether the link is slower now or
            farther, only a ping can tell, and the next one may be half a second away.
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
        """It came through, but nobody says how long the server had it: only what is behind it is told by it."""
        sent = self._sent.pop(request, None)
        if sent is not None:
            self._last = sent.at, now - sent.at
            self.heard = now

    def ponged(self, rtt_ms: float, now: float) -> None:
        """A ping came back. What was sent before it has arrived, as all go one way."""
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
        """What was in flight is lost, and the next connection may be another network."""
        self._sent.clear()
        self._last = None
        self._belief = self._mixed(0.5)

    def bounds(self, now: float, up: float = UP_QUANTILE, rtt: float = RTT_QUANTILE) -> LinkBounds:
        """Quantiles of what is believed at `now`, what is under way and not answered included."""
        belief = self._spread_to(now)
        silence = self._silence(now)
        if silence is not None:
            belief = belief * silence
        capacity = min(_quantile(UP_MBPS, belief.sum(1), up), self._bound_of_silence(now))
        return LinkBounds(capacity, _quantile(RTT_MS, belief.sum(0), rtt), self._jitter_ms)

    def state(self, now: float) -> LinkState:
        """The link to plan with."""
        found = self.bounds(now)
        return LinkState(found.up_mbps, found.rtt_ms, jitter_ms=found.jitter_ms)

    def _expected_ms(self, request: _Request, ahead: Sequence[_Request] = ()) -> Grid | None:
        """(capacities, round trips), or None where it waited for something of which nothing is known.

        Args:
            ahead: sent before it, and not arrived by then; behind all that was answered.
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
        """(capacities, round trips): standard deviation of a round trip, ms; how coarse the grid is included.

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
        """What is left of the capacity, Mb/s, once a request has been under way for longer than anything odd takes.

        While answers come to what was sent before it, it waits for its turn.
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
        """How likely it is that the oldest request has not been answered by now; None: none is under way."""
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
    """A standard deviation, after one more deviation was seen: two thirds of it is their median."""
    return min(max(spread * math.exp(SPREAD_STEP if off > spread / 1.5 else -SPREAD_STEP), least), most)


def _transfer_ms(size: int) -> Grid:
    """(capacities,)"""
    return np.asarray(size * 8e-3 / UP_MBPS)


def _step(grid: Grid) -> float:
    return float(np.log(grid[1] / grid[0]))


def _blurred(belief: Grid, share: float) -> Grid:
    """`share` of each cell's weight goes to either neighbour along the first axis; nothing leaves at the ends."""
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
