"""The server: one port for WebSocket sessions and for health, readiness and metrics."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import version

from prometheus_client import CONTENT_TYPE_LATEST
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from spinn_server.admin.metrics import Metrics
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.codec import max_payload_bytes
from spinn_stream.errors import ConfigError
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host
from spinn_stream.wire import SUBPROTOCOL, ServerSession, SessionLimits, encode, profile_message
from spinn_stream.wire.messages import MAX_HEADER_BYTES

from .connection import Connection

KEEPALIVE_S = 5.0
KEEPALIVE_TIMEOUT_S = 10.0
"""A client is asked so often whether it is there, and gone where it says nothing for so long."""


@dataclass(frozen=True)
class ServerConfig:
    """How one server listens and what it grants."""

    host: str = "127.0.0.1"
    port: int = 8765  # 0: any free one
    token: str | None = None  # what clients must show; None: nothing
    max_sessions: int = 256  # connections at once; one more gets HTTP 503
    session: SessionLimits = field(default_factory=SessionLimits)
    batch: BatchLimits = field(default_factory=BatchLimits)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535 or self.max_sessions < 1:
            raise ValueError(
                f"expected a port from 0 to 65535 and max_sessions >= 1, got {self.port}, {self.max_sessions}"
            )


class Server:
    """Ties sessions to the engine. `listen` owns every task it starts."""

    def __init__(
        self, bundle: Bundle, engine: TailEngine, metrics: Metrics, config: ServerConfig, *, host: Host = THIS_MACHINE
    ) -> None:
        self._bundle = bundle
        self._engine = engine
        self._metrics = metrics
        self._config = config
        self._host = host
        self._profile = None if engine.profile is None else encode(profile_message(engine.profile, bundle))
        self._numbers = itertools.count()
        self._open = 0
        self._name = f"spinn-server/{version('spinn-server')}"

    @asynccontextmanager
    async def listen(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        """Accept clients inside the block; gives the address, ws://HOST:PORT.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        config = self._config
        largest = max(max_payload_bytes(self._bundle, split) for split in range(self._bundle.last))
        running = asyncio.create_task(self._engine.run(), name="tail engine")
        try:
            server = await serve(
                self.handle,
                config.host,
                config.port,
                ssl=tls,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                compression=None,
                process_request=self._http,
                max_size=largest + MAX_HEADER_BYTES + 2,
                max_queue=8,
                open_timeout=5,
                ping_interval=KEEPALIVE_S,
                ping_timeout=KEEPALIVE_TIMEOUT_S,
                close_timeout=1,
                server_header=self._name,
            )
        except OSError as error:
            running.cancel()
            raise ConfigError(f"cannot listen on {config.host}:{config.port}: {error.strerror or error}") from error
        try:
            port = next(iter(server.sockets)).getsockname()[1]
            yield f"{'wss' if tls else 'ws'}://{config.host}:{port}"
        finally:
            server.close()
            await server.wait_closed()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def handle(self, websocket: ServerConnection) -> None:
        """Serve one client until either end closes."""
        session = ServerSession(
            self._bundle,
            self._config.session,
            token=self._config.token,
            server=self._name,
            now=self._host.clock(),
            profile=self._profile,
        )
        connection = Connection(
            next(self._numbers),
            websocket,
            session,
            self._engine,
            self._metrics,
            max_outgoing=3 * self._config.session.max_in_flight + 8,
            host=self._host,
        )
        self._open += 1
        try:
            await connection.serve()
        finally:
            self._open -= 1

    def _http(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP; None lets the WebSocket handshake go on."""
        path = request.path.partition("?")[0]
        if path in ("/healthz", "/readyz"):
            return connection.respond(HTTPStatus.OK, "ok\n")
        if path == "/metrics":
            response = connection.respond(HTTPStatus.OK, self._metrics.text().decode())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = CONTENT_TYPE_LATEST
            return response
        if path != "/":
            return connection.respond(HTTPStatus.NOT_FOUND, "expected /, /healthz, /readyz or /metrics\n")
        if self._open >= self._config.max_sessions:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, f"{self._open} sessions are open already\n")
        return None
