"""A TCP proxy that imposes a link's capacity, delay, jitter and losses on any connection. Needs no root.

client ─► socket ─► Flow ─► Direction (one link model for all connections) ─► Flow ─► socket ─► server
                            and the same back
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from spinn_stream.errors import ConfigError
from spinn_stream.trace import DIRECTIONS, Trace

from .connection import Connection, reset, shrink
from .flow import Direction
from .link_model import LinkModel
from .settings import TRACE, Settings

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
KEPT_CHANGES = 100
NO_MORE_FILES_S = 1.0
"""If the process has no file descriptors left, it accepts again after this time, as asyncio's servers do."""


class Shaper:
    """Owns its connections, both directions of the link, and the trace's clock.

    trace: with every field (`Trace.filled`). It begins with the first connection, at `offset_s`.
    seed: of jitter and losses.
    """

    def __init__(
        self,
        target_host: str,
        target_port: int,
        settings: Settings | None = None,
        *,
        trace: Trace | None = None,
        offset_s: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._target = (target_host, target_port)
        self.settings = settings or Settings()
        self._trace = trace
        self._offset_s = offset_s
        self._seed = seed
        self._began: float | None = None  # first connection
        self._zero = 0.0  # when the trace's time was 0
        self._directions: dict[str, Direction] = {}
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._listener: socket.socket | None = None
        self._address: Any = None
        self.changes: deque[dict[str, Any]] = deque(maxlen=KEPT_CHANGES)

    # settings, while it runs

    def change(self, changes: Mapping[str, Any]) -> float:
        """Impose other settings from now on; gives the time, on the monotonic clock.

        Besides the names of `Settings`: position_s, where the trace goes on, and reset (true), which ends every
        connection at once with a TCP reset.

        Raises:
            ValueError: what is wrong, in one line; nothing was changed.
            OSError: the port was lost to another process while connections were refused; it may be tried again.
        """
        changes = dict(changes)
        asked = dict(changes)
        position = changes.pop("position_s", None)
        end_all = changes.pop("reset", False)
        if not isinstance(end_all, bool):
            raise ValueError(f"reset is {end_all!r:.40}, expected true or false")
        if position is not None:
            if self._trace is None:
                raise ValueError("position_s is given, but there is no trace")
            if isinstance(position, bool) or not isinstance(position, int | float) or not 0 <= position <= 1e8:
                raise ValueError(f"position_s is {position!r:.40}, expected 0 to 1e8")
        settings = self.settings.changed(changes, has_trace=self._trace is not None)
        if settings.refuse != self.settings.refuse and self._directions:
            self._listen(accept=not settings.refuse)
        now = time.monotonic()
        self.settings = settings
        if position is not None:
            self._offset_s = float(position)
            self._zero = now - self._offset_s
        for name, direction in self._directions.items():
            direction.model.change(now, settings.conditions(name, self._trace, self._zero), stalled=settings.stall)
            direction.run(now)
        for connection in self._connections:
            connection.fit_buffers()
        if end_all:
            for connection in list(self._connections):
                connection.fail()
        self.changes.append({"at_s": now, **asked})
        log.info("at %.6f s: %s", now, json.dumps(asked))
        return now

    def stall(self, stalled: bool) -> None:
        """Hold back everything in both directions, or let it go again."""
        self.change({"stall": stalled})

    def state(self) -> dict[str, Any]:
        """What is imposed now, as JSON has it. now_s and at_s are on the machine's monotonic clock."""
        now = time.monotonic()
        imposed: dict[str, Any] = {}
        for field in (*DIRECTIONS, "rtt_ms", "loss"):
            value = getattr(self.settings, field)
            if value == TRACE and self._trace is not None:
                value = self._trace.value(field, self._position(now))
            imposed[field] = value
        trace = self._trace
        names = dict(zip(("up", "down"), DIRECTIONS, strict=True))
        links = {way: self._directions[name] for way, name in names.items() if name in self._directions}
        return {
            "now_s": now,
            "settings": asdict(self.settings),
            "imposed": imposed,
            "trace": trace and {"position_s": self._position(now), "duration_s": trace.duration_s},
            "connections": len(self._connections),
            **{
                way: {
                    "delivered_bytes": link.delivered_bytes,
                    "queued_bytes": link.model.queued_bytes,
                    "losses": link.model.losses,
                }
                for way, link in links.items()
            },
            "changes": list(self.changes),
        }

    def _position(self, now: float) -> float:
        return self._offset_s if self._began is None else now - self._zero

    # connections

    @asynccontextmanager
    async def listen(self, host: str, port: int) -> AsyncIterator[int]:
        """Accept connections inside the block; gives the port.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            self._address = found[0]
            self._listen(accept=not self.settings.refuse)
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        assert self._listener is not None
        self._directions = {
            name: Direction(LinkModel(self.settings.conditions(name, self._trace, 0.0), seed=self._seed, name=name))
            for name in DIRECTIONS
        }
        try:
            yield self._listener.getsockname()[1]
        finally:
            self._close_listener()
            tasks = list(self._connections.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for direction in self._directions.values():
                direction.close()

    def _listen(self, *, accept: bool) -> None:
        """A socket at our address. If it only holds the port, the kernel refuses new connections."""
        family, kind, proto, _, address = self._address
        self._close_listener()
        listener = socket.socket(family, kind, proto)
        try:
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            shrink(listener)  # those that it accepts have it from here
            listener.bind(address)
            if accept:
                listener.listen(MAX_CONNECTIONS)
                asyncio.get_running_loop().add_reader(listener, self._accept)
        except OSError:
            listener.close()
            raise
        self._address = (family, kind, proto, "", listener.getsockname())  # the port stays, where any was asked for
        self._listener = listener

    def _close_listener(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        assert self._listener is not None
        while True:
            try:
                client, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("cannot accept: %s", error)
                loop, listener = asyncio.get_running_loop(), self._listener
                loop.remove_reader(listener)
                loop.call_later(NO_MORE_FILES_S, self._accept_again, listener)
                return
            client.setblocking(False)
            if len(self._connections) >= MAX_CONNECTIONS:
                log.error("more than %d connections: one was reset", MAX_CONNECTIONS)
                reset(client)
                continue
            if self._began is None:
                self._begin(time.monotonic())
            connection = Connection(client, self._target, self._directions)
            task = asyncio.create_task(connection.run(), name="connection")
            self._connections[connection] = task
            task.add_done_callback(partial(self._ended, connection))

    def _accept_again(self, listener: socket.socket) -> None:
        if listener is self._listener:
            asyncio.get_running_loop().add_reader(listener, self._accept)

    def _begin(self, now: float) -> None:
        """The first connection: here the trace, and the steps of the jitter, begin."""
        self._began = now
        self._zero = now - self._offset_s
        for name, direction in self._directions.items():
            direction.model.begin(
                now, self.settings.conditions(name, self._trace, self._zero), stalled=self.settings.stall
            )

    def _ended(self, connection: Connection, task: asyncio.Task[None]) -> None:
        del self._connections[connection]
        if not task.cancelled() and task.exception() is not None:
            log.error("a connection failed for a reason of our own", exc_info=task.exception())
