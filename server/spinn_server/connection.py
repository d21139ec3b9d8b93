"""One client's connection: moves messages between its carrier, the session's rules and the tail engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from spinn_server.admin.foreign import printable
from spinn_server.admin.metrics import Metrics
from spinn_server.carriers.base import Carrier, CarrierClosed
from spinn_server.work.request import Request
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.errors import RemoteProtocolError
from spinn_stream.runtime import Answer
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host
from spinn_stream.wire import Cancel, Infer, RejectReason, Reply, ServerSession

log = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 5.0
SEND_TIMEOUT_S = 10.0
"""A client that takes no bytes for this long is closed."""

FAREWELL_S = 2.0
"""For a client to take what is still owed to it, and why its session ends."""

POLICY, INTERNAL, GOING_AWAY = 1008, 1011, 1001
"""Codes of RFC 6455, section 7.4.1."""


@dataclass(frozen=True)
class Ending:
    """Why a session ends.

    code: to close with; None: nobody is there to be told. reason: of the reject that goes before; None: none does.
    """

    code: int | None
    reason: str | None
    detail: str


OUR_FAULT = Ending(INTERNAL, "internal", "the server made a mistake; its log says which")


class Connection:
    """Owns the two tasks and the outgoing queue of one client, and its requests that are open.

    The queue holds an answer for every request in flight, a load message before each, and some refusals; a
    client that lets it fill up does not read its answers and is closed.
    """

    def __init__(
        self,
        carrier: Carrier,
        session: ServerSession,
        bundle: Bundle,
        engine: TailEngine,
        metrics: Metrics,
        *,
        max_outgoing: int,
        host: Host = THIS_MACHINE,
    ) -> None:
        self._carrier = carrier
        self._session = session
        self._bundle = bundle
        self._engine = engine
        self._metrics = metrics
        self._now = host.clock
        self._requests: dict[int, Request] = {}  # neither answered nor refused, by their ids on the wire
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue(max_outgoing)
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    async def serve(self) -> None:
        """Until either end closes. Raises nothing: what goes wrong ends this session, and this one alone."""
        reading, writing = (asyncio.create_task(work()) for work in (self._read, self._write))
        try:
            ending = await self._ending
            reading.cancel()
            writing.cancel()
            await asyncio.wait((reading, writing))
            with self._faults():
                await self._leave(ending)
        finally:
            reading.cancel()
            writing.cancel()
            await asyncio.wait((reading, writing))
            self._engine.forget(self)

    def end(self, ending: Ending) -> None:
        """End the session after what is queued is sent. The first reason counts."""
        if not self._ending.done():
            self._ending.set_result(ending)

    def answered(self, request: Request, exit_index: int, found: Answer) -> None:
        """See `work.request.Owner`."""
        with self._faults():
            del self._requests[request.id]
            self._answer(self._session.result(request.id, exit_index, found.top, self._now()))

    def refused(self, request: Request, reason: RejectReason, detail: str) -> None:
        """See `work.request.Owner`."""
        with self._faults():
            del self._requests[request.id]
            self._answer(self._session.reject(request.id, reason, detail))

    async def _read(self) -> None:
        with self._faults():
            try:
                async with asyncio.timeout(HELLO_TIMEOUT_S):
                    hello = await self._carrier.recv()
            except TimeoutError:
                self.end(Ending(POLICY, None, f"no hello within {HELLO_TIMEOUT_S:.0f} s"))
                return
            self._receive(hello)
            self._engine.join(self)
            with self._metrics.sessions.track_inprogress():
                while True:
                    self._receive(await self._carrier.recv())

    async def _write(self) -> None:
        with self._faults():
            while True:
                data = await self._outgoing.get()
                try:
                    async with asyncio.timeout(SEND_TIMEOUT_S):
                        await self._carrier.send(data)
                except TimeoutError:
                    self._carrier.abort()
                    self.end(Ending(None, None, f"took no bytes for {SEND_TIMEOUT_S:.0f} s"))
                    return
                self._metrics.bytes_out.inc(len(data))

    def _receive(self, data: bytes) -> None:
        now = self._now()
        self._metrics.bytes_in.inc(len(data))
        event = self._session.receive(data, now)
        if isinstance(event, Reply):
            for message in event.data:
                self._send(message)
        elif isinstance(event, Infer):
            request = self._requests[event.id] = Request.of(event, self, self._bundle, now, self._session.group_of)
            self._engine.submit(request)
        elif isinstance(event, Cancel):
            self._engine.cancel(self._requests[event.id])

    def _answer(self, data: bytes | None) -> None:
        """An answer, behind word of the load if that is due."""
        if data is not None:
            now = self._now()
            self._send(self._session.load(*self._engine.load(now), now))
            self._send(data)

    def _send(self, data: bytes | None) -> None:
        if data is None:
            return
        try:
            self._outgoing.put_nowait(data)
        except asyncio.QueueFull:
            raise RemoteProtocolError("overloaded", "answers are not being read") from None

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Whatever goes wrong inside ends the session; a fault of our own is logged, once."""
        try:
            yield
        except CarrierClosed as error:
            self.end(Ending(None, None, str(error)))
        except RemoteProtocolError as error:
            if not self._ending.done():
                log.warning("%s: %s", self._carrier.peer, printable(str(error)))
                self._metrics.refused_sessions.labels(error.reason).inc()
            self.end(Ending(POLICY, error.reason, error.detail))
        except Exception:
            if self._ending.done() and self._ending.result() is OUR_FAULT:
                return
            log.exception("%s: its session ends for a reason of our own", self._carrier.peer)
            self._metrics.refused_sessions.labels("internal").inc()
            self.end(OUR_FAULT)

    async def _leave(self, ending: Ending) -> None:
        """Send what is owed, say why it ends, and close."""
        if ending.code is None:
            return
        try:
            async with asyncio.timeout(FAREWELL_S):
                while not self._outgoing.empty():
                    await self._carrier.send(self._outgoing.get_nowait())
                if ending.reason is not None:
                    await self._carrier.send(self._session.farewell(ending.reason, printable(ending.detail)))
        except (CarrierClosed, TimeoutError):
            self._carrier.abort()
        else:
            await self._carrier.close(ending.code, ending.reason or ending.detail)
