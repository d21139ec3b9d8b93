"""One client's connection: moves messages between its carrier, its session and a tail engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from spinn_server.admin.foreign import printable
from spinn_server.admin.logs import SessionLog
from spinn_server.admin.metrics import Metrics
from spinn_server.carriers.base import Carrier, CarrierClosed
from spinn_server.work.request import Request
from spinn_server.work.tail import Tail
from spinn_stream.bundle import Bundle
from spinn_stream.errors import RemoteProtocolError
from spinn_stream.runtime import Answer
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host
from spinn_stream.wire import Cancel, Infer, RejectReason, Reply, ServerSession
from spinn_stream.wire.server_session import Refused

HELLO_TIMEOUT_S = 5.0
SEND_TIMEOUT_S = 10.0
"""If a client reads nothing for this time, it is closed."""

FAREWELL_S = 2.0
"""Time for a client to read its last answers, and the reason for the end of its session."""

POLICY, INTERNAL, GOING_AWAY = 1008, 1011, 1001
"""Codes of RFC 6455, section 7.4.1."""


@dataclass(frozen=True)
class Ending:
    """Why a session ends.

    code: of the close; None: the peer is gone. reason: of the reject before the close; None: there is none.
    """

    code: int | None
    reason: str | None
    detail: str


OUR_FAULT = Ending(INTERNAL, "internal", "the server made a mistake; its log says which")


class Connection:
    """Owns one client's two tasks, its outgoing queue and its open requests.

    The queue has room for an answer to every request in flight, a load message before each, and some refusals. If it is
    full, the client does not read its answers and is closed.

    Args:
        engines: for each bundle that the session offers. enter: called once when the client is welcome; raises
            RemoteProtocolError if there is no room for it.
    """

    def __init__(
        self,
        carrier: Carrier,
        session: ServerSession,
        engines: Mapping[Bundle, Tail],
        metrics: Metrics,
        *,
        enter: Callable[[Connection], None],
        max_outgoing: int,
        number: int = 0,
        host: Host = THIS_MACHINE,
    ) -> None:
        self._carrier = carrier
        self._session = session
        self._engines = engines
        self._engine: Tail | None = None  # None: no hello yet
        self._metrics = metrics
        self._enter = enter
        self._now = host.clock
        self._log = SessionLog(logging.getLogger(__name__), number, carrier.peer)
        self._requests: dict[int, Request] = {}  # neither answered nor refused, by their ids on the wire
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue(max_outgoing)
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self.used_at = self._now()  # when the last message came

    @property
    def welcomed(self) -> bool:
        return self._engine is not None

    @property
    def idle_since(self) -> float | None:
        """Time of its last message; None: it waits for an answer."""
        return None if self._requests else self.used_at

    async def serve(self) -> None:
        """Serve until either end closes. Raises nothing: a failure ends this session only."""
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
            self._abandon()

    def end(self, ending: Ending) -> None:
        """End the session after the queued messages. The first reason counts."""
        if not self._ending.done():
            self._ending.set_result(ending)

    def answered(self, request: Request, exit_index: int, found: Answer, *, shortened: bool) -> None:
        """See `work.request.Owner`."""
        with self._faults():
            self._close(request)
            self._metrics.answered_by(self._session.bundle.name, found.exit).inc()
            if shortened:
                self._metrics.shortened.inc()
            now = self._now()
            self._metrics.total.observe(now - request.arrived)
            self._answer(self._session.result(request.id, exit_index, found.top, now, shortened=shortened))

    def refused(self, request: Request, reason: RejectReason, detail: str) -> None:
        """See `work.request.Owner`."""
        with self._faults():
            self._close(request)
            self._count_refusal(reason)
            if self._log.isEnabledFor(logging.DEBUG):  # under overload this is most of the work
                self._log.debug("%s: %s", reason, printable(detail), extra={"frame": request.id})
            queue_ms = 0.0 if self._engine is None else self._engine.delay_ms()
            self._answer(self._session.reject(request.id, reason, detail, queue_ms))

    def tell_load(self) -> None:
        """Send the load, if it has changed."""
        with self._faults():
            if self._engine is not None and not self._ending.done():
                now = self._now()
                self._send(self._session.load(*self._engine.load(now), now, unasked=True))

    async def _read(self) -> None:
        with self._faults():
            try:
                async with asyncio.timeout(HELLO_TIMEOUT_S):
                    hello = await self._carrier.recv()
            except TimeoutError:
                self._metrics.refused_sessions.labels("silent").inc()
                self.end(Ending(POLICY, None, f"no hello within {HELLO_TIMEOUT_S:.0f} s"))
                return
            self._receive(*hello)
            with self._metrics.sessions.track_inprogress():
                while True:
                    self._receive(*await self._carrier.recv())

    async def _write(self) -> None:
        clock = asyncio.get_running_loop().time
        with self._faults():
            try:
                async with asyncio.timeout(None) as limit:
                    while True:
                        data = await self._outgoing.get()
                        limit.reschedule(clock() + SEND_TIMEOUT_S)
                        await self._carrier.send(data)
                        limit.reschedule(None)
                        self._metrics.bytes_out.inc(len(data))
            except TimeoutError:
                self._carrier.abort()
                self._metrics.refused_sessions.labels("not reading").inc()
                self.end(Ending(None, None, f"took no bytes for {SEND_TIMEOUT_S:.0f} s"))

    def _receive(self, data: bytes, arrived: float) -> None:
        self.used_at = arrived
        self._metrics.bytes_in.inc(len(data))
        event = self._session.receive(data, arrived)
        if isinstance(event, Infer):
            request = Request.of(event, self, self._session.bundle, arrived, self._session.group_of)
            self._requests[event.id] = request
            self._count_received(event)
            self._metrics.open.inc()
            self._joined.submit(request)
        elif isinstance(event, Refused):
            self._count_received(event.request)
            self._count_refusal(event.reason)
            self._send(event.data)
        elif isinstance(event, Cancel):
            self._joined.cancel(self._requests[event.id])
        elif isinstance(event, Reply):
            self._enter(self)
            self._engine = self._engines[self._session.bundle]
            self._engine.join(self)
            self._log.info("bundle %s", self._session.bundle.name)
            for message in event.data:
                self._send(message)

    @property
    def _joined(self) -> Tail:
        assert self._engine is not None  # the session admits nothing before hello
        return self._engine

    def _count_received(self, infer: Infer) -> None:
        cuts = self._session.bundle.cut_points
        split = cuts[infer.split].name if infer.split < len(cuts) else "none"
        self._metrics.received_by(self._session.bundle.name, split).inc()

    def _count_refusal(self, reason: RejectReason) -> None:
        if reason == "cancelled":
            self._metrics.cancelled.inc()
        else:
            self._metrics.rejects.labels(reason).inc()

    def _close(self, request: Request) -> None:
        del self._requests[request.id]
        self._metrics.open.dec()

    def _abandon(self) -> None:
        """The client is gone."""
        if self._engine is not None:
            self._engine.forget(self)
        self._metrics.abandoned.inc(len(self._requests))
        self._metrics.open.dec(len(self._requests))
        self._requests.clear()
        self._log.info("ended: %s", printable(self._ending.result().detail) if self._ending.done() else "cancelled")

    def _answer(self, data: bytes | None) -> None:
        """Queue an answer, after a load message if one is due."""
        if data is not None:
            now = self._now()
            self._send(self._session.load(*self._joined.load(now), now))
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
        """Any exception inside ends the session; a bug of our own is logged, once."""
        try:
            yield
        except CarrierClosed as error:
            self.end(Ending(None, None, str(error)))
        except RemoteProtocolError as error:
            if not self._ending.done():
                self._log.warning("%s", printable(str(error)))
                self._metrics.refused_sessions.labels(error.reason).inc()
            self.end(Ending(POLICY, error.reason, error.detail))
        except Exception:
            if self._ending.done() and self._ending.result() is OUR_FAULT:
                return
            self._log.exception("its session ends for a reason of our own")
            self._metrics.refused_sessions.labels("internal").inc()
            self.end(OUR_FAULT)

    async def _leave(self, ending: Ending) -> None:
        """Send what is queued, say why the session ends, and close."""
        if ending.code is None:
            self._carrier.abort()
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
