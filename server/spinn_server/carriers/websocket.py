"""A port for WebSockets and plain HTTP, and the carrier of a session over a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from spinn_server.admin.logs import Seldom
from spinn_server.admin.metrics import Metrics
from spinn_stream.errors import ConfigError, RemoteProtocolError
from spinn_stream.wire import SUBPROTOCOL

from .base import CarrierClosed, Service
from .door import Door
from .peers import Front, in_url

log = logging.getLogger(__name__)

KEEPALIVE_S = 5.0
KEEPALIVE_TIMEOUT_S = 10.0
"""Time between two pings of a client, and the silence after which it counts as gone."""

OPENING_S = 5.0
"""Time for a peer to send its request after it connected."""

CLOSING_S = 1.0
"""Time for a peer to answer a close; then its socket is closed."""

ENDING_S = 1.0
"""Time for all connections to end when the port is closed; then the rest are closed by force."""

MAX_UNSENT = 1024 * 1024
"""Most bytes that a peer has not read. Our own messages wait for room; the library's own answers do not."""


MAX_FRAMES = 1000
"""Most frames of one message, and most that may come at once. Each takes memory and time, however short it is. Our
clients send a message in one frame, and a few dozen messages at once."""

PIECE = 16 * 1024
"""Bytes of a socket that are looked at before it may be cut off. A read has up to 256 KiB."""


class Socket(ServerConnection):
    """A connection whose memory is bounded, and which knows when messages arrived."""

    port: Port  # set before anything happens, by `listening`

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.arrivals: deque[float] = deque()  # of messages that were not read yet
        self._fragments = 0  # of the message that is coming
        self._at_once = 0  # frames of the present read
        super().connection_made(transport)
        self.port.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.port.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._at_once = 0
        for at in range(0, len(data), PIECE):
            super().data_received(data[at : at + PIECE])
            if self.transport.get_write_buffer_size() > MAX_UNSENT:
                self.port.cut(self, "not reading", f"took none of {MAX_UNSENT} bytes")
            if self.transport.is_closing():
                return

    def process_event(self, event: Any) -> None:
        if isinstance(event, Frame):
            self._at_once += 1
            if self._at_once > MAX_FRAMES:
                self.port.cut(self, "flood", f"sent more than {MAX_FRAMES} frames at once")
                return
            if not event.opcode & 8:  # of a message
                if event.fin:
                    self.arrivals.append(self.port.clock())
                self._fragments = 0 if event.fin else self._fragments + 1
                if self._fragments > MAX_FRAMES:
                    self.port.cut(self, "fragments", f"sent a message in more than {MAX_FRAMES} frames")
                    return
        super().process_event(event)


class Port:
    """All sockets of one port.

    Args:
        max_sockets: one more is closed at once, so that the process keeps some files for itself.
    """

    def __init__(self, metrics: Metrics, max_sockets: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._metrics = metrics
        self._max_sockets = max_sockets
        self._sockets: set[Socket] = set()
        self._seldom = Seldom(log)

    def opened(self, socket: Socket) -> None:
        if len(self._sockets) >= self._max_sockets:
            self._refuse("files", f"{len(self._sockets)} sockets are open: no more are taken; see ulimit -n")
            socket.transport.abort()
            return
        self._sockets.add(socket)
        self._metrics.connections.set(len(self._sockets))

    def closed(self, socket: Socket) -> None:
        self._sockets.discard(socket)
        self._metrics.connections.set(len(self._sockets))

    def cut(self, socket: Socket, reason: str, what: str) -> None:
        """Close a socket that would make us hold too much memory."""
        if not socket.transport.is_closing():
            self._refuse(reason, f"{socket.remote_address} {what}, and is cut off")
            socket.transport.abort()

    def cut_all(self) -> None:
        for socket in list(self._sockets):
            socket.transport.abort()

    def _refuse(self, reason: str, text: str) -> None:
        self._metrics.refused_connections.labels(reason).inc()
        self._seldom.warning(reason, text)


class WebSocketCarrier:
    """See `Carrier`."""

    def __init__(self, websocket: Socket, peer: str) -> None:
        self._websocket = websocket
        self._peer = peer

    @property
    def peer(self) -> str:
        return self._peer

    async def recv(self) -> tuple[bytes, float]:
        try:
            data = await self._websocket.recv()
        except ConnectionClosed as error:
            raise CarrierClosed(str(error)) from error
        if isinstance(data, str):
            raise RemoteProtocolError("bad_message", "got a text message, expected binary ones only")
        return data, self._websocket.arrivals.popleft()

    async def send(self, data: bytes) -> None:
        try:
            await self._websocket.send(data)
        except ConnectionClosed as error:
            raise CarrierClosed(str(error)) from error

    async def close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(2 * CLOSING_S):  # its own limit does not count the wait for room to write
                await self._websocket.close(code, reason)
        except (TimeoutError, ConnectionClosed):
            self.abort()

    def abort(self) -> None:
        self._websocket.transport.abort()


class _Handlers:
    """Handlers that `websockets` calls."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def http(self, connection: ServerConnection, request: Request) -> Response | None:
        answer = await self._door.answer(request.path, request.headers.get_all("Origin"))
        if answer is None:
            return None  # the handshake goes on
        response = connection.respond(answer.status, answer.body)
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = answer.content_type
        return response

    async def session(self, websocket: ServerConnection) -> None:
        assert isinstance(websocket, Socket) and websocket.request is not None
        forwarded = websocket.request.headers.get_all("X-Forwarded-For")
        peer = self._door.front.peer(websocket.remote_address, forwarded)
        await self._door.serve(WebSocketCarrier(websocket, peer))


@asynccontextmanager
async def listening(
    host: str,
    port: int,
    service: Service,
    *,
    tls: ssl.SSLContext | None,
    max_message_bytes: int,
    name: str,
    metrics: Metrics,
    front: Front = Front(),  # noqa: B008  # frozen
    max_sockets: int = 10_000,
    subprotocol: str = SUBPROTOCOL,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[str]:
    """Listen on a port for the service. Gives the address, ws://HOST:PORT or wss://HOST:PORT.

    Args:
        port: 0: any free one. max_message_bytes: a longer message ends its connection, and is never held in memory.
        name: of the server, in its HTTP headers. max_sockets: one more is closed at once. subprotocol: of its sessions.
            clock: of messages' arrivals.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    handlers = _Handlers(Door(service, front, metrics))
    sockets = Port(metrics, max_sockets, clock)
    try:
        server = await serve(
            handlers.session,
            host,
            port,
            ssl=tls,
            subprotocols=[Subprotocol(subprotocol)],
            compression=None,
            process_request=handlers.http,
            max_size=max_message_bytes,
            max_queue=8,
            open_timeout=OPENING_S,
            ping_interval=KEEPALIVE_S,
            ping_timeout=KEEPALIVE_TIMEOUT_S,
            close_timeout=CLOSING_S,
            server_header=name,
            create_connection=type("Socket", (Socket,), {"port": sockets}),
            ssl_handshake_timeout=None if tls is None else OPENING_S,
        )
    except (OSError, UnicodeError) as error:  # UnicodeError: a host that no name server is asked about
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {in_url(host)}:{port}: {why}") from error
    try:
        found = next(iter(server.sockets)).getsockname()[1]
        yield f"{'wss' if tls else 'ws'}://{in_url(host)}:{found}{front.path_prefix}"
    finally:
        server.close()
        for cut_off in (False, True):
            if cut_off:
                sockets.cut_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ENDING_S):
                    await server.wait_closed()
                    break
