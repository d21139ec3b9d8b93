"""The server: gives sessions to connections, owns the engines' tasks, and tells all sessions if an engine ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version

from spinn_server.admin.foreign import printable
from spinn_server.admin.health import Health, State
from spinn_server.admin.logs import Seldom
from spinn_server.admin.metrics import Metrics
from spinn_server.admin.routes import SESSIONS, HttpAnswer, Routes, look_up, routes, unavailable
from spinn_server.carriers.base import Carrier, Service
from spinn_server.carriers.peers import Front
from spinn_server.carriers.websocket import listening
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.tail import Tail
from spinn_stream.bundle import Bundle
from spinn_stream.codec import max_payload_bytes
from spinn_stream.errors import EngineError, RemoteProtocolError
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host
from spinn_stream.wire import ServerSession, SessionLimits, encode, profile_message
from spinn_stream.wire.messages import MAX_HEADER_BYTES
from spinn_stream.wire.server_session import LOAD_EVERY_S

from .connection import FAREWELL_S, GOING_AWAY, INTERNAL, Connection, Ending

log = logging.getLogger(__name__)

NAME = f"spinn-server/{version('spinn-server')}"

DRAIN_S = 1.5
"""Time to answer open requests once the server is asked to end; then the rest are refused."""

IDLE_S = 60.0
"""A session without a request for this time gives its place to a new one, if there is no other place."""

AT_A_TIME = 50
"""Load messages that are sent before other tasks get their turn on the event loop."""

LEAVING = Ending(GOING_AWAY, None, "the server is ending")
SILENT = Ending(None, None, "said nothing, and others wait for its place")
IDLE = Ending(GOING_AWAY, None, "idle, and others wait for its place")


@dataclass(frozen=True)
class ServerConfig:
    """How a server listens, and its limits."""

    host: str = "127.0.0.1"
    port: int = 8765  # 0: any free one
    token: str | None = field(default=None, repr=False)  # what clients must show; None: nothing
    max_sessions: int = 256  # sessions at once, and as many connections that have not said hello
    max_sockets: int = 10_000  # open at once, whatever they are
    session: SessionLimits = field(default_factory=SessionLimits)
    batch: BatchLimits = field(default_factory=BatchLimits)
    front: Front = field(default_factory=Front)

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError("host is empty, expected an address to listen on; 0.0.0.0 or :: is all of them")
        if not 0 <= self.port <= 65535 or self.max_sessions < 1:
            raise ValueError(
                f"expected a port from 0 to 65535 and max_sessions >= 1, got {self.port}, {self.max_sessions}"
            )


class Server:
    """Ties sessions to engines, one for each bundle. `run` owns the engines' tasks; see `carriers.base.Service`."""

    def __init__(
        self,
        engines: Sequence[Tail],
        metrics: Metrics,
        config: ServerConfig,
        *,
        host: Host = THIS_MACHINE,
        more: Routes | None = None,
    ) -> None:
        """
        Args:
            more: paths that are answered beside the usual ones.
        """
        self._engines = {engine.bundle: engine for engine in engines}
        self._offered = {
            bundle: None if engine.profile is None else encode(profile_message(engine.profile, bundle))
            for bundle, engine in self._engines.items()
        }
        self._metrics = metrics
        self._config = config
        self._host = host
        self._health = Health()
        self._routes = {**routes(self._health, metrics), **(more or {})}
        self._connections: dict[Connection, None] = {}  # oldest first
        self._begun = 0  # sessions so far
        self._ending: Ending | None = None  # what sessions are told that come too late
        self._empty = asyncio.Event()
        self._seldom = Seldom(log, host.clock)

    def answer(self, path: str) -> HttpAnswer | None:
        if path != SESSIONS:
            return look_up(self._routes, path)
        if not self._health.ready:
            return self._turn_away("not ready", self._health.text)
        if self._welcomed >= self._config.max_sessions and self._idle_longest() is None:
            return self._turn_away("full", self._full)
        return None

    async def serve(self, carrier: Carrier) -> None:
        session = ServerSession(
            self._offered, self._config.session, token=self._config.token, server=NAME, now=self._host.clock()
        )
        self._begun += 1
        connection = Connection(
            carrier,
            session,
            self._engines,
            self._metrics,
            enter=self._enter,
            max_outgoing=3 * self._config.session.max_in_flight + 8,
            number=self._begun,
            host=self._host,
        )
        if self._ending is not None:
            connection.end(self._ending)
        silent = [c for c in self._connections if not c.welcomed]
        if len(silent) >= self._config.max_sessions:
            silent[0].end(SILENT)
            self._metrics.refused_sessions.labels("silent").inc()
        self._connections[connection] = None
        try:
            await connection.serve()
        finally:
            del self._connections[connection]
            if not self._connections:
                self._empty.set()

    async def run(self) -> None:
        """Run the engines until cancelled; sessions can be served meanwhile.

        Raises:
            EngineError: an engine ended. Every request was refused, and every session told why.
        """
        tasks = [asyncio.create_task(engine.run(), name="tail engine") for engine in self._engines.values()]
        try:
            self._health.become(State.READY)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            why, cause = _how_it_ended(done.pop())
            self._health.become(State.FAILED, why)
            await self._end_sessions(Ending(INTERNAL, "internal", why))
            raise EngineError(why) from cause
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """`run` inside the block; gives its task, which is done before the end of the block if an engine ended.

        At the end of the block no requests are taken, open ones are answered if that does not take long, and sessions
        are closed.

        Raises:
            EngineError: at the end of the block, if an engine ended.
        """
        task = asyncio.create_task(self.run(), name="server")
        telling = asyncio.create_task(self._tell_load(), name="load")
        await asyncio.sleep(0)  # they begin
        try:
            yield task
            if self._health.ready:
                await self._drain()
            else:
                await asyncio.wait([task])  # an engine ended, and everybody is being told
        finally:
            for each in (task, telling):
                each.cancel()
            await asyncio.wait([task, telling])
        if not task.cancelled():
            task.result()

    @asynccontextmanager
    async def listen(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        """Accept clients inside the block; gives the address, ws://HOST:PORT.

        Raises:
            ConfigError: the address cannot be listened on. EngineError: see `running`.
        """
        listener = listen_for(self, list(self._engines), self._config, tls, self._metrics)
        async with listener as address, self.running():
            yield address

    @property
    def _welcomed(self) -> int:
        return sum(connection.welcomed for connection in self._connections)

    @property
    def _full(self) -> str:
        return f"{self._config.max_sessions} sessions are open already"

    def _enter(self, connection: Connection) -> None:
        """Find a place for a session that has said hello."""
        if self._welcomed < self._config.max_sessions:
            return
        idle = self._idle_longest()
        if idle is None:
            self._seldom.warning("full", self._full)
            raise RemoteProtocolError("overloaded", self._full)
        self._metrics.refused_sessions.labels("idle").inc()
        idle.end(IDLE)

    def _idle_longest(self) -> Connection | None:
        """The session that has been idle for the longest time, if it is idle for long enough."""
        idle = [(c.idle_since, c) for c in self._connections if c.welcomed and c.idle_since is not None]
        if not idle:
            return None
        since, found = min(idle, key=lambda item: item[0])
        return found if self._host.clock() - since >= IDLE_S else None

    def _turn_away(self, reason: str, why: str) -> HttpAnswer:
        self._metrics.refused_connections.labels(reason).inc()
        self._seldom.warning(reason, f"sessions are refused: {why}")
        return unavailable(why)

    async def _tell_load(self) -> None:
        """Send the load to sessions that wait for no answer, and measure how late the event loop is."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOAD_EVERY_S
            await asyncio.sleep(LOAD_EVERY_S)
            self._metrics.lag.observe(max(0.0, loop.time() - due))
            self._metrics.tasks.set(len(asyncio.all_tasks()))
            for n, connection in enumerate(list(self._connections), 1):
                connection.tell_load()
                if n % AT_A_TIME == 0:
                    await asyncio.sleep(0)

    async def _drain(self) -> None:
        self._health.become(State.DRAINING, "asked to end")
        engines = self._engines.values()
        for engine in engines:
            engine.stop_taking("overloaded", LEAVING.detail)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await asyncio.gather(*(engine.idle() for engine in engines))
        for engine in engines:
            engine.refuse_all("overloaded", LEAVING.detail)
        await self._end_sessions(LEAVING)

    async def _end_sessions(self, ending: Ending) -> None:
        """Tell all sessions, and wait a short time until they are gone."""
        self._ending = ending
        if not self._connections:
            return
        self._empty.clear()
        for connection in self._connections:
            connection.end(ending)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await self._empty.wait()


class Reception:
    """Answers a port before there is a server, and passes everything on to the server once there is one."""

    def __init__(self, metrics: Metrics) -> None:
        self._health = Health()
        self._metrics = metrics
        self._routes = routes(self._health, metrics)
        self._server: Server | None = None

    def hand_to(self, server: Server) -> None:
        """From now on, pass everything on to the server."""
        self._server = server

    def answer(self, path: str) -> HttpAnswer | None:
        if self._server is not None:
            return self._server.answer(path)
        if path != SESSIONS:
            return look_up(self._routes, path)
        self._metrics.refused_connections.labels("not ready").inc()
        return unavailable(self._health.text)

    async def serve(self, carrier: Carrier) -> None:
        assert self._server is not None  # no session begins before
        await self._server.serve(carrier)


def listen_for(
    service: Service, bundles: Sequence[Bundle], config: ServerConfig, tls: ssl.SSLContext | None, metrics: Metrics
) -> contextlib.AbstractAsyncContextManager[str]:
    """Listen as configured, for clients with one of these bundles; see `carriers.websocket.listening`."""
    return listening(
        config.host,
        config.port,
        service,
        tls=tls,
        max_message_bytes=largest_message(bundles),
        name=NAME,
        metrics=metrics,
        front=config.front,
        max_sockets=config.max_sockets,
    )


def largest_message(bundles: Sequence[Bundle]) -> int:
    """Bytes of the largest message that an honest client with one of these bundles sends."""
    largest = max(max_payload_bytes(bundle, split) for bundle in bundles for split in range(bundle.last))
    return largest + MAX_HEADER_BYTES + 2


def _how_it_ended(engine: asyncio.Task[None]) -> tuple[str, BaseException | None]:
    """How an engine's task ended: one line, and the cause."""
    error = None if engine.cancelled() else engine.exception()
    if error is None:
        return "the tail engine stopped", None
    if isinstance(error, EngineError):
        return printable(str(error)), error
    return printable(f"the tail engine stopped: {type(error).__name__}: {error}"), error
