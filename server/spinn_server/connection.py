"""One client's connection: moves bytes between a WebSocket, the session's rules and the tail engine."""

from __future__ import annotations

import asyncio
import logging

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from spinn_server.admin.metrics import Metrics
from spinn_server.work.worker import TailEngine
from spinn_stream.errors import RemoteProtocolError
from spinn_stream.runtime import Answer
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host
from spinn_stream.wire import Cancel, Infer, RejectReason, Reply, ServerSession

log = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 5.0
SEND_TIMEOUT_S = 10.0
"""A client that takes no bytes for so long is closed."""


class Connection:
    """Owns the outgoing queue of one client.

    The queue holds an answer for every request in flight, a load message before each, and some refusals; a
    client that lets it fill up does not read its answers and is closed.
    """

    def __init__(
        self,
        number: int,
        websocket: ServerConnection,
        session: ServerSession,
        engine: TailEngine,
        metrics: Metrics,
        *,
        max_outgoing: int,
        host: Host = THIS_MACHINE,
    ) -> None:
        self._number = number
        self._websocket = websocket
        self._session = session
        self._engine = engine
        self._metrics = metrics
        self._now = host.clock
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue(max_outgoing)
        self._too_slow = asyncio.Event()

    async def serve(self) -> None:
        """Until either end closes. Never raises for what the client did."""
        tasks = [asyncio.create_task(work()) for work in (self._read, self._write, self._watch)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (ConnectionClosed, TimeoutError):
            pass
        except RemoteProtocolError as error:
            await self._refuse_session(error)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._engine.forget(self._number)

    async def _read(self) -> None:
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            first = await self._websocket.recv()
        self._receive(first)
        self._metrics.sessions.inc()
        self._engine.join(self._number)
        try:
            async for data in self._websocket:
                self._receive(data)
        finally:
            self._metrics.sessions.dec()

    def _receive(self, data: str | bytes) -> None:
        now = self._now()
        if isinstance(data, str):
            raise RemoteProtocolError("bad_message", "got a text message, expected binary ones only")
        self._metrics.bytes_in.inc(len(data))
        event = self._session.receive(data, now)
        if isinstance(event, Reply):
            for message in event.data:
                self._send(message)
        elif isinstance(event, Infer):
            self._submit(event, now)
        elif isinstance(event, Cancel):
            self._engine.cancel((self._number, event.id))

    def _submit(self, infer: Infer, now: float) -> None:
        def answer(exit_index: int, found: Answer) -> None:
            self._answer(self._session.result(infer.id, exit_index, found.top, self._now()))

        def refuse(reason: RejectReason, detail: str) -> None:
            self._answer(self._session.reject(infer.id, reason, detail))

        self._engine.submit((self._number, infer.id), infer, now, answer=answer, refuse=refuse)

    def _answer(self, data: bytes | None) -> None:
        """An answer, behind word of the load where that is due."""
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
            self._too_slow.set()

    async def _write(self) -> None:
        while True:
            data = await self._outgoing.get()
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._websocket.send(data)
            self._metrics.bytes_out.inc(len(data))

    async def _watch(self) -> None:
        await self._too_slow.wait()
        raise RemoteProtocolError("overloaded", "answers are not being read")

    async def _refuse_session(self, error: RemoteProtocolError) -> None:
        log.warning("%s: %s", self._websocket.remote_address, error)
        self._metrics.refused_sessions.labels(error.reason).inc()
        try:
            async with asyncio.timeout(2):
                await self._websocket.send(self._session.farewell(error))
                await self._websocket.close(1008, error.reason)
        except (ConnectionClosed, TimeoutError):
            self._websocket.transport.abort()
