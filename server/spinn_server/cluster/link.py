"""An ingress's link to one replica: orders out, reports in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from spinn_server.work.request import Owner, Request
from spinn_stream.bundle import Bundle
from spinn_stream.errors import RemoteProtocolError

from . import messages
from .duplex import run_duplex
from .messages import MAX_ORDERS_BYTES, SUBPROTOCOL, LinkHello, LinkWelcome, Orders, Report, Task

OPENING_S = 5.0
KEEPALIVE_S, KEEPALIVE_TIMEOUT_S = 1.0, 2.0
"""Time between two pings of a replica, and the silence after which it counts as gone."""

MAX_REPORT_BYTES = 16 * 1024 * 1024
STALE_S = 1.5
"""A replica that has reported nothing for this time gets no tasks; it reports every 0.5 s."""

Connect = Callable[[str], AbstractAsyncContextManager[ClientConnection]]
"""Connects to a replica's address until the block ends. Raises some of FAILURES. A simulation puts in its own."""


def over_websocket(address: str) -> AbstractAsyncContextManager[ClientConnection]:
    """See `Connect`."""
    return connect(
        address, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, proxy=None, open_timeout=OPENING_S,
        max_size=MAX_REPORT_BYTES, ping_interval=KEEPALIVE_S, ping_timeout=KEEPALIVE_TIMEOUT_S, close_timeout=1.0,
    )  # fmt: skip


class Link:
    """One replica, as an ingress sees it.

    report: the newest one.
    """

    def __init__(self, address: str, bundle: Bundle, secret: str, clock: Callable[[], float]) -> None:
        self.address = address
        self._bundle = bundle
        self._secret = secret
        self._now = clock
        self.open: dict[int, Request] = {}
        self.report = Report(0.0, 1.0, 0.0, 0)
        self.leaving = False  # gets no more tasks
        self._heard_at = clock()
        self._others = 0  # tasks of other ingresses there
        self._numbers: dict[Request, int] = {}
        self._clients: dict[Owner, int] = {}
        self._last = 0
        self._joined: list[tuple[int, bytes]] = []
        self._tasks: list[Task] = []
        self._cancelled: list[int] = []
        self._left: list[int] = []
        self._something = asyncio.Event()

    def usable(self, now: float) -> bool:
        return not self.leaving and self.report.taking and now - self._heard_at < STALE_S

    @property
    def line(self) -> float:
        """How long the line is there, in tasks of a replica at its profile's speed."""
        return (len(self.open) + self._others + 1) * self.report.factor

    def send(self, request: Request, codec: str, payload: bytes, budget_ms: float) -> None:
        """Give a request to the replica, with the budget that is left."""
        owner = request.owner
        if owner not in self._clients:
            self._clients[owner] = self._next()
            groups = b"" if request.group_of is None else request.group_of.astype("<u2").tobytes()
            self._joined.append((self._clients[owner], groups))
        number = self._next()
        self.open[number], self._numbers[request] = request, number
        self._tasks.append(
            Task(
                number, self._clients[owner], request.split, codec, tuple(request.needed.items()), budget_ms,
                request.may_shorten, payload,
            )
        )  # fmt: skip
        self._something.set()

    def cancel(self, request: Request) -> None:
        """Nothing more is heard of a request, if it is here."""
        number = self._numbers.pop(request, None)
        if number is not None:
            del self.open[number]
            self._cancelled.append(number)
            self._something.set()

    def forget(self, owner: Owner) -> None:
        """Nothing more is heard of a client's requests."""
        number = self._clients.pop(owner, None)
        if number is not None:
            for request in [request for request in self.open.values() if request.owner is owner]:
                del self.open[self._numbers.pop(request)]
            self._left.append(number)
            self._something.set()

    def take(self, number: int) -> Request | None:
        """The request of a task that has an outcome; None: it was cancelled meanwhile."""
        request = self.open.pop(number, None)
        if request is not None:
            del self._numbers[request]
        return request

    async def run(
        self, connect: Connect, welcomed: Callable[[Link], None], told: Callable[[Link, Report], None]
    ) -> None:
        """Until the replica is gone.

        Raises:
            OSError, WebSocketException, RemoteProtocolError: why.
        """
        async with connect(self.address) as websocket:
            await websocket.send(messages.encode(LinkHello(self._bundle.hash, self._secret)))
            async with asyncio.timeout(OPENING_S):
                messages.decode(LinkWelcome, _binary(await websocket.recv()))
            self._heard_at = self._now()
            welcomed(self)
            await run_duplex(self._read(websocket, told), self._write(websocket))

    async def _read(self, websocket: ClientConnection, told: Callable[[Link, Report], None]) -> None:
        async for data in websocket:
            self._hear(messages.decode(Report, _binary(data)), told)

    def _hear(self, report: Report, told: Callable[[Link, Report], None]) -> None:
        self._heard_at = self._now()
        self.report = report
        told(self, report)
        self._others = max(0, report.open - len(self.open))

    async def _write(self, websocket: ClientConnection) -> None:
        while True:
            await self._something.wait()
            await asyncio.sleep(0)  # what is ready at the same time goes along
            await websocket.send(messages.encode(self._orders()))

    def _orders(self) -> Orders:
        """What is to be sent now."""
        size = count = 0
        while count < len(self._tasks) and (count == 0 or size + len(self._tasks[count].payload) <= MAX_ORDERS_BYTES):
            size += len(self._tasks[count].payload)
            count += 1
        tasks, self._tasks = self._tasks[:count], self._tasks[count:]
        joined, self._joined = self._joined, []
        if self._tasks:  # cancellations and departures come after the tasks that they are about
            return Orders(tuple(joined), tuple(tasks))
        cancelled, self._cancelled, left, self._left = self._cancelled, [], self._left, []
        self._something.clear()
        return Orders(tuple(joined), tuple(tasks), tuple(cancelled), tuple(left))

    def _next(self) -> int:
        self._last += 1
        return self._last


def _binary(data: str | bytes) -> bytes:
    if isinstance(data, str):
        raise RemoteProtocolError("bad_message", "got a text message, expected binary ones only")
    return data


FAILURES = (OSError, WebSocketException, RemoteProtocolError, TimeoutError)
"""What ends a link."""
