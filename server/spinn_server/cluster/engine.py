"""The ingress's stand-in for an engine: decodes payloads, and gives activations to replicas."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from statistics import fmean

import numpy as np

from spinn_server.admin.foreign import printable
from spinn_server.admin.logs import Seldom
from spinn_server.admin.metrics import Metrics
from spinn_server.work.request import Owner, Request
from spinn_server.work.undecoded import refusal
from spinn_stream.bundle import Bundle
from spinn_stream.codec import PayloadReceiver
from spinn_stream.codec.registry import CODECS
from spinn_stream.profile import Profile
from spinn_stream.runtime import Answer
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host
from spinn_stream.wire import RejectReason

from .link import FAILURES, Connect, Link, over_websocket
from .messages import DENSE, Report

log = logging.getLogger(__name__)

FIND_S = 1.0
"""Time between two looks at which replicas there are."""

SWEEP_S = 0.05
"""Time between two looks for requests whose budget is spent, though no replica has said so."""

Find = Callable[[], Awaitable[Collection[str]]]
"""The addresses of the replicas that take tasks at present. It may raise whatever it likes: nothing changes then."""


class RemoteEngine:
    """See `Tail`. A request whose replica is lost is refused, and never given to another one: its budget is short.

    Args:
        profile: of a replica. find: which replicas there are. secret: that replicas expect. max_queue: requests of one
            replica that are open; one more is refused. connect: to a replica.
    """

    def __init__(
        self,
        bundle: Bundle,
        profile: Profile | None,
        metrics: Metrics,
        find: Find,
        secret: str,
        *,
        max_queue: int = 256,
        host: Host = THIS_MACHINE,
        connect: Connect = over_websocket,
    ) -> None:
        self.bundle = bundle
        self.profile = profile
        self._find = find
        self._connect = connect
        self._secret = secret
        self._max_queue = max_queue
        self._now = host.clock
        self._decoder = host.worker("decode")
        metrics.queue.labels(bundle.name).set_function(lambda: len(self._open))
        metrics.held_bytes.labels(bundle.name).set_function(
            lambda: sum(receiver.held_bytes for receiver in self._receivers.values())
        )
        self._receivers: dict[Owner, PayloadReceiver] = {}
        self._open: dict[Request, Link | None] = {}  # and the replica that has it
        self._undecoded: list[Request] = []
        self._links: dict[Link, None] = {}  # those that were welcomed
        self._running: dict[str, tuple[Link, asyncio.Task[None]]] = {}  # by address
        self._refusing: tuple[RejectReason, str] | None = None
        self._arrived, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._seldom = Seldom(log, host.clock)

    @property
    def replicas(self) -> list[str]:
        """The addresses of those that take tasks."""
        now = self._now()
        return [link.address for link in self._links if link.usable(now)]

    def join(self, owner: Owner) -> None:
        self._receivers[owner] = PayloadReceiver(self.bundle)

    def submit(self, request: Request) -> None:
        if self._refusing is not None:
            request.owner.refused(request, *self._refusing)
        elif not self._links:
            request.owner.refused(request, "overloaded", "there is no replica")
        elif len(self._open) >= self._max_queue * len(self._links):
            request.owner.refused(request, "overloaded", f"{len(self._open)} requests are open already")
        elif request.expires <= self._now():
            request.owner.refused(request, "expired", "its budget was spent when it arrived")
        else:
            self._open[request] = None
            self._idle.clear()
            if len(self._undecoded) >= 2 * self._max_queue:  # payloads that were cancelled while others were decoded
                self._undecoded = [waiting for waiting in self._undecoded if waiting in self._open]
            self._undecoded.append(request)
            self._arrived.set()

    def cancel(self, request: Request) -> None:
        self._refuse(request, "cancelled", "as asked")

    def forget(self, owner: Owner) -> None:
        self._receivers.pop(owner, None)
        for link in self._links:
            link.forget(owner)
        for request in [request for request in self._open if request.owner is owner]:
            del self._open[request]
        self._look_if_idle()

    def stop_taking(self, reason: RejectReason, detail: str) -> None:
        self._refusing = reason, detail

    def refuse_all(self, reason: RejectReason, detail: str) -> None:
        for request in list(self._open):
            self._refuse(request, reason, detail)

    async def idle(self) -> None:
        await self._idle.wait()

    def load(self, now: float) -> tuple[float, float]:
        reports = self._reports(now)
        if not reports:
            return 0.0, 1.0
        return fmean(report.queue_ms for report in reports), fmean(report.factor for report in reports)

    def delay_ms(self) -> float:
        return min((report.delay_ms for report in self._reports(self._now())), default=0.0)

    async def run(self) -> None:
        work = (self._look_for_replicas, self._decode, self._sweep)
        tasks = [asyncio.create_task(each(), name=each.__name__) for each in work]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            tasks += [task for _, task in self._running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self.stop_taking("internal", "the engine has ended")
            self.refuse_all("internal", "the engine has ended")
            self._decoder.shutdown(wait=False, cancel_futures=True)

    async def _look_for_replicas(self) -> None:
        while True:
            try:
                async with asyncio.timeout(5 * FIND_S):
                    addresses = set(await self._find())
            except Exception as error:  # whatever it is, those that are known go on
                self._seldom.warning("find", f"replicas cannot be looked for: {type(error).__name__}: {error}")
            else:
                self._keep(addresses)
            await asyncio.sleep(FIND_S)

    def _keep(self, addresses: set[str]) -> None:
        """Have a link to each of these. The others end by themselves once what they have is done."""
        for address, (link, task) in list(self._running.items()):
            link.leaving = address not in addresses
            if task.done() or (link.leaving and not link.open):
                task.cancel()
                del self._running[address]
        for address in addresses - self._running.keys():
            link = Link(address, self.bundle, self._secret, self._now)
            self._running[address] = link, asyncio.create_task(self._run_link(link), name="link")

    async def _run_link(self, link: Link) -> None:
        try:
            await link.run(self._connect, self._welcomed, self._told)
            why = "it closed"
        except FAILURES as error:
            why = f"{type(error).__name__}: {error}"
        except Exception:
            log.exception("the link to %s ended for a reason of our own", link.address)
            why = "a mistake of this server"
        finally:
            self._links.pop(link, None)
            for request in [request for request, its in self._open.items() if its is link]:
                self._refuse(request, "internal", "the replica that had it is gone")
        self._seldom.warning("link", f"the replica at {link.address} is gone: {printable(why)}")

    def _welcomed(self, link: Link) -> None:
        self._links[link] = None

    def _told(self, link: Link, report: Report) -> None:
        for answered in report.answered:
            request = link.take(answered.number)
            if request is not None:
                self._settle(request)
                exit_name = self.bundle.exits[answered.exit].name
                found = Answer(exit_name, answered.top[0][0], answered.confidence, answered.top)
                request.owner.answered(request, answered.exit, found, shortened=answered.shortened)
        for refused in report.refused:
            request = link.take(refused.number)
            if request is not None:
                self._refuse(request, refused.reason, refused.detail)

    async def _decode(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            batch = [request for request in self._undecoded if request in self._open]
            self._undecoded.clear()
            for request in batch:
                if not CODECS[request.codec].refers:
                    self._give(request, request.codec, request.payload)
            referring = [request for request in batch if CODECS[request.codec].refers and request in self._open]
            if referring:
                receivers = [self._receivers[request.owner] for request in referring]
                found = await loop.run_in_executor(self._decoder, _decoded, referring, receivers)
                for request, result in zip(referring, found, strict=True):
                    if isinstance(result, Exception):
                        self._refuse(request, *refusal(request, result))
                    else:
                        self._give(request, DENSE, result)

    def _give(self, request: Request, codec: str, payload: bytes) -> None:
        """Give a request that is still open to a replica."""
        if request not in self._open:
            return
        request.payload = b""
        now = self._now()
        usable = [link for link in self._links if link.usable(now)]
        if not usable:
            self._refuse(request, "overloaded", "there is no replica")
            return
        link = self._choose(request, usable)
        self._open[request] = link
        link.send(request, codec, payload, max(0.0, request.expires - now) * 1000)

    def _choose(self, request: Request, usable: Sequence[Link]) -> Link:
        """The replica that gets a request: the one with the shortest line."""
        return min(usable, key=lambda link: link.line)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self._now()
            for request in [request for request in self._open if request.expires <= now]:
                self._refuse(request, "expired", "its budget is spent, and no replica has answered")

    def _reports(self, now: float) -> list[Report]:
        return [link.report for link in self._links if link.usable(now)]

    def _settle(self, request: Request) -> None:
        del self._open[request]
        self._look_if_idle()

    def _refuse(self, request: Request, reason: RejectReason, detail: str) -> None:
        """Refuse a request, if it is still open."""
        if request in self._open:
            link = self._open[request]
            if link is not None:
                link.cancel(request)
            self._settle(request)
            request.owner.refused(request, reason, detail)

    def _look_if_idle(self) -> None:
        if not self._open:
            self._idle.set()


def _decoded(requests: Sequence[Request], receivers: Sequence[PayloadReceiver]) -> list[bytes | Exception]:
    """For each request its activation, float32, little-endian, or the error of its payload. Runs in a thread."""
    found: list[bytes | Exception] = []
    for request, receiver in zip(requests, receivers, strict=True):
        try:
            activation = receiver.decode(request.id, request.split, request.codec, request.payload)
        except Exception as error:  # whatever it is, it is this request's alone
            found.append(error)
        else:
            found.append(np.ascontiguousarray(activation, "<f4").tobytes())
    return found
