"""The link to one server: connected, watched, and made anew for as long as it is wanted."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection

from spinn_stream.bundle import Bundle
from spinn_stream.codec import PayloadSender
from spinn_stream.errors import ServerRefused, SpinnError
from spinn_stream.plan import Plan
from spinn_stream.profile import Profile
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host
from spinn_stream.wire import Event, Load, ProfileReceived, Reject, max_server_message_bytes

from .config import LinkConfig
from .connection import Connection, LinkObserver, greet
from .dial import dial
from .supervisor import State, Supervisor

log = logging.getLogger(__name__)

Dial = Callable[[str, Path | None, int], Coroutine[Any, Any, ClientConnection]]
"""As `dial`."""


class ServerEvents(Protocol):
    """What one server's link tells its owner, on the event loop."""

    def on_message(self, server: ServerLink, event: Event) -> None:
        """A result or reject."""

    def on_room(self) -> None:
        """One more request may have found room."""

    def on_up(self, server: ServerLink) -> None: ...

    def on_refused(self, server: ServerLink, why: str) -> None:
        """The server answers and says no; it is asked again."""

    def on_down(self, server: ServerLink, lost: list[int], why: str) -> None: ...


class ServerLink:
    """One server, connected to again for ever while `run` runs.

    Args:
        config: which server. events: told what happens.
    """

    def __init__(
        self,
        config: LinkConfig,
        bundle: Bundle,
        rng: random.Random,
        events: ServerEvents,
        *,
        group_of: Sequence[int] | None = None,
        host: Host = THIS_MACHINE,
        dial: Dial = dial,
    ) -> None:
        self.config = config
        self._bundle = bundle
        self._events = events
        self._group_of = group_of
        self._now = host.clock
        self._dial = dial
        self._supervisor = Supervisor(rng)
        self._connection: Connection | None = None
        self._observers: list[LinkObserver] = []
        self._bytes = [0, 0]  # up and down, of earlier connections
        self._next_at = 0.0  # no frame is sent before, see `max_fps`
        self.profile: Profile | None = None  # these three: None until the server says so, and while it is away
        self.queue_ms: float | None = None
        self.load: float | None = None  # 1.0: as fast as its profile

    @property
    def up(self) -> bool:
        return self._connection is not None

    @property
    def well(self) -> bool:
        """Connected, and no request is overdue."""
        return self.up and self._supervisor.look(self._now()) is State.CONNECTED

    @property
    def well_s(self) -> float:
        """For how long it has been well; 0.0: it is not."""
        return self._now() - self._supervisor.since if self.well else 0.0

    @property
    def ready(self) -> bool:
        """Whether there is room for one more request."""
        return self._connection is not None and self._connection.ready

    @property
    def sender(self) -> PayloadSender | None:
        """Codes what is sent on the present connection; None: there is none."""
        return None if self._connection is None else self._connection.sender

    def limits(self, now: float) -> bool:
        """Whether it has had as many frames as `max_fps` allows by now."""
        return now < self._next_at

    @property
    def rtt_ms(self) -> float | None:
        return None if self._connection is None else self._connection.rtt_ms

    @property
    def bytes_up(self) -> int:
        return self._bytes[0] + (self._connection.bytes_up if self._connection is not None else 0)

    @property
    def bytes_down(self) -> int:
        return self._bytes[1] + (self._connection.bytes_down if self._connection is not None else 0)

    def observe(self, observer: LinkObserver) -> None:
        """Tell it of all that passes from now on."""
        self._observers.append(observer)

    def send(self, request: int, plan: Plan, payload: bytes, deadline: float, sender: PayloadSender | None) -> bool:
        """Queue a request; see `Link.send`."""
        connection = self._connection
        if connection is None or sender not in (None, connection.sender):
            return False
        if not connection.send(request, plan, payload, deadline):
            return False
        if self.config.max_fps is not None:  # one second's frames, once little was sent, may not follow each other
            self._next_at = max(self._next_at, self._now() - 1 / self.config.max_fps) + 1 / self.config.max_fps
        return True

    def cancel(self, request: int) -> None:
        """See `Connection`."""
        if self._connection is not None:
            self._connection.cancel(request)

    def ping_soon(self) -> None:
        """Somebody wants to know the round trip without a request's bytes; now rather than at the next turn."""
        if self._connection is not None:
            self._connection.ping_soon()

    @property
    def under_way(self) -> int:
        """Requests without an answer."""
        return 0 if self._connection is None else self._connection.under_way

    async def wait_until_idle(self) -> None:
        """Until no request is under way, or the link goes down."""
        if self._connection is not None:
            await self._connection.wait_until_idle()

    async def open(self) -> None:
        """The first connection; nothing is read from it before `run`.

        Raises:
            ConfigError: the URL is none. ServerUnreachable: nobody answers. ServerRefused: it says no.
        """
        self._supervisor.tries(self._now())
        try:
            websocket = await self._dial(self.config.url, self.config.tls_ca, max_server_message_bytes(self._bundle))
            session = await greet(websocket, self._bundle, self.config, self._group_of)
        except BaseException:
            self._supervisor.ended(self._now())
            raise
        self._supervisor.welcomed(self._now())
        self._connection = Connection(
            websocket, session, self._bundle, self.config, self._supervisor, self._observers, self._now,
            receive=self._receive, room=self._events.on_room,
        )  # fmt: skip

    async def run(self) -> None:
        """Serve the connection, and make a new one whenever it ends, until cancelled."""
        try:
            while True:
                if self._connection is None:
                    await asyncio.sleep(self._supervisor.pause_s())
                    try:
                        await self.open()
                    except ServerRefused as error:
                        self._events.on_refused(self, str(error))
                        continue
                    except SpinnError as error:
                        log.debug("no connection yet: %s", error)
                        continue
                assert self._connection is not None
                self._events.on_up(self)
                why = await self._connection.serve()
                self._drop(self._connection, why)
        finally:
            await self.close()

    async def close(self) -> None:
        """Say good-bye, if anybody is there, and end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._count(connection)
            self._supervisor.ended(self._now())
            await connection.close()

    def _count(self, connection: Connection) -> None:
        self._bytes = [self._bytes[0] + connection.bytes_up, self._bytes[1] + connection.bytes_down]

    def _drop(self, connection: Connection, why: str) -> None:
        lost = connection.drop()
        self._count(connection)
        self._connection = None
        self._supervisor.ended(self._now())
        for observer in self._observers:
            observer.disconnected()
        self.profile = self.queue_ms = self.load = None
        self._events.on_down(self, lost, why)

    def _receive(self, event: Event) -> None:
        if isinstance(event, Load):
            self.queue_ms, self.load = event.queue_ms, event.factor
        elif isinstance(event, ProfileReceived):
            self.profile = event.profile
        else:
            if isinstance(event, Reject) and event.reason == "overloaded":
                self.queue_ms = event.queue_ms  # sooner than the next word of the load
            self._events.on_message(self, event)
