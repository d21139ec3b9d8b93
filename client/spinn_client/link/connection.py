"""The connection to the server: kept up, counted, and never waited for by a frame."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from spinn_client.backoff import Backoff
from spinn_stream.bundle import Bundle
from spinn_stream.codec import SUPPORTED, PayloadSender
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

from .config import LinkConfig
from .dial import CONNECT_TIMEOUT_S, dial

log = logging.getLogger(__name__)

PING_S = 0.5
"""Between two pings, if anybody observes the link: requests of one size cannot tell a slow link from a far one."""

GOOD_BYE_S = 0.3
"""How long a server may take to answer our good-bye."""

Dial = Callable[[str, Path | None, int], Coroutine[Any, Any, ClientConnection]]
"""As `dial`."""


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

    def on_room(self) -> None:
        """One more request may have found room."""

    def on_up(self) -> None: ...

    def on_refused(self, why: str) -> None:
        """The server answers and says no; it is asked again."""

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


@dataclass(frozen=True)
class _Connection:
    """What lives and ends with one connection."""

    websocket: ClientConnection
    session: ClientSession
    sender: PayloadSender


class Link:
    """One server, reconnected to for ever once `open` has succeeded or was allowed to fail.

    A request counts as under way from `send` until the server acknowledges it or the connection ends. The
    outgoing queue is bounded by that; a request whose deadline passes in the queue is not sent.
    """

    def __init__(
        self,
        config: LinkConfig,
        bundle: Bundle,
        rng: random.Random,
        *,
        group_of: Sequence[int] | None = None,
        host: Host = THIS_MACHINE,
        dial: Dial = dial,
    ) -> None:
        self.config = config
        self._bundle = bundle
        self._group_of = group_of
        self._now = host.clock
        self._dial = dial
        self._backoff = Backoff(rng)
        self._connection: _Connection | None = None
        self._outgoing: asyncio.Queue[_Outgoing] = asyncio.Queue(2 * config.max_in_flight)
        self._queued = self._queued_bytes = 0  # requests among them, and their payloads'
        self._sent: dict[int, _Sent] = {}  # in flight, oldest first
        self._idle = asyncio.Event()
        self._ping_soon = asyncio.Event()
        self._observers: list[LinkObserver] = []
        self.bytes_up = 0
        self.bytes_down = 0
        self.rtt_ms: float | None = None  # smoothed: round trip of a request without the server's own time
        self.server_profile: Profile | None = None  # these three: None until the server says so, and while it is away
        self.server_queue_ms: float | None = None
        self.server_load: float | None = None  # 1.0: as fast as its profile

    @property
    def up(self) -> bool:
        return self._connection is not None

    @property
    def ready(self) -> bool:
        """Whether one more request may be given to `send` now."""
        if self._connection is None:
            return False
        session = self._connection.session
        if not session.ready or session.in_flight + self._queued >= self.config.max_in_flight:
            return False
        oldest = next(iter(self._sent.values()), None)
        return oldest is None or oldest.deadline > self._now()  # else the link is behind: let it catch up

    @property
    def sender(self) -> PayloadSender | None:
        """Codes what is sent on the present connection; None: there is none."""
        return None if self._connection is None else self._connection.sender

    @property
    def queued_bytes(self) -> int:
        """Of payloads that were given to `send` and not yet to the connection."""
        return self._queued_bytes

    def observe(self, observer: LinkObserver) -> None:
        """Tell it of all that passes from now on."""
        self._observers.append(observer)

    def send(self, request: int, plan: Plan, payload: bytes, deadline: float, sender: PayloadSender | None) -> bool:
        """Queue a request.

        Args:
            sender: what coded the payload, which means nothing on another connection; None: it stands for itself.

        Returns:
            False: the link is not `ready`, the connection is another one by now, or the server takes no such payload.
        """
        connection = self._connection
        if connection is None or not self.ready or self._outgoing.full() or plan.codec is None:
            return False
        if sender not in (None, connection.sender) or not connection.session.takes(plan.codec.codec, len(payload)):
            return False
        self._outgoing.put_nowait(_Outgoing(request, deadline, plan, payload))
        self._queued += 1
        self._queued_bytes += len(payload)
        return True

    def ping_soon(self) -> None:
        """Somebody wants to know the round trip without a request's bytes; now rather than at the next turn."""
        self._ping_soon.set()

    def cancel(self, request: int) -> None:
        """Tell the server that the answer came too late to be of use. Dropped if the queue is full."""
        if self.up and not self._outgoing.full():
            self._outgoing.put_nowait(_Outgoing(request, None, None, b""))

    async def wait_until_idle(self, timeout_s: float) -> None:
        """Until no request is under way, the link goes down, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._connection is not None and self._connection.session.in_flight + self._queued:
                    self._idle.clear()
                    await self._idle.wait()

    async def open(self) -> None:
        """The first connection; nothing is read from it before `run`.

        Raises:
            ConfigError: the URL is none. ServerUnreachable: nobody answers. ServerRefused: it says no.
        """
        self._connection = await self._connect()

    async def run(self, events: LinkEvents) -> None:
        """Serve the connection, and make a new one whenever it ends, until cancelled."""
        try:
            while True:
                if self._connection is None:
                    await asyncio.sleep(self._backoff.next_s())
                    try:
                        self._connection = await self._connect()
                    except ServerRefused as error:
                        events.on_refused(str(error))
                        continue
                    except SpinnError as error:
                        log.debug("no connection yet: %s", error)
                        continue
                self._backoff.reset()
                events.on_up()
                why = await self._serve(self._connection, events)
                self._drop(self._connection, why, events)
        finally:
            await self.close()

    async def close(self) -> None:
        """Say good-bye, if anybody is there, and end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await _quietly(connection.websocket)

    def _drop(self, connection: _Connection, why: str, events: LinkEvents) -> None:
        connection.websocket.transport.abort()  # nobody there to say good-bye to
        lost = connection.session.close()
        while not self._outgoing.empty():
            item = self._outgoing.get_nowait()
            if item.deadline is not None:
                lost.append(item.request)
        self._connection = None
        for observer in self._observers:
            observer.disconnected()
        self.server_profile = self.server_queue_ms = self.server_load = None
        self._queued = self._queued_bytes = 0
        self._sent.clear()
        self._idle.set()
        events.on_down(lost, why)

    async def _connect(self) -> _Connection:
        host = self.config.url
        websocket = await self._dial(host, self.config.tls_ca, max_server_message_bytes(self._bundle))
        session = ClientSession(
            self._bundle, SUPPORTED, max_in_flight=self.config.max_in_flight, group_of=self._group_of
        )
        try:
            if websocket.subprotocol != SUBPROTOCOL:
                raise ServerUnreachable(f"{host} answers but does not speak {SUBPROTOCOL}; is it a spinn server?")
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                hello = session.hello(token=self.config.token, client=f"spinn-client/{version('spinn-client')}")
                await websocket.send(hello)
                data = await websocket.recv(decode=False)
            if not isinstance(session.receive(data), Opened):
                raise ServerRefused(f"{host} did not welcome us")
        except BaseException as error:
            await _quietly(websocket)
            if isinstance(error, TimeoutError):
                raise ServerUnreachable(f"{host} did not welcome us within {CONNECT_TIMEOUT_S:.0f} s") from error
            if isinstance(error, ConnectionClosed | ProtocolError):
                raise ServerUnreachable(f"{host} ended the session at once: {error}") from error
            raise
        return _Connection(websocket, session, PayloadSender(self._bundle))

    async def _serve(self, connection: _Connection, events: LinkEvents) -> str:
        """Move messages until the connection ends; says why it did."""
        tasks = [
            asyncio.create_task(self._ping(connection), name="link ping"),
            asyncio.create_task(self._read(connection, events), name="link read"),
            asyncio.create_task(self._write(connection, events), name="link write"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            return "the server closed the connection"
        except (ConnectionClosed, OSError, SpinnError) as error:
            return str(error)
        except Exception:  # our own fault; a new connection is still better than none
            log.exception("the connection to %s failed for a reason of our own", self.config.url)
            return "a fault in this program, see the log"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, connection: _Connection, events: LinkEvents) -> None:
        while True:
            data = await connection.websocket.recv(decode=False)
            self.bytes_down += len(data)
            event = connection.session.receive(data)
            if isinstance(event, Result):
                now = self._now()
                for observer in self._observers:
                    observer.answered(event.id, now, arrived_ms=event.arrived_ms, left_ms=event.left_ms)
                sent = self._sent.pop(event.id, None)
                if sent is not None:
                    self._observe_rtt((now - sent.at) * 1000 - (event.left_ms - event.arrived_ms))
                connection.sender.acknowledge(event.id)
                events.on_answer(event)
            elif isinstance(event, Reject) and event.id is not None:
                self._sent.pop(event.id, None)
                for observer in self._observers:
                    observer.refused(event.id, self._now())
                if event.reason == "no_reference":
                    connection.sender.reset()
                events.on_reject(event)
            elif isinstance(event, Load):
                self.server_queue_ms, self.server_load = event.queue_ms, event.factor
            elif isinstance(event, ProfileReceived):
                self.server_profile = event.profile
            self._idle.set()
            events.on_room()

    async def _write(self, connection: _Connection, events: LinkEvents) -> None:
        while True:
            item = await self._outgoing.get()
            now = self._now()
            data: bytes | None
            if item.deadline is None or item.plan is None or item.plan.codec is None:
                data = connection.session.cancel(item.request)
            else:
                self._queued -= 1
                self._queued_bytes -= len(item.payload)
                if item.deadline <= now:
                    self._idle.set()
                    events.on_room()
                    continue
                data = connection.session.infer(
                    item.request,
                    item.plan.split,
                    item.plan.codec.codec,
                    item.plan.confidence_threshold,
                    (item.deadline - now) * 1000,
                    item.payload,
                )
                self._sent[item.request] = _Sent(now, item.deadline)
                for observer in self._observers:
                    observer.sent(item.request, len(data), now)
            if data is not None:
                self.bytes_up += len(data)
                await connection.websocket.send(data)

    async def _ping(self, connection: _Connection) -> None:
        while self._observers:
            pong = await connection.websocket.ping()  # the first one before anything is queued
            rtt_ms = 1000 * await pong
            for observer in self._observers:
                observer.ponged(rtt_ms, self._now())
            self._ping_soon.clear()  # whatever was asked for before is answered by this one
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_S):
                    await self._ping_soon.wait()
        await asyncio.Event().wait()  # nothing to do

    def _observe_rtt(self, ms: float) -> None:
        self.rtt_ms = ms if self.rtt_ms is None else 0.9 * self.rtt_ms + 0.1 * ms


async def _quietly(websocket: ClientConnection) -> None:
    """Close without caring how the other end takes it, and without waiting long for that."""
    with contextlib.suppress(OSError, ConnectionClosed, TimeoutError):
        async with asyncio.timeout(GOOD_BYE_S):
            await websocket.close()
    websocket.transport.abort()
