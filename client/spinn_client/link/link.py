"""The servers of one stream, in order of preference: which of them frames go to, and which are kept connected.

Frames go to the first server that is well. If it is in doubt, the next one that is well takes over at once; the better
one gets them back when it has been well for HEALTHY_S, so that frames do not go back and forth.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Protocol

from spinn_stream.bundle import Bundle
from spinn_stream.codec import PayloadSender
from spinn_stream.errors import ServerUnreachable
from spinn_stream.plan import Plan
from spinn_stream.profile import Profile
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host
from spinn_stream.wire import Event, Reject, Result

from .config import LinkConfig
from .connection import LinkObserver
from .dial import dial
from .server_link import Dial, ServerLink
from .supervisor import HEALTHY_S, PING_S


class LinkEvents(Protocol):
    """What the link tells its owner, on the event loop. server: its address."""

    def on_answer(self, message: Result, server: str) -> None: ...

    def on_reject(self, message: Reject) -> None: ...

    def on_room(self) -> None:
        """One more request may have found room."""

    def on_up(self, server: str) -> None: ...

    def on_refused(self, server: str, why: str) -> None:
        """The server answers and says no; it is asked again."""

    def on_down(self, server: str, lost: list[int], why: str) -> None: ...

    def on_switch(self, before: str, server: str) -> None:
        """Frames go to another server from now on."""


class Link:
    """All servers of a stream; one is a common number.

    Args:
        configs: at least one, the preferred one first. One that is not warm is connected only while those before it
            are not well.
    """

    def __init__(
        self,
        configs: Sequence[LinkConfig],
        bundle: Bundle,
        rng: random.Random,
        *,
        group_of: Sequence[int] | None = None,
        host: Host = THIS_MACHINE,
        dial: Dial = dial,
    ) -> None:
        self.servers = [
            ServerLink(config, bundle, rng, self, group_of=group_of, host=host, dial=dial) for config in configs
        ]
        self.active = 0  # index of the server that frames go to now
        self._events: LinkEvents | None = None
        self._running: dict[int, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    # Which server

    def choose(self) -> None:
        """Look which server frames are to go to from now on."""
        before = self.server
        for index, server in enumerate(self.servers):
            if not server.well:
                continue
            if server is not before and (server.well_s >= HEALTHY_S or not before.well):
                self.active = index
                self._changed.set()
                if self._events is not None:
                    self._events.on_switch(before.config.url, server.config.url)
            if server is before or self.active == index:
                return

    @property
    def server(self) -> ServerLink:
        """The one that frames go to now."""
        return self.servers[self.active]

    @property
    def up(self) -> bool:
        return self.server.up

    @property
    def ready(self) -> bool:
        """Whether there is room for one more request."""
        return self.server.ready

    @property
    def sender(self) -> PayloadSender | None:
        """Codes what is sent on the present connection; None: there is none."""
        return self.server.sender

    @property
    def rtt_ms(self) -> float | None:
        return self.server.rtt_ms

    @property
    def server_profile(self) -> Profile | None:
        return self.server.profile

    @property
    def server_queue_ms(self) -> float | None:
        return self.server.queue_ms

    @property
    def server_load(self) -> float | None:
        return self.server.load

    @property
    def bytes_up(self) -> int:
        return sum(server.bytes_up for server in self.servers)

    @property
    def bytes_down(self) -> int:
        return sum(server.bytes_down for server in self.servers)

    # Requests

    def observe(self, observer: LinkObserver) -> None:
        """Tell it of all that passes from now on, to whichever server."""
        for server in self.servers:
            server.observe(observer)

    def send(self, request: int, plan: Plan, payload: bytes, deadline: float, sender: PayloadSender | None) -> bool:
        """Queue a request.

        Args:
            sender: what coded the payload, which means nothing on another connection; None: it stands for itself.

        Returns:
            False: no request may be sent now, the connection is another one, or the server takes no such payload.
        """
        return self.server.send(request, plan, payload, deadline, sender)

    def cancel(self, request: int) -> None:
        """Tell whichever server has it that the answer came too late to be of use."""
        for server in self.servers:
            server.cancel(request)

    def limits(self, now: float) -> bool:
        """See `ServerLink`."""
        return self.server.limits(now)

    def ping_soon(self) -> None:
        """See `ServerLink`."""
        self.server.ping_soon()

    async def wait_until_idle(self, timeout_s: float) -> None:
        """Until no request is under way, all links are down, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(server.wait_until_idle() for server in self.servers))

    # Connections

    async def open(self) -> None:
        """The first connection, to the first server that accepts one.

        Raises:
            ConfigError: a URL is none. ServerUnreachable: nobody answers. ServerRefused: it says no.
        """
        errors = []
        for index, server in enumerate(self.servers):
            try:
                await server.open()
            except ServerUnreachable as error:
                errors.append(error)
            else:
                self.active = index
                return
        raise errors[0] if len(errors) == 1 else ServerUnreachable("; ".join(map(str, errors)))

    async def run(self, events: LinkEvents) -> None:
        """Keep those connected that are wanted, until cancelled."""
        self._events = events
        try:
            while True:
                self._tend()
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PING_S if len(self.servers) > 1 else None):
                        await self._changed.wait()
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)
            await self.close()

    async def close(self) -> None:
        """Say good-bye to all."""
        await asyncio.gather(*(server.close() for server in self.servers))

    def _tend(self) -> None:
        """Begin with the servers that are wanted, and end with those that are not and have nothing to answer."""
        self.choose()
        for index, server in enumerate(self.servers):
            wanted = server.config.warm or index <= self.active or not self.server.well
            task = self._running.get(index)
            if task is not None and task.done():
                del self._running[index]
                if not task.cancelled():
                    task.result()  # a fault of ours: the owner is to know
                task = None
            if wanted and task is None:
                self._running[index] = asyncio.create_task(server.run(), name=f"the link to {server.config.url}")
                self._running[index].add_done_callback(lambda _: self._changed.set())
            elif not wanted and task is not None and not server.under_way and not task.cancelling():
                task.cancel()  # it says good-bye, and is looked at again when it has ended

    # See `ServerEvents`

    def on_message(self, server: ServerLink, event: Event) -> None:
        assert self._events is not None
        if isinstance(event, Result):
            self._events.on_answer(event, server.config.url)
        elif isinstance(event, Reject) and event.id is not None:
            self._events.on_reject(event)

    def on_room(self) -> None:
        assert self._events is not None
        self._events.on_room()

    def on_up(self, server: ServerLink) -> None:
        assert self._events is not None
        self._events.on_up(server.config.url)
        self.choose()
        self._changed.set()

    def on_refused(self, server: ServerLink, why: str) -> None:
        assert self._events is not None
        self._events.on_refused(server.config.url, why)

    def on_down(self, server: ServerLink, lost: list[int], why: str) -> None:
        assert self._events is not None
        self.choose()
        self._changed.set()
        self._events.on_down(server.config.url, lost, why)
