"""Finishes requests in batches: the batcher decides, a thread runs the tail, every exit may answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from spinn_server.admin.metrics import Metrics
from spinn_stream.bundle import Bundle
from spinn_stream.codec import PayloadReceiver
from spinn_stream.errors import CodecError, EngineError, ReferenceMissing
from spinn_stream.profile import Profile
from spinn_stream.runtime import Answer, Engine
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host
from spinn_stream.wire import RejectReason

from .load import ServerLoad
from .request import Owner, Request
from .scheduler import Batcher, BatchLimits
from .steps import Steps

log = logging.getLogger(__name__)

BATCH_TIMEOUT_S = 60.0
"""An engine that has not finished a batch after this long never will. The slowest board takes a few seconds."""


class TailEngine:
    """Owns the requests that are open, and what is held of each client's activations.

    A request is answered or refused exactly once, unless its owner leaves before. Requests that an exit answers leave
    the batch at once; the rest goes on, smaller.

    Args:
        profile: of the engine on this machine, for the clients and for the load factor; None: neither is known.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        limits: BatchLimits,
        metrics: Metrics,
        profile: Profile | None = None,
        *,
        host: Host = THIS_MACHINE,
    ) -> None:
        self._bundle = bundle
        self._name = engine.name
        self.profile = profile
        self._load = ServerLoad(profile)
        self._steps = Steps(bundle, engine, metrics, host, batches=limits.max_batch_size > 1)
        self._now = host.clock
        self._batcher = Batcher(limits)
        self._metrics = metrics
        self._open: dict[Request, None] = {}  # neither answered nor refused, oldest first
        self._receivers: dict[Owner, PayloadReceiver] = {}  # of every connection, with what later payloads may refer to
        self._refusing: tuple[RejectReason, str] | None = None  # why nothing more is taken
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def join(self, owner: Owner) -> None:
        """A client is there and may send requests."""
        self._receivers[owner] = PayloadReceiver(self._bundle)

    def submit(self, request: Request) -> None:
        """Queue a request of a client that has joined; its owner is told of it now or later."""
        if self._refusing is not None:
            self._turn_away(request, *self._refusing)
        elif not self._batcher.add(request):
            self._turn_away(request, "overloaded", f"{len(self._batcher)} requests are waiting already")
        else:
            self._open[request] = None
            self._idle.clear()
            self._metrics.requests.labels(self._bundle.cut_points[request.split].name).inc()
            self._metrics.queue.set(len(self._batcher))
            self._changed.set()

    def cancel(self, request: Request) -> None:
        """The client no longer wants it: refused as `cancelled` now, dropped from its batch soon."""
        self._refuse(request, "cancelled", "as asked")
        self._batcher.remove(request)

    def forget(self, owner: Owner) -> None:
        """A client is gone: nothing of it is run or answered any more."""
        self._receivers.pop(owner, None)
        for request in [r for r in self._open if r.owner is owner]:
            self._settle(request)
            self._batcher.remove(request)
        self._metrics.queue.set(len(self._batcher))
        self._count_held()

    def stop_taking(self, reason: RejectReason, detail: str) -> None:
        """Refuse whatever is submitted from now on; what is open is still run."""
        self._refusing = reason, detail

    async def idle(self) -> None:
        """Until no request is open."""
        await self._idle.wait()

    def load(self, now: float) -> tuple[float, float]:
        """(queueing delay in ms, load factor) of the last second."""
        return self._load.current(now)

    def prepare(self, progress: Callable[[int, int], None]) -> None:
        """Build and run once every graph that any split needs. Blocks: call it before the loop or in a thread."""
        self._steps.prepare(progress)

    async def run(self) -> None:
        """Serve the queue until cancelled; however it ends, no request stays open.

        Raises:
            EngineError: the engine does not work any more.
        """
        try:
            while True:
                await self._take_turn()
        finally:
            self.stop_taking("internal", "the engine has ended")
            for request in list(self._open):
                self._refuse(request, "internal", "the engine has ended")
            await self._steps.close()

    async def _take_turn(self) -> None:
        """Run a batch, or wait until there may be one."""
        self._changed.clear()
        now = self._now()
        decision = self._batcher.take(now, sources=len(self._receivers))
        for late in decision.expired:
            self._refuse(late, "expired", "its budget ran out in the queue")
        self._metrics.queue.set(len(self._batcher))
        if decision.batch:
            for request in decision.batch:
                self._metrics.wait.observe(now - request.arrived)
                self._load.waited((now - request.arrived) * 1000, now)
            await self._run_batch(decision.batch)
            self._steps.build_what_is_wanted()
            return
        timeout = None if decision.wake_at is None else max(0.0, decision.wake_at - self._now())
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _run_batch(self, batch: list[Request]) -> None:
        split, began = batch[0].split, self._now()
        try:
            async with asyncio.timeout(BATCH_TIMEOUT_S):
                try:
                    await self._finish(split, batch)
                except Exception as error:  # a fault of the engine's or of these requests: they are refused
                    for request in batch:
                        self._refuse(request, "internal", "the server could not run this request")
                    await self._check_engine(split)
                    log.error("a batch of %d at split %d failed", len(batch), split, exc_info=error)
        except TimeoutError as error:
            raise EngineError(
                f"{self._name} has not finished a batch of {len(batch)} within {BATCH_TIMEOUT_S:.0f} s"
            ) from error
        self._metrics.compute.observe(self._now() - began)

    async def _check_engine(self, split: int) -> None:
        """After a failure: was it the requests, or can the engine do nothing any more? Then it raises EngineError."""
        try:
            await self._steps.check(split)
        except Exception as error:
            raise EngineError(f"{self._name} does not run any more: {type(error).__name__}: {error}") from error

    async def _finish(self, split: int, batch: list[Request]) -> None:
        """Decode, then piece by piece to the end; at every exit on the way, whoever is sure enough leaves."""
        batch, x = await self._decode(split, batch)
        if not batch:
            return
        self._metrics.batch_size.observe(len(batch))
        exits = {cut for request in batch if request in self._open for cut in request.needed}
        for start, stop in self._steps.way(split, exits):
            wanted = [i for i, request in enumerate(batch) if request in self._open]
            if not wanted:
                return
            batch, x = [batch[i] for i in wanted], x[wanted] if len(wanted) < len(batch) else x
            began = self._now()
            x, found = await self._steps.run((start, stop), x, batch)
            now = self._now()
            self._load.ran(start, stop, batch=len(x), ms=(now - began) * 1000, now=now)
            for request, answer in zip(batch, found, strict=True):
                least = request.needed.get(stop)
                if stop == self._bundle.last or (least is not None and answer.confidence >= least):
                    self._answer(request, stop, answer)

    async def _decode(self, split: int, batch: list[Request]) -> tuple[list[Request], npt.NDArray[np.float32]]:
        """Those requests whose payload is good, and their activations, (B, C, H, W); the others are refused."""
        batch = [request for request in batch if request in self._open]
        receivers = [self._receivers[request.owner] for request in batch]
        good: list[tuple[Request, npt.NDArray[np.float32]]] = []
        for request, found in zip(batch, await self._steps.decode(split, batch, receivers), strict=True):
            if isinstance(found, ReferenceMissing):
                self._refuse(request, "no_reference", str(found))
            elif isinstance(found, CodecError):
                self._refuse(request, "bad_payload", str(found))
            elif isinstance(found, Exception):
                log.error("a payload of %s at split %d was not decoded", request.codec, split, exc_info=found)
                self._refuse(request, "internal", "the server could not decode this payload")
            else:
                good.append((request, found))
        self._count_held()
        if not good:
            return [], np.empty(0, np.float32)
        return [request for request, _ in good], np.concatenate([activation for _, activation in good])

    def _count_held(self) -> None:
        self._metrics.held_bytes.set(sum(receiver.held_bytes for receiver in self._receivers.values()))

    def _answer(self, request: Request, cut: int, answer: Answer) -> None:
        if self._settle(request):
            reached = self._bundle.exit_at[cut]
            self._metrics.results.labels(reached.name).inc()
            request.owner.answered(request, self._bundle.exits.index(reached), answer)

    def _refuse(self, request: Request, reason: RejectReason, detail: str) -> None:
        if self._settle(request):
            self._turn_away(request, reason, detail)

    def _turn_away(self, request: Request, reason: RejectReason, detail: str) -> None:
        self._metrics.rejects.labels(reason).inc()
        request.owner.refused(request, reason, detail)

    def _settle(self, request: Request) -> bool:
        """It is open no more; False if it was not."""
        if request not in self._open:
            return False
        del self._open[request]
        if not self._open:
            self._idle.set()
        return True
