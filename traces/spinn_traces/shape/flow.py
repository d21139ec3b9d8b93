"""Bytes of connections through one direction of a link: sockets in, sockets out, no task, one timer."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from .link_model import Lane, LinkModel

READ_BYTES = 64 * 1024
TURN_BYTES = 16 * 1024
"""Bytes of a turn: if the queue is full, connections take turns."""

WINDOW_BYTES = 4 << 20
"""Most bytes of a connection in the queue and on the way: Linux's default for the largest send buffer."""

OUTBOX_BYTES = 64 * 1024
"""Most bytes that have arrived and wait for the receiver; then nothing more is read from the sender."""

RECEIVE_BUFFER_BYTES = 4096
SEND_BUFFER_BYTES = 32 * 1024
"""Asked of the kernel for our sockets; Linux takes twice that and counts its own accounts in. The receive buffer then
holds up to 8 kB, and a sender that meets it keeps its own small."""

WIDE_RECEIVE_BUFFER_BYTES = 16 * 1024
"""The same where no capacity is imposed. A message larger than the buffer comes in turns, each of which wakes sender
and shaper once more: 40 kB took 1.5 ms, and 0.3 ms with this one."""

MAX_SEGMENT_BYTES = 1460
"""Told to both ends as on Ethernet. Loopback's own segments of 64 KiB give a sender a buffer of 4 MB, in which bytes
that the link has not taken look as if they were sent; with these and our small buffer it has some 80 kB."""


class Stream(Lane, ABC):
    """One direction of one connection, as `Direction` carries it."""

    @abstractmethod
    def wait(self) -> None:
        """The queue has no room: the direction calls `pull` when there is some."""

    @abstractmethod
    def pull(self, most: int) -> bytes | None:
        """Up to `most` bytes of the source. No bytes: its end. None: there is nothing now."""

    @abstractmethod
    def deliver(self, data: bytes | memoryview) -> None:
        """Bytes have arrived; no bytes: the end of them."""


class Flow(Stream):
    """A stream between two sockets.

    ended: called once, when the last byte and the end after it have been passed on.
    failed: called when either socket fails; the owner closes.
    """

    def __init__(
        self,
        direction: Direction,
        source: socket.socket,
        sink: socket.socket,
        *,
        ended: Callable[[], None],
        failed: Callable[[OSError], None],
    ) -> None:
        super().__init__()
        self._direction = direction
        self._source = source
        self._sink = sink
        self._ended = ended
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._outbox: deque[bytes | memoryview] = deque()
        self._outbox_bytes = 0
        self._reading = False
        self._in_line = False  # among those that the direction calls when there is room
        self._writing = False
        self._at_end = False  # the source has no more
        self._end_due = False  # ... and the sink is to be told
        self._closed = False

    def start(self) -> None:
        self._resume()

    def close(self) -> None:
        """Stop using the sockets; bytes on their way are lost."""
        self._closed = True
        self._rest()
        if self._writing:
            self._loop.remove_writer(self._sink)
            self._writing = False
        self._outbox.clear()

    # from the source

    @property
    def _may_read(self) -> bool:
        full = self.held >= WINDOW_BYTES or self._outbox_bytes >= OUTBOX_BYTES
        return not (self._at_end or self._closed or full)

    def _resume(self) -> None:
        if self._may_read and not self._reading and not self._in_line:
            self._reading = True
            self._loop.add_reader(self._source, self._direction.readable, self)

    def _rest(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._source)

    def wait(self) -> None:
        """See `Stream`."""
        self._in_line = True
        self._rest()

    def pull(self, most: int) -> bytes | None:
        """See `Stream`."""
        self._in_line = False
        if not self._may_read:
            self._rest()  # until `deliver` makes room
            return None
        try:
            data = self._source.recv(min(most, READ_BYTES))
        except (BlockingIOError, InterruptedError):
            self._resume()
            return None
        except OSError as error:
            self._fail(error)
            return None
        if not data:
            self._at_end = True
            self._rest()
        return data

    # to the sink

    def deliver(self, data: bytes | memoryview) -> None:
        """See `Stream`."""
        if self._closed:
            return
        if not data:
            self._end_due = True
        elif self._outbox:
            self._keep(data)
        else:
            sent = self._send(data)
            if sent < len(data):
                self._keep(memoryview(data)[sent:])
        self._finish()
        self._resume()

    def _keep(self, data: bytes | memoryview) -> None:
        self._outbox.append(data)
        self._outbox_bytes += len(data)
        if not self._writing and not self._closed:
            self._writing = True
            self._loop.add_writer(self._sink, self._writable)

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self._sink.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._fail(error)
            return len(data)

    def _writable(self) -> None:
        while self._outbox and not self._closed:
            data = self._outbox[0]
            sent = self._send(data)
            self._outbox_bytes -= sent
            if self._closed:
                return
            if sent < len(data):
                self._outbox[0] = memoryview(data)[sent:]
                return
            self._outbox.popleft()
        if not self._closed:
            self._loop.remove_writer(self._sink)
            self._writing = False
        self._finish()
        self._resume()

    def _finish(self) -> None:
        if not self._end_due or self._outbox or self._closed:
            return
        self._end_due = False
        try:
            self._sink.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._fail(error)
            return
        self._ended()

    def _fail(self, error: OSError) -> None:
        if not self._closed:
            self._failed(error)


class Direction:
    """Carries one direction of all connections: delivers what has arrived by the model, and wakes when the model
    says."""

    def __init__(self, model: LinkModel, clock: Callable[[], float] = time.monotonic) -> None:
        self.model = model
        self._now = clock
        self.delivered_bytes = 0
        self._waiting: deque[Stream] = deque()  # readable, or nearly so, and the queue had no room
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()

    def readable(self, flow: Stream) -> None:
        """The flow's source has bytes."""
        if self.model.transparent and not self._waiting:
            data = flow.pull(READ_BYTES)
            if data is not None:
                self._pass_on(flow, data)
            return
        now = self._now()
        room = self.model.room(now)
        if not room or self._waiting:
            self._line_up(flow)
        else:
            data = flow.pull(room)
            if data is not None:
                self.model.put(now, flow, data)
        self.run(now)

    def run(self, now: float) -> None:
        """Deliver what has arrived, take in what fits, and set the timer."""
        self._deliver(now)
        if self._waiting:
            self._refill(now)
            self._deliver(now)
        self._set_timer(now)

    def _deliver(self, now: float) -> None:
        for lane, data in self.model.take(now):
            assert isinstance(lane, Stream)
            self._pass_on(lane, data)

    def _pass_on(self, flow: Stream, data: bytes | memoryview) -> None:
        self.delivered_bytes += len(data)
        flow.deliver(data)

    def _refill(self, now: float) -> None:
        while self._waiting and (room := self.model.room(now)):
            flow = self._waiting.popleft()
            data = flow.pull(min(room, TURN_BYTES))
            if data is None:
                continue
            self.model.put(now, flow, data, waited=True)
            if data:
                self._line_up(flow)

    def _line_up(self, flow: Stream) -> None:
        flow.wait()
        self._waiting.append(flow)

    def _set_timer(self, now: float) -> None:
        due = self.model.due()
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
            self._timer = None
        self._timer_due = due
        if not math.isinf(due):
            # in whole ms, which is what event loops count in, and not before it is due
            self._timer = self._loop.call_later(math.ceil(max(0.0, due - now) * 1000) / 1000, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._timer_due = math.inf
        self.run(self._now())
