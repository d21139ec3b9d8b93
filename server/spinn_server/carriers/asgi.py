"""An ASGI application around a service, and the carrier of a session in it: for servers other than our own.

Scopes and messages are those of https://asgi.readthedocs.io/en/latest/specs/. The ASGI server owns the sockets: it
pings, and it bounds what it holds of a peer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, nullcontext
from http import HTTPStatus
from typing import Any

from spinn_server.admin.metrics import Metrics
from spinn_server.admin.routes import HttpAnswer
from spinn_stream.errors import RemoteProtocolError
from spinn_stream.wire import SUBPROTOCOL

from .base import CarrierClosed, Service
from .door import Door
from .peers import Front

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

CLOSING_S = 1.0
"""Time for the ASGI server to take a close; then the session is left to it."""

TOO_BIG = 1009
"""Code of RFC 6455, section 7.4.1."""

RESPONSE = "websocket.http.response"
"""The extension with which a handshake is refused with a status and a text; without it, the status is always 403."""

NO_SESSION = HttpAnswer(HTTPStatus.UPGRADE_REQUIRED, "expected a WebSocket\n")
NO_SUBPROTOCOL = HttpAnswer(HTTPStatus.BAD_REQUEST, f"expected the subprotocol {SUBPROTOCOL}\n")
NO_METHOD = HttpAnswer(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET\n")


class AsgiCarrier:
    """See `Carrier`. A message's arrival is the moment at which the ASGI server hands it over.

    Args:
        max_message_bytes: a longer message ends the session. Before that, the ASGI server has held it.
    """

    def __init__(
        self, receive: Receive, send: Send, peer: str, max_message_bytes: int, clock: Callable[[], float]
    ) -> None:
        self._receive = receive
        self._send = send
        self._peer = peer
        self._max_message_bytes = max_message_bytes
        self._clock = clock
        self._sending: asyncio.Future[None] | None = None
        self._over = ""  # why nothing more comes or goes; "": it does

    @property
    def peer(self) -> str:
        return self._peer

    async def recv(self) -> tuple[bytes, float]:
        self._check()
        event = await self._receive()
        arrived = self._clock()
        if event["type"] == "websocket.disconnect":
            self._over = f"the peer is gone (code {event.get('code')})"
            self._check()
        data = event.get("bytes")
        if data is None:
            raise RemoteProtocolError("bad_message", "got a text message, expected binary ones only")
        if len(data) > self._max_message_bytes:
            why = f"a message of {len(data)} bytes came, at most {self._max_message_bytes} are taken"
            await self.close(TOO_BIG, why)
            raise CarrierClosed(why)
        return bytes(data), arrived

    async def send(self, data: bytes) -> None:
        await self._hand_over({"type": "websocket.send", "bytes": data})

    async def close(self, code: int, reason: str) -> None:
        with contextlib.suppress(CarrierClosed, TimeoutError):
            async with asyncio.timeout(CLOSING_S):
                await self._hand_over({"type": "websocket.close", "code": code, "reason": reason})
        self.abort()

    def abort(self) -> None:
        """ASGI has no word for it: the ASGI server closes the socket once the session's call has returned."""
        self._over = self._over or "closed by this end"
        if self._sending is not None:
            self._sending.cancel()

    async def _hand_over(self, event: Event) -> None:
        """Give the ASGI server an event after those before it, also if this call is cancelled meanwhile."""
        before = self._sending
        if before is not None and not before.done():
            await asyncio.wait([before])
        self._check()
        self._sending = asyncio.ensure_future(self._send(event))
        self._sending.add_done_callback(self._sent)
        await asyncio.wait([self._sending])
        self._check()

    def _sent(self, sending: asyncio.Future[None]) -> None:
        """The end of a send; ASGI servers raise whatever they like if the peer is gone."""
        if not sending.cancelled() and (error := sending.exception()) is not None:
            self._over = self._over or f"the peer is gone ({type(error).__name__}: {error})"

    def _check(self) -> None:
        if self._over:
            raise CarrierClosed(self._over)


class Application:
    """An ASGI application for the scopes http, websocket and lifespan.

    The ASGI server must bound what it holds of a message that is still coming, to `max_message_bytes` or little more
    (uvicorn: `ws_max_size`). It should ping its peers (uvicorn: `ws_ping_interval`), or peers that vanished keep their
    sessions until others want their places.

    Args:
        life: entered at the start of the ASGI server and left at its end, such as `Server.running`.
        max_message_bytes: a longer message ends its session.
    """

    def __init__(
        self,
        service: Service,
        metrics: Metrics,
        *,
        max_message_bytes: int,
        front: Front = Front(),  # noqa: B008  # frozen
        life: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._door = Door(service, front, metrics)
        self._metrics = metrics
        self._life = life
        self.max_message_bytes = max_message_bytes
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, send)
        elif scope["type"] == "websocket":
            with self._metrics.connections.track_inprogress():
                await self._websocket(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            raise ValueError(f"the ASGI scope is {scope['type']!r}, expected http, websocket or lifespan")

    async def _http(self, scope: Scope, send: Send) -> None:
        answer = await self._answer(scope) if scope["method"] in ("GET", "HEAD") else NO_METHOD
        await _respond(send, "http.response", answer or NO_SESSION)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        answer = await self._answer(scope)
        if answer is None and SUBPROTOCOL not in scope.get("subprotocols", ()):
            answer = NO_SUBPROTOCOL
        if answer is None:
            await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
            peer = self._door.front.peer(_address(scope), _values(scope, b"x-forwarded-for"))
            await self._door.serve(AsgiCarrier(receive, send, peer, self.max_message_bytes, self._clock))
        elif RESPONSE in (scope.get("extensions") or {}):
            await _respond(send, RESPONSE, answer)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": answer.body.strip()[:100]})

    async def _answer(self, scope: Scope) -> HttpAnswer | None:
        return await self._door.answer(scope["path"], _values(scope, b"origin"))

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        step = "startup"
        try:
            await receive()  # lifespan.startup
            async with self._life():
                await send({"type": "lifespan.startup.complete"})
                step = "shutdown"
                await receive()  # lifespan.shutdown
        except Exception as error:
            log.exception("the %s failed", step)
            await send({"type": f"lifespan.{step}.failed", "message": f"{type(error).__name__}: {error}"})
        else:
            await send({"type": "lifespan.shutdown.complete"})


async def _respond(send: Send, kind: str, answer: HttpAnswer) -> None:
    body = answer.body.encode()
    headers = [(b"content-type", answer.content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": f"{kind}.start", "status": int(answer.status), "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


def _values(scope: Scope, name: bytes) -> list[str]:
    """The values of a header, in order."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _address(scope: Scope) -> tuple[Any, ...] | None:
    client = scope.get("client")
    return None if client is None else tuple(client)
