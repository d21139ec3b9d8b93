"""A port for WebSockets and plain HTTP, and the carrier of a session over a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from spinn_server.admin.foreign import printable
from spinn_server.admin.routes import HttpAnswer
from spinn_stream.errors import ConfigError, RemoteProtocolError
from spinn_stream.wire import SUBPROTOCOL

from .base import CarrierClosed, Service

log = logging.getLogger(__name__)

KEEPALIVE_S = 5.0
KEEPALIVE_TIMEOUT_S = 10.0
"""A client is asked this often whether it is there, and is gone if it says nothing for this long."""

OPENING_S = 5.0
"""For a peer to ask for something after it connected."""

CLOSING_S = 1.0
"""For a peer to answer a close; it is cut off then."""

ENDING_S = 2.0
"""For all connections to end when the port is closed; whoever is left is left behind."""


class WebSocketCarrier:
    """See `Carrier`."""

    def __init__(self, websocket: ServerConnection) -> None:
        self._websocket = websocket
        address = websocket.remote_address
        self._peer = f"{_in_url(address[0])}:{address[1]}" if isinstance(address, tuple) else "a peer without address"

    @property
    def peer(self) -> str:
        return self._peer

    async def recv(self) -> bytes:
        try:
            data = await self._websocket.recv()
        except ConnectionClosed as error:
            raise CarrierClosed(str(error)) from error
        if isinstance(data, str):
            raise RemoteProtocolError("bad_message", "got a text message, expected binary ones only")
        return data

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
    """What `websockets` calls. Its log is not shown to users, so our own faults are logged here."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def http(self, connection: ServerConnection, request: Request) -> Response | None:
        try:
            answer = self._service.answer(request.path.partition("?")[0])
        except Exception:
            log.exception("no answer to %s for a reason of our own", printable(request.path))
            answer = HttpAnswer(HTTPStatus.INTERNAL_SERVER_ERROR, "the server made a mistake; its log says which\n")
        if answer is None:
            return None  # the handshake goes on
        response = connection.respond(answer.status, answer.body)
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = answer.content_type
        return response

    async def session(self, websocket: ServerConnection) -> None:
        carrier = WebSocketCarrier(websocket)
        try:
            await self._service.serve(carrier)
        except Exception:
            log.exception("%s: a session ended for a reason of our own", carrier.peer)
            carrier.abort()


@asynccontextmanager
async def listening(
    host: str, port: int, service: Service, *, tls: ssl.SSLContext | None, max_message_bytes: int, name: str
) -> AsyncIterator[str]:
    """Hand what comes in at a port to the service; gives the address, ws://HOST:PORT or wss://HOST:PORT.

    Args:
        port: 0: any free one. max_message_bytes: a longer message ends its connection, and is never held.
        name: of the server, in its HTTP headers.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    handlers = _Handlers(service)
    try:
        server = await serve(
            handlers.session,
            host,
            port,
            ssl=tls,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            process_request=handlers.http,
            max_size=max_message_bytes,
            max_queue=8,
            open_timeout=OPENING_S,
            ping_interval=KEEPALIVE_S,
            ping_timeout=KEEPALIVE_TIMEOUT_S,
            close_timeout=CLOSING_S,
            server_header=name,
        )
    except (OSError, UnicodeError) as error:  # UnicodeError: a host that no name server is asked about
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {_in_url(host)}:{port}: {why}") from error
    try:
        found = next(iter(server.sockets)).getsockname()[1]
        yield f"{'wss' if tls else 'ws'}://{_in_url(host)}:{found}"
    finally:
        server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDING_S):
                await server.wait_closed()


def _in_url(host: str) -> str:
    """An address of IPv6 stands in brackets."""
    return f"[{host}]" if ":" in host else host
