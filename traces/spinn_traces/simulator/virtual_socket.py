"""WebSockets in virtual time, over the link model that the shaper imposes on real ones."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from websockets.exceptions import ConnectionClosedError

from spinn_client.link.dial import CONNECT_TIMEOUT_S
from spinn_stream.errors import ServerUnreachable
from spinn_stream.wire import SUBPROTOCOL
from spinn_traces.shape.flow import WINDOW_BYTES, Direction, Stream

SEND_BUFFER_BYTES = 112 * 1024
"""Bytes that a sender can send before `send` waits: the kernel's socket buffer, some 80 kB behind the shaper
(docs/shaper.md), and the 32 KiB that `websockets` buffers itself."""

OPENING_BYTES = 300
"""Bytes of an HTTP upgrade request, or of its answer."""

PING_BYTES = 6


class _Message(NamedTuple):
    end: int  # of its bytes, counted from the beginning of the connection
    kind: str  # data, ping, pong or open
    data: bytes


def frame_bytes(size: int, *, masked: bool) -> int:
    """Bytes of a WebSocket frame with `size` bytes of payload (RFC 6455, section 5.2)."""
    return size + 2 + (0 if size < 126 else 2 if size < 65536 else 8) + (4 if masked else 0)


class _Half(Stream):
    """One direction of one connection: messages in, messages out when their last byte has arrived."""

    def __init__(self, direction: Direction, arrived: Callable[[_Message], None], *, masked: bool) -> None:
        super().__init__()
        self._direction = direction
        self._arrived = arrived
        self._masked = masked
        self._messages: deque[_Message] = deque()  # not arrived
        self._buffered = 0  # bytes
        self._sent = self._received = 0
        self._in_line = self._closed = False
        self._room = asyncio.Event()

    def send(self, kind: str, data: bytes, size: int) -> None:
        self._sent += frame_bytes(size, masked=self._masked)
        self._buffered += frame_bytes(size, masked=self._masked)
        self._messages.append(_Message(self._sent, kind, data))
        if not self._in_line and not self._closed:
            self._direction.readable(self)

    async def wait_for_room(self) -> None:
        while self._buffered > SEND_BUFFER_BYTES and not self._closed:
            self._room.clear()
            await self._room.wait()

    def close(self) -> None:
        self._closed = True
        self._messages.clear()
        self._buffered = 0
        self._room.set()

    # as `Direction` wants it

    def wait(self) -> None:
        self._in_line = True

    def pull(self, most: int) -> bytes | None:
        self._in_line = False
        size = min(most, self._buffered, WINDOW_BYTES - self.held)
        if self._closed or size <= 0:
            return None
        self._buffered -= size
        if self._buffered <= SEND_BUFFER_BYTES:
            self._room.set()
        return bytes(size)  # which bytes they are does not matter to the link

    def deliver(self, data: bytes | memoryview) -> None:
        self._received += len(data)
        while self._messages and self._messages[0].end <= self._received:
            self._arrived(self._messages.popleft())
        if self._buffered and not self._in_line and not self._closed:
            self._direction.readable(self)


class VirtualWebSocket:
    """One end of a connection, with the parts of `websockets.asyncio` that client and server use."""

    subprotocol = SUBPROTOCOL
    remote_address = ("virtual", 0)

    def __init__(self, out: Direction, *, is_client: bool, hop_s: float) -> None:
        """hop_s: from the arrival of a message's last byte until its reader has it."""
        self._loop = asyncio.get_running_loop()
        self._half = _Half(out, self._arrived, masked=is_client)
        self._hop_s = hop_s
        self._hopping: deque[_Message] = deque()  # their last byte has arrived; the reader does not have them yet
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._pings: dict[bytes, tuple[float, asyncio.Future[float]]] = {}
        self._peer: VirtualWebSocket
        self._closed = False
        self.opened = asyncio.Event()
        self.on_open: Callable[[], None] | None = None
        self.transport = self

    def join(self, peer: VirtualWebSocket) -> None:
        self._peer = peer

    def _arrived(self, message: _Message) -> None:
        self._hopping.append(message)  # timers of one time go off in any order
        self._loop.call_later(self._hop_s, lambda: self._peer.take(self._hopping.popleft()))

    def take(self, message: _Message) -> None:
        """A message has come to this end."""
        if self._closed:
            return
        if message.kind == "open":
            self.opened.set()
            if self.on_open is not None:
                self.on_open()
        elif message.kind == "ping":
            self._half.send("pong", message.data, PING_BYTES)
        elif message.kind == "pong":
            began, pong = self._pings.pop(message.data, (0.0, None))
            if pong is not None and not pong.done():
                pong.set_result(self._loop.time() - began)
        else:
            self._inbox.put_nowait(message.data)

    def open(self) -> None:
        """Report this end's part of the handshake."""
        self._half.send("open", b"", OPENING_BYTES)

    async def send(self, data: bytes) -> None:
        self._check()
        self._half.send("data", data, len(data))
        await self._half.wait_for_room()
        self._check()

    async def recv(self, decode: bool | None = None) -> bytes:
        if self._closed:
            self._check()
        data = await self._inbox.get()
        if data is None:
            raise ConnectionClosedError(None, None)
        return data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield await self.recv()

    async def ping(self) -> Awaitable[float]:
        self._check()
        tag = len(self._pings).to_bytes(4, "big") + str(self._loop.time()).encode()
        pong = self._loop.create_future()
        self._pings[tag] = self._loop.time(), pong
        self._half.send("ping", tag, PING_BYTES)
        return pong

    async def keep_alive(self, interval_s: float, timeout_s: float) -> None:
        """Ping, and end the connection if nothing comes back."""
        while not self._closed:
            await asyncio.sleep(interval_s)
            try:
                async with asyncio.timeout(timeout_s):
                    await (await self.ping())
            except (TimeoutError, ConnectionClosedError):
                self.abort()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.abort()

    def abort(self) -> None:
        """End both ends at once; what is on its way is lost."""
        for end in (self, self._peer):
            if not end._closed:
                end._closed = True
                end._half.close()
                end._inbox.put_nowait(None)
                for _, pong in end._pings.values():
                    pong.cancel()

    def _check(self) -> None:
        if self._closed:
            raise ConnectionClosedError(None, None)


class VirtualNetwork:
    """Where the client dials and the server serves. Owns what it starts until `close`.

    Args:
        serve: serves one connection at the server until it ends.
    """

    def __init__(
        self,
        up: Direction,
        down: Direction,
        serve: Callable[[Any], Coroutine[Any, Any, None]],
        *,
        hop_s: float,
    ) -> None:
        self._up, self._down = up, down
        self._serve = serve
        self._hop_s = hop_s
        self._tasks: set[asyncio.Task[None]] = set()

    async def dial(self, url: str, tls_ca: Path | None, max_message_bytes: int) -> Any:
        """As `spinn_client.link.dial.dial`. Raises ServerUnreachable."""
        near = VirtualWebSocket(self._up, is_client=True, hop_s=self._hop_s)
        far = VirtualWebSocket(self._down, is_client=False, hop_s=self._hop_s)
        near.join(far)
        far.join(near)

        def accepted() -> None:
            far.open()
            self._own(self._serve(far))

        far.on_open = accepted
        near.open()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await near.opened.wait()
        except TimeoutError as error:
            near.abort()
            raise ServerUnreachable(f"{url} did not answer within {CONNECT_TIMEOUT_S:.0f} s") from error
        return near

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
