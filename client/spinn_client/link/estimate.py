"""What requests and answers show of the link: its round trip, and its capacity upwards, for records and pictures."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

BASE_WINDOW_S = 10.0
"""The shortest round trip of this window counts as one without queues (BBR's RTprop, Cardwell et al. 2016)."""

LEAST_TRANSFER_MS = 10.0
"""If a request takes longer than the shortest round trip by less than this, it says nothing about the capacity: event
loops and timers are late by some milliseconds."""

LEAST_BUSY_MS = 20.0
"""The capacity is known only after the link was full for this time."""


@dataclass(frozen=True)
class LinkReading:
    """One stretch of time. None: not seen.

    up_mbps: bytes of messages, 10^6 bits a second. full: whether the link was full. If so, up_mbps is its capacity;
    otherwise it is the traffic, a lower bound of the capacity.
    """

    up_mbps: float | None
    full: bool
    rtt_ms: float | None


@dataclass(frozen=True)
class _Sent:
    at: float
    size: int
    total: int  # bytes sent up to its end


class LinkEstimate:
    """Collects what happens on one connection after the other. `now` is in seconds and never falls.

    A link is full while a request waits for the one before it. Its bytes then took the time between the two arrivals,
    on the server's clock. The bytes of a request that is alone took its round trip less the shortest one. The server's
    own time is in neither. Downwards nothing is learned, since answers are small.
    """

    def __init__(self, now: float) -> None:
        self._from = now
        self._sent: dict[int, _Sent] = {}  # in flight, oldest first
        self._total = 0
        self._arrived: tuple[float, int] | None = None  # the last request's arrival at the server in ms, its total
        self._round_trips: deque[tuple[float, float]] = deque()  # (when, ms), rising in both: a window's minimum
        self._begin(now)

    def sent(self, request: int, size: int, now: float) -> None:
        """A request's bytes are given to the connection."""
        self._total += size
        self._sent[request] = _Sent(now, size, self._total)

    def answered(self, request: int, now: float, *, arrived_ms: float, left_ms: float) -> None:
        """Its result came; the server's stamps are on the server's clock."""
        sent = self._sent.pop(request, None)
        if sent is None:
            return
        self._acknowledged += sent.size
        rtt_ms = max(0.0, (now - sent.at) * 1000 - (left_ms - arrived_ms))
        self._round_trip(rtt_ms, now)
        took_ms = rtt_ms - self._round_trips[0][1]
        before = self._arrived
        if before is not None and (arrived_ms < before[0] or sent.total <= before[1]):
            return  # it was answered out of turn
        self._arrived = arrived_ms, sent.total
        if before is not None and took_ms >= arrived_ms - before[0]:
            self._busy_ms += arrived_ms - before[0]
            self._busy_bytes += sent.total - before[1]
        elif took_ms >= LEAST_TRANSFER_MS:
            self._busy_ms += took_ms
            self._busy_bytes += sent.size

    def refused(self, request: int, now: float) -> None:
        """It was acknowledged without stamps."""
        sent = self._sent.pop(request, None)
        if sent is not None:
            self._acknowledged += sent.size

    def ponged(self, rtt_ms: float, now: float) -> None:
        """A ping came back; it has hardly any bytes."""
        self._ponged = True
        self._round_trip(rtt_ms, now)

    def disconnected(self) -> None:
        """The requests in flight are lost; the next connection has another server clock."""
        self._sent.clear()
        self._arrived = None

    def reading(self, now: float) -> LinkReading:
        """What was seen since the last call."""
        seconds = now - self._from
        up_mbps, full = None, False
        if self._busy_ms >= LEAST_BUSY_MS:
            up_mbps, full = self._busy_bytes * 8e-3 / self._busy_ms, True
        elif self._acknowledged and seconds > 0:
            up_mbps = self._acknowledged * 8e-6 / seconds
        elif self._waiting_since(self._from):
            up_mbps, full = 0.0, True
        self._forget(now)
        rtt_ms = self._shortest
        if full and self._round_trips:
            rtt_ms = self._round_trips[0][1]  # every round trip of a full link has its queue in it
        self._begin(now)
        return LinkReading(up_mbps, full, rtt_ms)

    def _begin(self, now: float) -> None:
        self._from = now
        self._busy_ms = 0.0
        self._busy_bytes = 0
        self._acknowledged = 0
        self._ponged = False
        self._shortest: float | None = None

    def _waiting_since(self, start: float) -> bool:
        """Whether requests have waited since before `start`, for more than a round trip, without anything coming
        back."""
        oldest = next(iter(self._sent.values()), None)
        base_ms = self._round_trips[0][1] if self._round_trips else 0.0
        return oldest is not None and oldest.at + base_ms / 1000 < start and not self._ponged

    def _round_trip(self, ms: float, now: float) -> None:
        self._shortest = ms if self._shortest is None else min(self._shortest, ms)
        while self._round_trips and self._round_trips[-1][1] >= ms:
            self._round_trips.pop()
        self._round_trips.append((now, ms))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._round_trips and self._round_trips[0][0] < now - BASE_WINDOW_S:
            self._round_trips.popleft()
