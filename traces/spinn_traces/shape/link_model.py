"""When bytes that enter one direction of a link come out of it. Plain arithmetic; `now` is an argument.

    put ─► queue, bounded ─► capacity, one packet after the other ─► delay, jitter, stalls of losses ─► take

All connections share queue and capacity; each keeps the order of its bytes. docs/shaper.md has the details.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from spinn_stream.trace import BYTES_PER_MBIT, LIMITS, Trace

SEGMENT_BYTES = 1448
"""Payload of a TCP segment on Ethernet: 1500, less the headers of IPv4 and TCP and its timestamps."""

LEAST_QUEUE_BYTES = 10 * SEGMENT_BYTES
"""Even on a slow link, the first burst of a TCP sender fits (its initial window, RFC 6928)."""

PACKET_MS = 1.0
MAX_PACKET_BYTES = 45 * SEGMENT_BYTES
"""A packet is a segment, or what the capacity lets pass in PACKET_MS where that is more: fewer steps, as smooth."""

JITTER_STEP_S = 0.02
"""Time between two draws of the added delay. Drawn for each segment it would always be near its largest, since no
segment overtakes the one before."""

MOST_LATE_S = 0.1
"""If the caller comes later than this, capacity passes unused."""

LEAST_RTO_MS = 200.0
"""What Linux adds to the round trip, at least, before it sends again (TCP_RTO_MIN in its include/net/tcp.h)."""

DUPLICATES = 3
"""Segments behind a lost one that make its sender send it again after one round trip (RFC 5681, section 3.2)."""


@dataclass(frozen=True)
class Steady:
    """A constant value. None for a capacity: unlimited."""

    value: float | None

    def at(self, now: float) -> float | None:
        return self.value

    def bytes_between(self, start: float, end: float) -> float:
        """Bytes that a capacity lets pass."""
        return math.inf if self.value is None else self.value * BYTES_PER_MBIT * (end - start)

    def time_passed(self, size: float, start: float) -> float:
        """When `size` bytes have passed since `start`; infinity: never."""
        if self.value is None or size == 0:
            return start
        return start + size / (self.value * BYTES_PER_MBIT) if self.value > 0 else math.inf


@dataclass(frozen=True)
class Played:
    """A field of a trace. zero: when the trace began, on the clock of `now`."""

    trace: Trace
    field: str
    zero: float

    def at(self, now: float) -> float:
        return self.trace.value(self.field, max(0.0, now - self.zero))

    def bytes_between(self, start: float, end: float) -> float:
        """As `Steady`."""
        return self.trace.bytes_between(self.field, max(0.0, start - self.zero), max(0.0, end - self.zero))

    def time_passed(self, size: float, start: float) -> float:
        """As `Steady`."""
        return self.zero + self.trace.time_passed(self.field, size, max(0.0, start - self.zero))


UNLIMITED = Steady(None)
NONE = Steady(0.0)


@dataclass(frozen=True)
class Conditions:
    """What one direction of a link imposes."""

    mbps: Steady | Played = UNLIMITED  # capacity, 10^6 bits a second of TCP payload
    rtt_ms: Steady | Played = NONE  # half of it in each direction
    loss: Steady | Played = NONE  # probability that a segment is lost
    jitter_ms: float = 0.0  # the most added to the round trip, half of it in each direction
    queue_ms: float = 100.0  # the queue holds what the capacity lets pass in this time ...
    queue_bytes: int | None = None  # ... or this number of bytes

    def __post_init__(self) -> None:
        for name, course, limit in (
            ("capacity", self.mbps, LIMITS["up_mbps"]),
            ("round trip", self.rtt_ms, LIMITS["rtt_ms"]),
            ("loss", self.loss, LIMITS["loss"]),
        ):
            value = course.value if isinstance(course, Steady) else 0.0
            if value is None and name == "capacity":
                continue
            if value is None or not 0 <= value <= limit:
                raise ValueError(f"{name} is {value}, expected 0 to {limit:g}")
        for name, value in (("jitter", self.jitter_ms), ("queue_ms", self.queue_ms)):
            if not 0 <= value <= LIMITS["rtt_ms"]:
                raise ValueError(f"{name} is {value} ms, expected 0 to {LIMITS['rtt_ms']:g}")
        if self.queue_bytes is not None and not SEGMENT_BYTES <= self.queue_bytes <= 2**30:
            raise ValueError(f"queue_bytes is {self.queue_bytes}, expected {SEGMENT_BYTES} to {2**30}")

    @property
    def imposes_nothing(self) -> bool:
        """Whether nothing is imposed, so that bytes come out as they enter."""
        return (self.mbps, self.rtt_ms, self.loss, self.jitter_ms) == (UNLIMITED, NONE, NONE, 0.0)


class Lane:
    """One connection's place in one direction of a link."""

    def __init__(self) -> None:
        self.last_arrival = -math.inf
        self.queued = 0  # packets
        self.held = 0  # bytes in the queue and on the way


@dataclass
class _Packet:
    lane: Lane
    data: bytes | memoryview  # empty: the end of the connection's bytes

    @property
    def segments(self) -> int:
        return -(-len(self.data) // SEGMENT_BYTES)


class LinkModel:
    """One direction of a link. `now` is in seconds and never falls.

    seed, name: jitter and losses are drawn from these. The same seed and the same bytes at the same times give the same
    draws.
    """

    def __init__(self, conditions: Conditions, *, seed: int = 0, name: str = "") -> None:
        self._conditions = conditions
        self._open = conditions.imposes_nothing
        self._seed = f"{seed}/{name}"
        self._losses = random.Random(f"{self._seed}/loss")
        self._began = 0.0
        self._jitter = (-1, 0.0)  # step, its draw
        self._queue: deque[_Packet] = deque()
        self._since = -math.inf  # when service of the first packet in the queue began, or began again
        self._left = 0.0  # bytes of it that had not passed then
        self._idle_from = -math.inf  # when the queue ran empty, or the conditions changed since
        self._departs = math.inf
        self._way: list[tuple[float, int, _Packet]] = []  # heap: arrival, number
        self._number = 0
        self._stalled = False
        self.queued_bytes = 0
        self.losses = 0

    @property
    def limited(self) -> bool:
        """Whether a capacity is imposed."""
        mbps = self._conditions.mbps
        return isinstance(mbps, Played) or mbps.value is not None

    @property
    def transparent(self) -> bool:
        """Whether bytes that enter now come out at once: nothing is imposed, and nothing is before them."""
        return self._open and not self._queue and not self._way

    def room(self, now: float) -> int:
        """Bytes that fit into the queue now: a segment or more, or none."""
        self._advance(now)
        c, mbps = self._conditions, self._conditions.mbps.at(now)
        if c.queue_bytes is not None:
            limit = c.queue_bytes
        elif mbps is None:
            limit = 4 * MAX_PACKET_BYTES
        else:
            limit = max(LEAST_QUEUE_BYTES, int(mbps * BYTES_PER_MBIT * c.queue_ms / 1000))
        room = limit - self.queued_bytes
        return room if room >= SEGMENT_BYTES else 0

    def put(self, now: float, lane: Lane, data: bytes, *, waited: bool = False) -> None:
        """Bytes enter; the caller has asked `room`. No bytes: the end of this connection.

        waited: the bytes were there before, and enter late only because the caller is late. The link then continues
        from when it ran empty, not from now. So a pause of this process costs no capacity.
        """
        self._advance(now)
        for packet in self._cut(now, lane, data):
            self._queue.append(packet)
            lane.queued += 1
        lane.held += len(data)
        self.queued_bytes += len(data)
        if math.isinf(self._since):
            self._serve(max(self._idle_from, now - MOST_LATE_S) if waited else now)
        self._advance(now)

    def due(self) -> float:
        """Time at which the next bytes arrive or leave the queue; infinity: none do without a call."""
        if self._stalled:
            return math.inf
        return min(self._way[0][0], self._departs) if self._way else self._departs

    def take(self, now: float) -> Iterator[tuple[Lane, bytes | memoryview]]:
        """The bytes that have arrived by now, in order; no bytes: the end of a connection."""
        self._advance(now)
        while self._way and self._way[0][0] <= now and not self._stalled:
            packet = heapq.heappop(self._way)[2]
            packet.lane.held -= len(packet.data)
            yield packet.lane, packet.data

    def begin(self, now: float, conditions: Conditions, *, stalled: bool = False) -> None:
        """As `change`; jitter counts its steps from now on."""
        self._began = now
        self.change(now, conditions, stalled=stalled)

    def change(self, now: float, conditions: Conditions, *, stalled: bool = False) -> None:
        """Set other conditions from now on. Bytes that have left the queue arrive as before; bytes in it follow the new
        conditions.

        stalled: nothing moves, until changed again.
        """
        self._advance(now)
        if not math.isinf(self._since) and not self._stalled:
            self._left = max(0.0, self._left - self._conditions.mbps.bytes_between(self._since, now))
        self._conditions, self._stalled = conditions, stalled
        self._open = conditions.imposes_nothing and not stalled
        self._idle_from = now
        if self._queue:
            self._begin(now)
        self._advance(now)

    # one packet after the other

    def _cut(self, now: float, lane: Lane, data: bytes) -> Iterator[_Packet]:
        mbps = self._conditions.mbps.at(now)
        size = MAX_PACKET_BYTES
        if mbps is not None:
            segments = int(mbps * BYTES_PER_MBIT * PACKET_MS / 1000) // SEGMENT_BYTES
            size = min(max(1, segments) * SEGMENT_BYTES, MAX_PACKET_BYTES)
        if len(data) <= size:
            yield _Packet(lane, data)
            return
        view = memoryview(data)
        for at in range(0, len(data), size):
            yield _Packet(lane, view[at : at + size])

    def _serve(self, now: float) -> None:
        """Begin with the first packet in the queue."""
        if not self._queue:
            self._idle_from = now
            self._since = -math.inf
            self._departs = math.inf
            return
        self._left = float(len(self._queue[0].data))
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._since = now
        self._departs = math.inf if self._stalled else self._conditions.mbps.time_passed(self._left, now)

    def _advance(self, now: float) -> None:
        """Move what has passed by now from the queue onto the way."""
        while self._departs <= now:
            departed = self._departs
            packet = self._queue.popleft()
            packet.lane.queued -= 1
            self.queued_bytes -= len(packet.data)
            arrival = max(self._arrival(departed, packet), packet.lane.last_arrival)
            packet.lane.last_arrival = arrival
            self._number += 1
            heapq.heappush(self._way, (arrival, self._number, packet))
            self._serve(departed)

    def _arrival(self, departed: float, packet: _Packet) -> float:
        c = self._conditions
        rtt_ms = c.rtt_ms.at(departed) or 0.0
        delay_ms = (rtt_ms + c.jitter_ms * self._draw(departed)) / 2 if c.jitter_ms else rtt_ms / 2
        loss = c.loss.at(departed) or 0.0
        if loss > 0 and packet.data and self._losses.random() < 1 - (1 - loss) ** packet.segments:
            self.losses += 1
            delay_ms += rtt_ms if packet.lane.queued >= DUPLICATES else rtt_ms + LEAST_RTO_MS
        return departed + delay_ms / 1000

    def _draw(self, now: float) -> float:
        step = int((now - self._began) / JITTER_STEP_S)
        if step != self._jitter[0]:
            self._jitter = step, random.Random(f"{self._seed}/{step}").random()
        return self._jitter[1]
