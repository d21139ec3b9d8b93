"""The server: hands sessions to connections, owns the engine's task, and tells everybody if that ends."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version

from spinn_server.admin.foreign import printable
from spinn_server.admin.health import Health, State
from spinn_server.admin.metrics import Metrics
from spinn_server.admin.routes import SESSIONS, HttpAnswer, look_up, routes, unavailable
from spinn_server.carriers.base import Carrier, Service
from spinn_server.carriers.websocket import listening
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.codec import max_payload_bytes
from spinn_stream.errors import EngineError
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host
from spinn_stream.wire import ServerSession, SessionLimits, encode, profile_message
from spinn_stream.wire.messages import MAX_HEADER_BYTES

from .connection import FAREWELL_S, GOING_AWAY, INTERNAL, Connection, Ending

NAME = f"spinn-server/{version('spinn-server')}"

DRAIN_S = 1.5
"""For requests that are open to be answered, once the server is asked to end."""

LEAVING = Ending(GOING_AWAY, None, "the server is ending")


@dataclass(frozen=True)
class ServerConfig:
    """How one server listens and what it grants."""

    host: str = "127.0.0.1"
    port: int = 8765  # 0: any free one
    token: str | None = field(default=None, repr=False)  # what clients must show; None: nothing
    max_sessions: int = 256  # connections at once; one more gets HTTP 503
    session: SessionLimits = field(default_factory=SessionLimits)
    batch: BatchLimits = field(default_factory=BatchLimits)

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError("host is empty, expected an address to listen on; 0.0.0.0 or :: is all of them")
        if not 0 <= self.port <= 65535 or self.max_sessions < 1:
            raise ValueError(
                f"expected a port from 0 to 65535 and max_sessions >= 1, got {self.port}, {self.max_sessions}"
            )


class Server:
    """Ties sessions to the engine. `run` owns the engine's task, and sees how it ends; see `carriers.base.Service`."""

    def __init__(
        self, bundle: Bundle, engine: TailEngine, metrics: Metrics, config: ServerConfig, *, host: Host = THIS_MACHINE
    ) -> None:
        self._bundle = bundle
        self._engine = engine
        self._metrics = metrics
        self._config = config
        self._host = host
        self._profile = None if engine.profile is None else encode(profile_message(engine.profile, bundle))
        self._health = Health()
        self._routes = routes(self._health, metrics)
        self._connections: set[Connection] = set()
        self._ending: Ending | None = None  # what sessions are told that come too late
        self._empty = asyncio.Event()

    def answer(self, path: str) -> HttpAnswer | None:
        if path != SESSIONS:
            return look_up(self._routes, path)
        if not self._health.ready:
            return unavailable(self._health.text)
        if len(self._connections) >= self._config.max_sessions:
            return unavailable(f"{len(self._connections)} sessions are open already")
        return None

    async def serve(self, carrier: Carrier) -> None:
        session = ServerSession(
            self._bundle,
            self._config.session,
            token=self._config.token,
            server=NAME,
            now=self._host.clock(),
            profile=self._profile,
        )
        connection = Connection(
            carrier,
            session,
            self._bundle,
            self._engine,
            self._metrics,
            max_outgoing=3 * self._config.session.max_in_flight + 8,
            host=self._host,
        )
        if self._ending is not None:
            connection.end(self._ending)
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)
            if not self._connections:
                self._empty.set()

    async def run(self) -> None:
        """Run the engine, ready for sessions, until cancelled.

        Raises:
            EngineError: the engine ended. Every request was refused, and every session told why.
        """
        engine = asyncio.create_task(self._engine.run(), name="tail engine")
        try:
            self._health.become(State.READY)
            await asyncio.wait([engine])
            why, cause = _how_it_ended(engine)
            self._health.become(State.FAILED, why)
            await self._end_sessions(Ending(INTERNAL, "internal", why))
            raise EngineError(why) from cause
        finally:
            engine.cancel()
            await asyncio.wait([engine])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """`run` inside the block; gives its task, which is done before the end of the block if the engine ended.

        At the end of the block nothing new is taken, what is open is finished if it does not take long, and sessions
        are closed.

        Raises:
            EngineError: at the end of the block, if the engine ended.
        """
        task = asyncio.create_task(self.run(), name="server")
        await asyncio.sleep(0)  # it begins
        try:
            yield task
            if self._health.ready:
                await self._drain()
            else:
                await asyncio.wait([task])  # the engine ended, and everybody is being told
        finally:
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    @asynccontextmanager
    async def listen(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        """Accept clients inside the block; gives the address, ws://HOST:PORT.

        Raises:
            ConfigError: the address cannot be listened on. EngineError: see `running`.
        """
        async with listen_for(self, self._bundle, self._config, tls) as address, self.running():
            yield address

    async def _drain(self) -> None:
        self._health.become(State.DRAINING, "asked to end")
        self._engine.stop_taking("overloaded", LEAVING.detail)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._engine.idle()
        await self._end_sessions(LEAVING)

    async def _end_sessions(self, ending: Ending) -> None:
        """Tell everybody, and wait until they are gone, but not for long."""
        self._ending = ending
        if not self._connections:
            return
        self._empty.clear()
        for connection in self._connections:
            connection.end(ending)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * FAREWELL_S):
                await self._empty.wait()


class Reception:
    """Takes what comes to a port before there is a server, and hands it to the server once there is one."""

    def __init__(self, metrics: Metrics) -> None:
        self._health = Health()
        self._routes = routes(self._health, metrics)
        self._server: Server | None = None

    def hand_to(self, server: Server) -> None:
        """From now on, all is the server's."""
        self._server = server

    def answer(self, path: str) -> HttpAnswer | None:
        if self._server is not None:
            return self._server.answer(path)
        return unavailable(self._health.text) if path == SESSIONS else look_up(self._routes, path)

    async def serve(self, carrier: Carrier) -> None:
        assert self._server is not None  # no session begins before
        await self._server.serve(carrier)


def listen_for(
    service: Service, bundle: Bundle, config: ServerConfig, tls: ssl.SSLContext | None
) -> contextlib.AbstractAsyncContextManager[str]:
    """Listen as configured, for clients with this bundle; see `carriers.websocket.listening`."""
    largest = max(max_payload_bytes(bundle, split) for split in range(bundle.last))
    return listening(
        config.host, config.port, service, tls=tls, max_message_bytes=largest + MAX_HEADER_BYTES + 2, name=NAME
    )


def _how_it_ended(engine: asyncio.Task[None]) -> tuple[str, BaseException | None]:
    """In one line, and the cause."""
    error = None if engine.cancelled() else engine.exception()
    if error is None:
        return "the tail engine stopped", None
    if isinstance(error, EngineError):
        return printable(str(error)), error
    return printable(f"the tail engine stopped: {type(error).__name__}: {error}"), error
