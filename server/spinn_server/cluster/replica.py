"""A replica: runs the network for ingresses, which hold the sessions. It knows no client for longer than its link."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import math
from collections.abc import Collection
from http import HTTPStatus
from importlib.metadata import version

import numpy as np

from spinn_server.admin.foreign import printable
from spinn_server.admin.health import Health, State
from spinn_server.admin.logs import Seldom
from spinn_server.admin.metrics import Metrics
from spinn_server.admin.routes import SESSIONS, HttpAnswer, look_up, routes
from spinn_server.carriers.base import Carrier, CarrierClosed
from spinn_server.work.request import Request
from spinn_server.work.steps import Floats
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.codec import PayloadReceiver
from spinn_stream.codec.registry import CODECS
from spinn_stream.errors import CodecError, RemoteProtocolError
from spinn_stream.runtime import Answer
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host
from spinn_stream.wire import RejectReason

from . import messages
from .duplex import run_duplex
from .messages import DENSE, Answered, LinkHello, LinkWelcome, NotRun, Orders, Report, Task

log = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 5.0

REPORT_S = 0.5
"""Longest time between two reports, so that an ingress knows the load, and that the replica is there."""

MAX_CLIENTS = 100_000
"""Clients of one link. An ingress has room for fewer sessions."""

LAST_ORDERS_S = 0.1
"""Time for what was sent before an ingress knew that the replica is ending."""

POLICY = 1008

VERSION = version("spinn-server")


def largest_orders(bundle: Bundle) -> int:
    """Bytes of the largest message that an ingress sends."""
    one = 4 * max(cut.elements for cut in bundle.cut_points[: bundle.last])
    return messages.MAX_ORDERS_BYTES + 2 * one + 64 * 1024


class DenseReceiver:
    """Payloads that need no earlier one: activations as they are, and codecs that refer to nothing."""

    held_bytes = 0

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._others = PayloadReceiver(bundle)

    def decode(self, request: int, split: int, codec: str, payload: bytes) -> Floats:
        """See `PayloadReceiver.decode`."""
        if codec != DENSE:
            if codec in CODECS and CODECS[codec].refers:
                raise CodecError(f"a payload of {codec} came, expected one that can be decoded alone")
            return self._others.decode(request, split, codec, payload)
        shape = self._bundle.cut_points[split].shape
        if len(payload) != 4 * math.prod(shape):
            raise CodecError(f"got {len(payload)} bytes, expected float32 {shape}")
        return np.frombuffer(payload, "<f4").astype(np.float32, copy=False).reshape(1, *shape)


class _Client:
    """One session of an ingress: an owner of requests."""

    def __init__(self, link: _Link, group_of: bytes) -> None:
        self._link = link
        self.group_of = np.frombuffer(group_of, "<u2").astype(np.intp) if group_of else None

    def answered(self, request: Request, exit_index: int, found: Answer, *, shortened: bool) -> None:
        self._link.done(Answered(request.id, exit_index, found.confidence, found.top, shortened))

    def refused(self, request: Request, reason: RejectReason, detail: str) -> None:
        self._link.done(NotRun(request.id, reason, detail))


class _Link:
    """One ingress: its clients, its open tasks, and what is to be reported."""

    def __init__(self, carrier: Carrier, engine: TailEngine, host: Host) -> None:
        self._carrier = carrier
        self._engine = engine
        self._now = host.clock
        self._clients: dict[int, _Client] = {}
        self.open: dict[int, Request] = {}
        self.taking = True
        self._done: list[Answered | NotRun] = []
        self._something = asyncio.Event()

    async def serve(self, every: Collection[_Link]) -> None:
        """Until the ingress closes, or breaks the rules. every: link of this replica, whose tasks are counted."""
        try:
            await run_duplex(self._read(), self._write(every))
        finally:
            for client in self._clients.values():
                self._engine.forget(client)

    def stop_taking(self) -> None:
        """Tell the ingress that it should send nothing more."""
        self.taking = False
        self._something.set()

    def end(self) -> None:
        self._carrier.abort()

    def done(self, outcome: Answered | NotRun) -> None:
        if self.open.pop(outcome.number, None) is not None and not (
            isinstance(outcome, NotRun) and outcome.reason == "cancelled"
        ):
            self._done.append(outcome)
            self._something.set()

    async def _read(self) -> None:
        while True:
            data, arrived = await self._carrier.recv()
            self._obey(messages.decode(Orders, data), arrived)

    def _obey(self, orders: Orders, arrived: float) -> None:
        for number, groups in orders.joined:
            if number in self._clients or len(self._clients) >= MAX_CLIENTS or len(groups) % 2:
                raise RemoteProtocolError("bad_message", f"client {number} cannot join")
            self._clients[number] = client = _Client(self, groups)
            self._engine.join(client)
        for task in orders.tasks:
            self._take(task, arrived)
        for number in orders.cancelled:
            if number in self.open:
                self._engine.cancel(self.open[number])
        for number in orders.left:
            self._leave(number)

    def _take(self, task: Task, arrived: float) -> None:
        bundle = self._engine.bundle
        client = self._clients.get(task.client)
        exits = {e.cut for e in bundle.exits}
        if (
            client is None
            or task.number in self.open
            or not 0 <= task.split < bundle.last
            or any(cut not in exits for cut, _ in task.needed)
            or not task.budget_ms < math.inf
        ):
            raise RemoteProtocolError("bad_message", f"task {task.number} is against the rules")
        request = Request(
            client, task.number, task.split, task.codec, task.payload, dict(task.needed), client.group_of,
            arrived, arrived + task.budget_ms / 1000, task.may_shorten,
        )  # fmt: skip
        self.open[task.number] = request
        self._engine.submit(request)

    def _leave(self, number: int) -> None:
        client = self._clients.pop(number, None)
        if client is not None:
            self._engine.forget(client)
            self.open = {n: request for n, request in self.open.items() if request.owner is not client}

    async def _write(self, every: Collection[_Link]) -> None:
        while True:
            now = self._now()
            done, self._done = self._done, []
            report = Report(
                *self._engine.load(now),
                self._engine.delay_ms(),
                sum(len(link.open) for link in every),
                self.taking,
                tuple(outcome for outcome in done if isinstance(outcome, Answered)),
                tuple(outcome for outcome in done if isinstance(outcome, NotRun)),
            )
            await self._carrier.send(messages.encode(report))
            if not self._done:
                self._something.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REPORT_S):
                        await self._something.wait()


class Replica:
    """Serves links of ingresses; see `carriers.base.Service`.

    Args:
        secret: that ingresses show.
    """

    def __init__(self, engine: TailEngine, metrics: Metrics, secret: str, *, host: Host = THIS_MACHINE) -> None:
        self._engine = engine
        self._secret = secret
        self._host = host
        self._health = Health()
        self._metrics = metrics
        self._routes = routes(self._health, metrics)
        self._links: dict[_Link, None] = {}
        self._seldom = Seldom(log, host.clock)

    def answer(self, path: str) -> HttpAnswer | None:
        if path != SESSIONS:
            return look_up(self._routes, path)
        if not self._health.ready:
            return HttpAnswer(HTTPStatus.SERVICE_UNAVAILABLE, f"{self._health.text}\n")
        return None

    async def serve(self, carrier: Carrier) -> None:
        link: _Link | None = None
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                data, _ = await carrier.recv()
            self._check(messages.decode(LinkHello, data))
            await carrier.send(messages.encode(LinkWelcome(VERSION)))
            link = _Link(carrier, self._engine, self._host)
            self._links[link] = None
            await link.serve(self._links)
        except (CarrierClosed, TimeoutError) as error:
            log.info("%s: the link ended: %s", carrier.peer, error)
            carrier.abort()
        except RemoteProtocolError as error:
            self._seldom.warning(error.reason, f"{carrier.peer}: {printable(str(error))}")
            self._metrics.refused_sessions.labels(error.reason).inc()
            await carrier.close(POLICY, printable(error.detail)[:100])
        finally:
            if link is not None:
                del self._links[link]

    async def run(self) -> None:
        """Run the engine until cancelled.

        Raises:
            EngineError: the engine does not work any more.
        """
        try:
            self._health.become(State.READY)
            await self._engine.run()
        except Exception as error:
            self._health.become(State.FAILED, printable(str(error)))
            raise
        finally:
            for link in list(self._links):  # or ingresses would send what is refused at once
                link.end()

    async def drain(self, seconds: float) -> None:
        """Take no more, and answer what is open, if that takes no longer than this."""
        self._health.become(State.DRAINING, "asked to end")
        for link in self._links:
            link.stop_taking()
        await asyncio.sleep(LAST_ORDERS_S)
        self._engine.stop_taking("overloaded", "the replica is ending")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._engine.idle()

    def _check(self, hello: LinkHello) -> None:
        if not hmac.compare_digest(hello.secret.encode(), self._secret.encode()):
            raise RemoteProtocolError("unauthorised", "the secret is another one")
        if hello.bundle != self._engine.bundle.hash:
            raise RemoteProtocolError(
                "bundle_mismatch", f"this replica has {self._engine.bundle.hash:.12}, not {printable(hello.bundle):.12}"
            )
