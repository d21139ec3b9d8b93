"""One session with one server: messages out, messages in, and what is under way. It ends once and for all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from spinn_stream.bundle import Bundle
from spinn_stream.codec import SUPPORTED, PayloadSender
from spinn_stream.errors import ProtocolError, ServerRefused, ServerUnreachable, SpinnError
from spinn_stream.plan import Plan
from spinn_stream.wire import SUBPROTOCOL, ClientSession, Event, Opened, Reject, Result

from .config import LinkConfig
from .dial import CONNECT_TIMEOUT_S
from .supervisor import PING_S, State, Supervisor
from .window import Window

log = logging.getLogger(__name__)

GOOD_BYE_S = 0.3
"""How long a server may take to answer our good-bye."""


class LinkObserver(Protocol):
    """Learns of the link from what passes. Times in seconds on the host's clock, stamps on the server's."""

    def sent(self, request: int, size: int, now: float) -> None: ...

    def answered(self, request: int, now: float, *, arrived_ms: float, left_ms: float) -> None: ...

    def refused(self, request: int, now: float) -> None: ...

    def ponged(self, rtt_ms: float, now: float) -> None: ...

    def disconnected(self) -> None: ...


@dataclass(frozen=True)
class _Outgoing:
    request: int
    deadline: float | None  # None: a cancellation
    plan: Plan | None
    payload: bytes


class Connection:
    """From the welcome to the end. Owns its tasks while `serve` runs.

    A request counts as under way from `send` until the server acknowledges it or the connection ends. The outgoing
    queue is bounded by that; a request whose deadline passes in the queue is not sent.

    Args:
        supervisor: is told what is sent and heard, and says when to end. observers: learn of what passes; may grow.
        receive: gets each of the session's events. room: called if one more request may have found room.
    """

    def __init__(
        self,
        websocket: ClientConnection,
        session: ClientSession,
        bundle: Bundle,
        config: LinkConfig,
        supervisor: Supervisor,
        observers: Sequence[LinkObserver],
        clock: Callable[[], float],
        *,
        receive: Callable[[Event], None],
        room: Callable[[], None],
    ) -> None:
        self._websocket = websocket
        self._session = session
        self.sender = PayloadSender(bundle)
        self._config = config
        self._supervisor = supervisor
        self._observers = observers
        self._now = clock
        self._receive = receive
        self._room = room
        self._outgoing: asyncio.Queue[_Outgoing] = asyncio.Queue(2 * config.max_in_flight)
        self._queued = 0  # requests among them
        self._sent_at: dict[int, float] = {}  # in flight
        self._window = Window()
        self._idle = asyncio.Event()
        self._ping_soon = asyncio.Event()
        self.bytes_up = self.bytes_down = 0
        self.rtt_ms: float | None = None  # smoothed: round trip of a request without the server's own time

    @property
    def ready(self) -> bool:
        """Whether there is room for one more request."""
        if not self._may_send:
            return False
        now = self._now()
        for request in self._supervisor.overtaken:
            self._window.settled(request, now, answered=False)
        return self._window.open(now)

    @property
    def _may_send(self) -> bool:
        if not self._session.ready or self._session.in_flight + self._queued >= self._config.max_in_flight:
            return False
        return self._supervisor.look(self._now()) is State.CONNECTED  # else it is to catch up

    @property
    def under_way(self) -> int:
        """Requests without an answer."""
        return self._session.in_flight + self._queued

    def send(self, request: int, plan: Plan, payload: bytes, deadline: float) -> bool:
        """Queue a request, also if it finds no room any more. False: none may be sent, or the server takes no such."""
        if not self._may_send or self._outgoing.full() or plan.codec is None:
            return False
        if not self._session.takes(plan.codec.codec, len(payload)):
            return False
        self._outgoing.put_nowait(_Outgoing(request, deadline, plan, payload))
        self._queued += 1
        self._window.sent(request, len(payload), self._now())
        return True

    def cancel(self, request: int) -> None:
        """Tell the server that the answer came too late to be of use. Dropped if the queue is full."""
        if not self._outgoing.full():
            self._outgoing.put_nowait(_Outgoing(request, None, None, b""))

    def ping_soon(self) -> None:
        """Now rather than at the next turn."""
        self._ping_soon.set()

    async def wait_until_idle(self) -> None:
        """Until no request is under way."""
        while self.under_way:
            self._idle.clear()
            await self._idle.wait()

    async def serve(self) -> str:
        """Move messages until the connection ends; says why it did."""
        tasks = [
            asyncio.create_task(self._watch(), name="link watch"),
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
        except Exception:  # our own fault; a new connection is still better than none
            log.exception("the connection to %s failed for a reason of our own", self._config.url)
            return "a fault in this program, see the log"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def drop(self) -> list[int]:
        """End it without a good-bye; gives the requests that nobody will answer."""
        self._websocket.transport.abort()
        lost = self._session.close()
        while not self._outgoing.empty():
            item = self._outgoing.get_nowait()
            if item.deadline is not None:
                lost.append(item.request)
        self._queued = 0
        self._idle.set()
        return lost

    async def close(self) -> None:
        """Say good-bye and end."""
        await _quietly(self._websocket)
        self._idle.set()

    async def _read(self) -> None:
        while True:
            data = await self._websocket.recv(decode=False)
            now = self._now()
            self.bytes_down += len(data)
            self._supervisor.heard(now)
            event = self._session.receive(data)
            if isinstance(event, Result):
                for observer in self._observers:
                    observer.answered(event.id, now, arrived_ms=event.arrived_ms, left_ms=event.left_ms)
                self._observe_rtt((now - self._sent_at[event.id]) * 1000 - (event.left_ms - event.arrived_ms))
                self.sender.acknowledge(event.id)
                self._settled(event.id, now, answered=True)
            elif isinstance(event, Reject) and event.id is not None:
                for observer in self._observers:
                    observer.refused(event.id, now)
                if event.reason == "no_reference":
                    self.sender.reset()
                self._settled(event.id, now, answered=False)
            if event is not None:
                self._receive(event)
            self._idle.set()
            self._room()

    def _settled(self, request: int, now: float, *, answered: bool) -> None:
        self._sent_at.pop(request, None)
        self._window.settled(request, now, answered=answered)
        self._supervisor.settled(request, now)

    async def _write(self) -> None:
        while True:
            item = await self._outgoing.get()
            now = self._now()
            data: bytes | None
            if item.deadline is None or item.plan is None or item.plan.codec is None:
                data = self._session.cancel(item.request)
            else:
                self._queued -= 1
                if item.deadline <= now:
                    self._window.settled(item.request, now, answered=False)
                    self._idle.set()
                    self._room()
                    continue
                data = self._session.infer(
                    item.request,
                    item.plan.split,
                    item.plan.codec.codec,
                    item.plan.confidence_threshold,
                    (item.deadline - now) * 1000,
                    item.payload,
                    may_shorten=self._config.may_shorten,
                )
                self._sent_at[item.request] = now
                self._supervisor.sent(item.request, item.deadline)
                for observer in self._observers:
                    observer.sent(item.request, len(data), now)
            if data is not None:
                self.bytes_up += len(data)
                await self._websocket.send(data)

    async def _watch(self) -> None:
        """Ping, and see whether anybody is there."""
        waits: asyncio.Task[None] | None = None
        try:
            while True:
                now = self._now()
                why = self._supervisor.dead(now)
                if why is not None:
                    raise ServerUnreachable(why)
                for request in self._supervisor.given_up(now):
                    log.info("request %d was never answered", request)
                    self._session.give_up(request)
                    self._sent_at.pop(request, None)
                    self._window.settled(request, now, answered=False)
                    for observer in self._observers:
                        observer.refused(request, now)
                    self._room()
                if not self._supervisor.ping_under_way:
                    self._supervisor.pinged(now)
                    waits = asyncio.create_task(self._ping(), name="link ping")
                self._ping_soon.clear()  # whatever was asked for before is answered by this one
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PING_S):
                        await self._ping_soon.wait()
        finally:
            if waits is not None:
                waits.cancel()

    async def _ping(self) -> None:
        try:
            rtt_ms = 1000 * await (await self._websocket.ping())
        except ConnectionClosed:  # who reads finds out, too
            return
        now = self._now()
        self._supervisor.heard(now, pong=True)
        for observer in self._observers:
            observer.ponged(rtt_ms, now)

    def _observe_rtt(self, ms: float) -> None:
        self.rtt_ms = ms if self.rtt_ms is None else 0.9 * self.rtt_ms + 0.1 * ms


async def greet(
    websocket: ClientConnection, bundle: Bundle, config: LinkConfig, group_of: Sequence[int] | None
) -> ClientSession:
    """Say hello and be welcomed. Ends the WebSocket if that fails.

    Raises:
        ServerUnreachable: no welcome, or from somebody else. ServerRefused: the server says no.
    """
    url = config.url
    session = ClientSession(bundle, SUPPORTED, max_in_flight=config.max_in_flight, group_of=group_of)
    try:
        if websocket.subprotocol != SUBPROTOCOL:
            raise ServerUnreachable(f"{url} answers but does not speak {SUBPROTOCOL}; is it a spinn server?")
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await websocket.send(session.hello(token=config.token, client=f"spinn-client/{version('spinn-client')}"))
            data = await websocket.recv(decode=False)
        if not isinstance(session.receive(data), Opened):
            raise ServerRefused(f"{url} did not welcome us")
    except BaseException as error:
        await _quietly(websocket)
        if isinstance(error, TimeoutError):
            raise ServerUnreachable(f"{url} did not welcome us within {CONNECT_TIMEOUT_S:.0f} s") from error
        if isinstance(error, ConnectionClosed | ProtocolError):
            raise ServerUnreachable(f"{url} ended the session at once: {error}") from error
        raise
    return session


async def _quietly(websocket: ClientConnection) -> None:
    """Close without caring how the other end takes it, and without waiting long for that."""
    with contextlib.suppress(OSError, ConnectionClosed, TimeoutError):
        async with asyncio.timeout(GOOD_BYE_S):
            await websocket.close()
    websocket.transport.abort()
