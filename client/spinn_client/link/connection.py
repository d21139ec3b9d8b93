"""The connection to the server: kept up, counted, and never waited for by a frame."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from spinn_stream.bundle import Bundle
from spinn_stream.codec import SUPPORTED, default_setting
from spinn_stream.errors import ProtocolError, ServerRefused, ServerUnreachable, SpinnError
from spinn_stream.plan import Plan
from spinn_stream.profile import Profile
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host
from spinn_stream.wire import (
    SUBPROTOCOL,
    ClientSession,
    Load,
    Opened,
    ProfileReceived,
    Reject,
    Result,
    max_server_message_bytes,
)

from .backoff import Backoff
from .dial import CONNECT_TIMEOUT_S, dial

log = logging.getLogger(__name__)

PING_S = 0.5
"""So often, where anybody observes the link: requests of one size cannot tell a slow link from a far one."""

Dial = Callable[[str, Path | None, int], Coroutine[Any, Any, ClientConnection]]
"""As `dial`."""


@dataclass(frozen=True)
class LinkConfig:
    """Where the server is and how to talk to it."""

    url: str  # ws://host:port or wss://host:port
    token: str | None = None
    tls_ca: Path | None = None  # certificate authority to trust besides the system's
    max_in_flight: int = 16  # requests without an answer; the server may allow fewer

    def __post_init__(self) -> None:
        if not 1 <= self.max_in_flight <= 1000:
            raise ValueError(f"max_in_flight is {self.max_in_flight}, expected 1 to 1000")


class LinkObserver(Protocol):
    """Learns of the link from what passes. Times in seconds on the host's clock, stamps on the server's."""

    def sent(self, request: int, size: int, now: float) -> None: ...

    def answered(self, request: int, now: float, *, arrived_ms: float, left_ms: float) -> None: ...

    def refused(self, request: int, now: float) -> None: ...

    def ponged(self, rtt_ms: float, now: float) -> None: ...

    def disconnected(self) -> None: ...


class LinkEvents(Protocol):
    """What the link tells its owner, on the event loop."""

    def on_answer(self, message: Result) -> None: ...

    def on_reject(self, message: Reject) -> None: ...

    def on_up(self) -> None: ...

    def on_down(self, lost: list[int], why: str) -> None: ...


@dataclass(frozen=True)
class _Outgoing:
    request: int
    deadline: float | None  # None: a cancellation
    plan: Plan | None
    payload: bytes


@dataclass(frozen=True)
class _Sent:
    at: float
    deadline: float


class Link:
    """One server, reconnected to for ever once `open` has succeeded or was allowed to fail.

    A request counts as under way from `send` until the server acknowledges it or the connection ends. The
    outgoing queue is bounded by that; a request whose deadline passes in the queue is not sent.
    """

    def __init__(
        self,
        config: LinkConfig,
        bundle: Bundle,
        events: LinkEvents,
        rng: random.Random,
        *,
        host: Host = THIS_MACHINE,
        dial: Dial = dial,
    ) -> None:
        self._config = config
        self._bundle = bundle
        self._events = events
        self._now = host.clock
        self._dial = dial
        self._backoff = Backoff(rng)
        self._session: ClientSession | None = None
        self._websocket: ClientConnection | None = None
        self._outgoing: asyncio.Queue[_Outgoing] = asyncio.Queue(2 * config.max_in_flight)
        self._queued = self._queued_bytes = 0  # requests among them, and their payloads'
        self._sent: dict[int, _Sent] = {}  # in flight, oldest first
        self._room = asyncio.Event()
        self._ping_soon = asyncio.Event()
        self.observers: list[LinkObserver] = []
        self.bytes_up = 0
        self.bytes_down = 0
        self.rtt_ms: float | None = None  # smoothed: round trip of a request without the server's own time
        self.server_profile: Profile | None = None  # these three: None until the server says so, and while it is away
        self.server_queue_ms: float | None = None
        self.server_load: float | None = None  # 1.0: as fast as its profile

    @property
    def up(self) -> bool:
        return self._session is not None

    @property
    def ready(self) -> bool:
        """Whether one more request may be given to `send` now."""
        session = self._session
        if session is None or not session.ready or session.in_flight + self._queued >= self._config.max_in_flight:
            return False
        oldest = next(iter(self._sent.values()), None)
        return oldest is None or oldest.deadline > self._now()  # else the link is behind: let it catch up

    @property
    def queued_bytes(self) -> int:
        """Of payloads that were given to `send` and not yet to the connection."""
        return self._queued_bytes

    def send(self, request: int, plan: Plan, payload: bytes, deadline: float) -> bool:
        """Queue a request; False where the link is not `ready` or the server agreed to no such payload."""
        session = self._session
        if session is None or not self.ready or self._outgoing.full():
            return False
        if not session.takes(self._codec(plan), len(payload)):
            return False
        self._outgoing.put_nowait(_Outgoing(request, deadline, plan, payload))
        self._queued += 1
        self._queued_bytes += len(payload)
        return True

    def ping_soon(self) -> None:
        """Somebody wants to know the round trip without a request's bytes; now rather than at the next turn."""
        self._ping_soon.set()

    def cancel(self, request: int) -> None:
        """Tell the server that the answer came too late to be of use. Dropped where the queue is full."""
        if self.up and not self._outgoing.full():
            self._outgoing.put_nowait(_Outgoing(request, None, None, b""))

    async def wait_for_room(self, timeout_s: float) -> None:
        """Until `ready`, the link goes down, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.up and not self.ready:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            pass

    async def wait_until_idle(self, timeout_s: float) -> None:
        """Until no request is under way, the link goes down, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._session is not None and self._session.in_flight + self._queued:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            pass

    async def open(self) -> None:
        """The first connection.

        Raises:
            ConfigError: the URL is none. ServerUnreachable: nobody answers. ServerRefused: it says no.
        """
        self._adopt(*await self._connect())

    async def run(self) -> None:
        """Serve the connection, and make a new one whenever it ends, until cancelled."""
        try:
            while True:
                if self._websocket is None:
                    await asyncio.sleep(self._backoff.next_s())
                    try:
                        self._adopt(*await self._connect())
                    except SpinnError as error:
                        log.debug("no connection yet: %s", error)
                        continue
                    except Exception:
                        log.exception("connecting failed for a reason of our own")
                        continue
                try:
                    why = await self._serve()
                except Exception:  # our own fault; a new connection is still better than none
                    log.exception("the connection failed for a reason of our own")
                    why = "internal"
                self._drop(why)
        finally:
            if self._websocket is not None:
                websocket, self._websocket = self._websocket, None
                await _quietly(websocket.close())

    def _adopt(self, websocket: ClientConnection, session: ClientSession) -> None:
        self._websocket, self._session = websocket, session
        self._backoff.reset()
        self._events.on_up()

    def _drop(self, why: str) -> None:
        if self._websocket is not None:
            self._websocket.transport.abort()  # nobody there to say good-bye to
        lost = self._session.close() if self._session is not None else []
        while not self._outgoing.empty():
            item = self._outgoing.get_nowait()
            if item.deadline is not None:
                lost.append(item.request)
        self._websocket = self._session = None
        for observer in self.observers:
            observer.disconnected()
        self.server_profile = self.server_queue_ms = self.server_load = None
        self._queued = self._queued_bytes = 0
        self._sent.clear()
        self._room.set()
        self._events.on_down(lost, why)

    async def _connect(self) -> tuple[ClientConnection, ClientSession]:
        host = self._config.url
        websocket = await self._dial(host, self._config.tls_ca, max_server_message_bytes(self._bundle))
        session = ClientSession(self._bundle, SUPPORTED, max_in_flight=self._config.max_in_flight)
        try:
            if websocket.subprotocol != SUBPROTOCOL:
                raise ServerUnreachable(f"{host} answers but does not speak {SUBPROTOCOL}; is it a spinn server?")
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                hello = session.hello(token=self._config.token, client=f"spinn-client/{version('spinn-client')}")
                await websocket.send(hello)
                data = await websocket.recv(decode=False)
            if not isinstance(session.receive(data), Opened):
                raise ServerRefused(f"{host} did not welcome us")
        except BaseException as error:
            await _quietly(websocket.close())
            if isinstance(error, TimeoutError):
                raise ServerUnreachable(f"{host} did not welcome us within {CONNECT_TIMEOUT_S:.0f} s") from error
            if isinstance(error, ConnectionClosed | ProtocolError):
                raise ServerUnreachable(f"{host} ended the session at once: {error}") from error
            raise
        return websocket, session

    async def _serve(self) -> str:
        """Move messages until the connection ends; says why it did."""
        tasks = [
            asyncio.create_task(self._ping(), name="link ping"),
            asyncio.create_task(self._read(), name="link read"),
            asyncio.create_task(self._write(), name="link write"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            return "the server closed the connection"
        except (ConnectionClosed, OSError, SpinnError) as error:
            return str(error)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        assert self._websocket is not None and self._session is not None
        while True:
            data = await self._websocket.recv(decode=False)
            self.bytes_down += len(data)
            event = self._session.receive(data)
            self._room.set()
            if isinstance(event, Result):
                now = self._now()
                for observer in self.observers:
                    observer.answered(event.id, now, arrived_ms=event.arrived_ms, left_ms=event.left_ms)
                sent = self._sent.pop(event.id, None)
                if sent is not None:
                    self._observe_rtt((now - sent.at) * 1000 - (event.left_ms - event.arrived_ms))
                self._events.on_answer(event)
            elif isinstance(event, Reject) and event.id is not None:
                self._sent.pop(event.id, None)
                for observer in self.observers:
                    observer.refused(event.id, self._now())
                self._events.on_reject(event)
            elif isinstance(event, Load):
                self.server_queue_ms, self.server_load = event.queue_ms, event.factor
            elif isinstance(event, ProfileReceived):
                self.server_profile = event.profile

    async def _write(self) -> None:
        assert self._websocket is not None and self._session is not None
        while True:
            item = await self._outgoing.get()
            now = self._now()
            data: bytes | None
            if item.deadline is None or item.plan is None:
                data = self._session.cancel(item.request)
            else:
                self._queued -= 1
                self._queued_bytes -= len(item.payload)
                if item.deadline <= now:
                    self._room.set()
                    continue
                data = self._session.infer(
                    item.request,
                    item.plan.split,
                    self._codec(item.plan),
                    item.plan.confidence_threshold,
                    (item.deadline - now) * 1000,
                    item.payload,
                )
                self._sent[item.request] = _Sent(now, item.deadline)
                for observer in self.observers:
                    observer.sent(item.request, len(data), now)
            if data is not None:
                self.bytes_up += len(data)
                await self._websocket.send(data)

    async def _ping(self) -> None:
        assert self._websocket is not None
        while self.observers:
            pong = await self._websocket.ping()  # the first one before anything is queued
            rtt_ms = 1000 * await pong
            for observer in self.observers:
                observer.ponged(rtt_ms, self._now())
            self._ping_soon.clear()  # whatever was asked for before is answered by this one
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_S):
                    await self._ping_soon.wait()
        await asyncio.Event().wait()  # nothing to do

    def _codec(self, plan: Plan) -> str:
        return default_setting(self._bundle, plan.split, plan.codec).codec

    def _observe_rtt(self, ms: float) -> None:
        self.rtt_ms = ms if self.rtt_ms is None else 0.9 * self.rtt_ms + 0.1 * ms


async def _quietly(closing: Coroutine[Any, Any, None]) -> None:
    """Close without caring how the other end takes it."""
    with contextlib.suppress(OSError, ConnectionClosed, TimeoutError):
        await closing
