"""How many bytes may be under way: what the link delivers in its least round trip, and one request more.

As BBR does for TCP (Cardwell et al., BBR: Congestion-Based Congestion Control, ACM Queue 14, 2016): with less the link
or the server would be idle at times, with more requests only wait for each other. The server's work is part of the
round trip, so that a server that is behind is no more buried under requests than a link. At the start twice as much may
be under way, until the rate no longer nearly doubles: what the path holds is not known yet.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

MEMORY_S = 10.0
"""For which the largest rate and the least round trip are remembered; paths change. Once a round trip is older, nothing
is sent until one request is under way alone, as BBR does: behind others, round trips only tell of the queue."""

GROWTH = 1.75
"""The path has room if the rate is that many times the one of the round before: it doubles if all that was sent more
came through at once. BBR's 1.25 is too little for some large requests: a path that holds 1.4 of them reaches that."""

FULL = 2
"""Rounds without growth, one after the other, that end the start. One says nothing: what more is sent in a round shows
in the rate of the next."""


@dataclass(frozen=True)
class _Sent:
    at: float
    size: int
    alone: bool  # nothing else was under way
    delivered: int  # bytes acknowledged when it was sent ...
    delivered_at: float  # ... and when the last of them were


class Window:
    """Of one connection. Times in seconds, sizes in bytes."""

    def __init__(self) -> None:
        self._sent: dict[int, _Sent] = {}
        self._under_way = 0  # bytes
        self._delivered = 0
        self._delivered_at = 0.0
        self._rates: deque[tuple[float, float]] = deque()  # (when, bytes a second), falling
        self._trips: deque[tuple[float, float]] = deque()  # (when, round trip), rising
        self._flat_rounds = 0  # one after the other, without growth
        self._round_end = 0  # a round ends with the first answer to a request that was sent after these delivered bytes
        self._round_rate = 0.0  # the rate that was known when it began

    def open(self, now: float) -> bool:
        """Whether one more request may be sent: what is under way, to the nearest request, is what the path holds."""
        rate, trip = _best(self._rates, now), _best(self._trips, now)
        if not self._sent or rate is None or trip is None:
            return not self._sent
        half = next(reversed(self._sent.values())).size / 2
        starting = self._flat_rounds < FULL
        return self._under_way - half <= rate * trip or (starting and self._under_way + half <= 2 * rate * trip)

    def sent(self, request: int, size: int, now: float) -> None:
        """It is given to the link."""
        if not self._sent:
            self._delivered_at = now  # the link was idle: its time does not count
        self._sent[request] = _Sent(now, size, not self._sent, self._delivered, self._delivered_at)
        self._under_way += size

    def settled(self, request: int, now: float, *, answered: bool) -> None:
        """It is acknowledged. answered: by a result; a refusal says nothing of the server's work."""
        sent = self._sent.pop(request, None)
        if sent is None:
            return
        self._under_way -= sent.size
        self._delivered += sent.size
        self._delivered_at = now
        if answered and now > sent.delivered_at:
            rate = (self._delivered - sent.delivered) / (now - sent.delivered_at)
            if not self._rates:  # the first, or all were forgotten
                self._flat_rounds, self._round_rate = 0, 0.0
            while self._rates and self._rates[-1][1] <= rate:
                self._rates.pop()
            self._rates.append((now, rate))
            if sent.delivered >= self._round_end:
                best = self._rates[0][1]
                self._flat_rounds = 0 if best >= GROWTH * self._round_rate else self._flat_rounds + 1
                self._round_end, self._round_rate = self._delivered, best
        if answered and sent.alone:
            trip = now - sent.at
            while self._trips and self._trips[-1][1] >= trip:
                self._trips.pop()
            self._trips.append((now, trip))


def _best(values: deque[tuple[float, float]], now: float) -> float | None:
    while values and now - values[0][0] > MEMORY_S:
        values.popleft()
    return values[0][1] if values else None
