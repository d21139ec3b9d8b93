"""Finishes requests in batches: the batcher decides, a thread runs the tail, every exit may answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from spinn_server.admin.metrics import Metrics
from spinn_stream.bundle import Bundle
from spinn_stream.codec import PayloadReceiver
from spinn_stream.codec.basis import basis_of
from spinn_stream.errors import CodecError, EngineError, ReferenceMissing
from spinn_stream.profile import Profile
from spinn_stream.runtime import Answer, Engine, answers
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host, Step
from spinn_stream.wire import Infer, RejectReason

from .graphs import TailPaths
from .load import ServerLoad
from .scheduler import Batcher, BatchLimits, Waiting

log = logging.getLogger(__name__)

RequestKey = tuple[int, int]
"""(number of the session, id of the request)."""


@dataclass
class _Request:
    infer: Infer
    answer: Callable[[int, Answer], None]  # exit index, answer
    refuse: Callable[[RejectReason, str], None]
    needed: Mapping[int, float]  # cut point of an early exit that may answer -> confidence


class TailEngine:
    """Owns the queue, the one thread that runs the network, and the one that builds graphs.

    A request is answered or refused exactly once, unless it is dropped by `forget`. Requests that an exit
    answers leave the batch at once; the rest goes on, smaller.

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
        self._engine = engine
        self.profile = profile
        self._load = ServerLoad(profile)
        self._paths = TailPaths(bundle, engine, batches=limits.max_batch_size > 1)
        self._host = host
        self._now = host.clock
        self._builder = host.builder("build")
        self._building: asyncio.Task[None] | None = None
        self._batcher: Batcher[RequestKey] = Batcher(limits)
        self._metrics = metrics
        self._requests: dict[RequestKey, _Request] = {}
        self._thread = host.worker("tail")
        self._changed = asyncio.Event()
        self._sessions: dict[int, PayloadReceiver] = {}  # who is there, and what is held of whom

    def submit(
        self,
        key: RequestKey,
        infer: Infer,
        now: float,
        *,
        answer: Callable[[int, Answer], None],
        refuse: Callable[[RejectReason, str], None],
    ) -> None:
        """Queue a request; `answer` or `refuse` is called on the event loop, now or later."""
        request = Waiting(key, infer.split, now, now + infer.budget_ms / 1000)
        if not self._batcher.add(request):
            self._metrics.rejects.labels("overloaded").inc()
            refuse("overloaded", f"{len(self._batcher)} requests are waiting already")
            return
        self._requests[key] = _Request(infer, answer, refuse, self._bundle.needed(infer.threshold))
        self._metrics.requests.labels(self._bundle.cut_points[infer.split].name).inc()
        self._metrics.queue.set(len(self._batcher))
        self._changed.set()

    def cancel(self, key: RequestKey) -> None:
        """The client no longer wants it: refused as `cancelled` now, dropped from its batch soon."""
        self._refuse(key, "cancelled", "as asked")
        self._batcher.remove(key)

    def join(self, session: int) -> None:
        """A client is there and may send requests."""
        self._sessions[session] = PayloadReceiver(self._bundle)

    def forget(self, session: int) -> None:
        """A client is gone: nothing of it is run or answered any more."""
        self._sessions.pop(session, None)
        for key in [k for k in self._requests if k[0] == session]:
            del self._requests[key]
            self._batcher.remove(key)
        self._metrics.queue.set(len(self._batcher))
        self._count_held()

    def load(self, now: float) -> tuple[float, float]:
        """(queueing delay in ms, load factor) of the last second."""
        return self._load.current(now)

    def prepare(self, progress: Callable[[int, int], None]) -> None:
        """Build and run once every graph that any split needs. Blocks: call it before the loop or in a thread."""
        for split in range(1, self._bundle.last):
            if self._bundle.has_basis(split):
                basis_of(self._bundle, split)
        for start, stop in self._paths.prepare(progress):
            self._engine.run(start, stop, np.zeros((1, *self._bundle.cut_points[start].shape), np.float32))

    async def run(self) -> None:
        """Serve the queue until cancelled."""
        try:
            while True:
                self._changed.clear()
                now = self._now()
                decision = self._batcher.take(now, sources=len(self._sessions) or None)
                for late in decision.expired:
                    self._refuse(late.key, "expired", "its budget ran out in the queue")
                self._metrics.queue.set(len(self._batcher))
                if decision.batch:
                    for request in decision.batch:
                        self._metrics.wait.observe(now - request.arrived)
                        self._load.waited((now - request.arrived) * 1000, now)
                    await self._run_batch([r.key for r in decision.batch], decision.batch[0].split)
                    self._build_what_is_wanted()
                    continue
                timeout = None if decision.wake_at is None else max(0.0, decision.wake_at - self._now())
                try:
                    async with asyncio.timeout(timeout):
                        await self._changed.wait()
                except TimeoutError:
                    pass
        finally:
            if self._building is not None:
                self._building.cancel()
            for thread in (self._thread, self._builder):
                thread.shutdown(wait=False, cancel_futures=True)

    def _build_what_is_wanted(self) -> None:
        piece = self._paths.to_build()
        if piece is not None and (self._building is None or self._building.done()):
            self._building = asyncio.create_task(self._build(*piece), name="build")

    async def _build(self, start: int, stop: int) -> None:
        """One fused graph, built beside the work; its first run, which is slow, is not a client's."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._builder, self._paths.build, (start, stop))
            x = np.zeros((1, *self._bundle.cut_points[start].shape), np.float32)
            await self._in_thread(partial(self._engine.run, start, stop, x))
        except EngineError as error:
            log.warning("no fused graph from cut point %d to %d: %s", start, stop, error)
            self._paths.refused((start, stop))
        else:
            self._metrics.fused.set(self._paths.built((start, stop)))

    async def _run_batch(self, keys: list[RequestKey], split: int) -> None:
        began = self._now()
        try:
            await self._run_stages(keys, split)
        except Exception:  # an engine's fault: these requests are refused, the server goes on
            log.exception("a batch of %d at split %d failed", len(keys), split)
            for key in keys:
                self._refuse(key, "internal", "the server could not run this request")
        self._metrics.compute.observe(self._now() - began)

    async def _run_stages(self, keys: list[RequestKey], split: int) -> None:
        keys, x = await self._decode(keys, split)
        if keys:
            self._metrics.batch_size.observe(len(keys))
        exits = {cut for key in keys if key in self._requests for cut in self._requests[key].needed}
        for start, stop in self._paths.pieces(split, exits):
            wanted = [i for i, key in enumerate(keys) if key in self._requests]  # not cancelled, not gone
            if not wanted:
                return
            keys, x = [keys[i] for i in wanted], x[wanted] if len(wanted) < len(keys) else x
            needed = [self._requests[key].needed.get(stop) for key in keys]
            began = self._now()
            x, found = await self._in_thread(partial(self._run_piece, start, stop, x))
            now = self._now()
            self._load.ran(start, stop, batch=len(x), ms=(now - began) * 1000, now=now)
            if stop != self._bundle.last and all(n is None for n in needed):
                continue
            reached = self._bundle.exit_at[stop]
            for key, least, answer in zip(keys, needed, found, strict=True):
                request = self._requests.get(key)
                if request is None:
                    continue
                if stop == self._bundle.last or (least is not None and answer.confidence >= least):
                    del self._requests[key]
                    self._metrics.results.labels(reached.name).inc()
                    request.answer(self._bundle.exits.index(reached), answer)

    def _run_piece(
        self, start: int, stop: int, x: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], list[Answer]]:
        """In the engine's thread; every piece ends at an exit."""
        began = self._now()
        x, output = self._engine.run(start, stop, x)
        self._host.pace(Step("graph", start, stop, exit=True, batch=len(x)), began)
        assert output is not None
        reached = self._bundle.exit_at[stop]
        return x, answers(reached.name, output, reached.temperature)

    async def _decode(self, keys: list[RequestKey], split: int) -> tuple[list[RequestKey], npt.NDArray[np.float32]]:
        """Activations of those requests whose payload is good; the others are refused."""
        infers = {key: self._requests[key].infer for key in keys if key in self._requests}
        receivers = {key: self._sessions.get(key[0]) or PayloadReceiver(self._bundle) for key in infers}

        def decode_all() -> list[tuple[RequestKey, npt.NDArray[np.float32] | CodecError]]:
            decoded: list[tuple[RequestKey, npt.NDArray[np.float32] | CodecError]] = []
            began = self._now()
            for key, infer in infers.items():
                try:
                    decoded.append((key, receivers[key].decode(infer.id, split, infer.codec, infer.payload)))
                except CodecError as error:
                    decoded.append((key, error))
            codec = next(iter(infers.values())).codec if infers else ""
            self._host.pace(Step("decode", split, batch=len(infers), codec=codec), began)
            return decoded

        good: list[tuple[RequestKey, npt.NDArray[np.float32]]] = []
        for key, activation in await self._in_thread(decode_all):
            if isinstance(activation, CodecError):
                missing = isinstance(activation, ReferenceMissing)
                self._refuse(key, "no_reference" if missing else "bad_payload", str(activation))
            else:
                good.append((key, activation))
        self._count_held()
        if not good:
            return [], np.empty(0, np.float32)
        return [key for key, _ in good], np.concatenate([a for _, a in good])

    def _count_held(self) -> None:
        self._metrics.held_bytes.set(sum(receiver.held_bytes for receiver in self._sessions.values()))

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    def _refuse(self, key: RequestKey, reason: RejectReason, detail: str) -> None:
        request = self._requests.pop(key, None)
        if request is not None:
            self._metrics.rejects.labels(reason).inc()
            request.refuse(reason, detail)
