"""Does what the scheduler decides: decodes payloads, runs steps, and tells every request's owner its outcome."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence

from spinn_server.admin.metrics import Metrics
from spinn_stream.bundle import Bundle
from spinn_stream.codec import PayloadReceiver
from spinn_stream.errors import EngineError
from spinn_stream.profile import Profile
from spinn_stream.runtime import Answer, Engine
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host
from spinn_stream.wire import RejectReason

from .costs import Costs
from .load import Waits
from .request import Owner, Request
from .scheduler import BatchLimits, Scheduler, Step
from .steps import Floats, Ran, Receiver, Steps
from .undecoded import refusal

log = logging.getLogger(__name__)

Outcome = tuple[Floats, Answer | None]
"""A request's activation at the end of a step, (1, C, H, W), and the answer of the exit there, if there is one."""

STEP_TIMEOUT_S = 60.0
"""An engine that needs longer for a step counts as dead. The slowest board takes a few seconds."""


class TailEngine:
    """Finishes the requests of one bundle, and holds what each client's next payloads may refer to.

    A request is answered or refused exactly once, unless its owner leaves before. Payloads are decoded in one thread
    while another one runs the network.

    Args:
        profile: of the engine on this machine, for the clients and for the scheduler; None: times are not known.
        receiver: makes the end of each client's payloads.
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
        receiver: Callable[[Bundle], Receiver] = PayloadReceiver,
    ) -> None:
        self.bundle = bundle
        self.profile = profile
        self._name = engine.name
        self._costs = Costs(bundle, profile, limits.max_batch_size)
        self._waits = Waits()
        self._steps = Steps(bundle, engine, metrics, host, batches=limits.max_batch_size > 1)
        self._scheduler = Scheduler(limits, self._costs, self._steps.piece_end)
        self._now = host.clock
        self._metrics = metrics
        metrics.queue.labels(bundle.name).set_function(lambda: self._scheduler.waiting)
        metrics.held_bytes.labels(bundle.name).set_function(
            lambda: sum(receiver.held_bytes for receiver in self._receivers.values())
        )
        self._receiver = receiver
        self._undecoded: list[Request] = []
        self._most_undecoded = 2 * limits.max_queue
        self._receivers: dict[Owner, Receiver] = {}  # of every connection, with what later payloads may refer to
        self._refusing: tuple[RejectReason, str] | None = None  # why nothing more is taken
        self._arrived, self._changed, self._idle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._idle.set()

    def join(self, owner: Owner) -> None:
        """A client joins and may send requests."""
        self._receivers[owner] = self._receiver(self.bundle)

    def submit(self, request: Request) -> None:
        """Take a request of a client that has joined; its owner is told the outcome now or later."""
        if self._refusing is not None:
            request.owner.refused(request, *self._refusing)
            return
        refusal = self._scheduler.admit(request, self._now())
        if refusal is not None:
            refusal.request.owner.refused(refusal.request, "overloaded", refusal.why)
            if refusal.request is request:
                return
        self._idle.clear()
        if len(self._undecoded) >= self._most_undecoded:  # payloads that were cancelled while others were decoded
            self._undecoded = [waiting for waiting in self._undecoded if waiting in self._scheduler]
        self._undecoded.append(request)
        self._arrived.set()

    def cancel(self, request: Request) -> None:
        """The client no longer wants this request: it is refused as `cancelled` now, and dropped from its batch
        soon."""
        self._refuse(request, "cancelled", "as asked")

    def forget(self, owner: Owner) -> None:
        """A client is gone: its requests are neither run nor answered any more."""
        self._receivers.pop(owner, None)
        for request in self._scheduler.of(owner):
            self._scheduler.remove(request)
        self._look_if_idle()

    def stop_taking(self, reason: RejectReason, detail: str) -> None:
        """Refuse new requests from now on; open ones are still run."""
        self._refusing = reason, detail

    def refuse_all(self, reason: RejectReason, detail: str) -> None:
        """Refuse all open requests."""
        for request in self._scheduler.all():
            self._refuse(request, reason, detail)

    async def idle(self) -> None:
        """Until no request is open."""
        await self._idle.wait()

    def load(self, now: float) -> tuple[float, float]:
        """(queueing delay in ms, load factor) of the last second."""
        return self._waits.median_ms(now), self._costs.factor(now)

    def delay_ms(self) -> float:
        """How long a new request would wait, in ms."""
        return self._scheduler.delay_s(self._now()) * 1000

    def prepare(self, progress: Callable[[int, int], None]) -> None:
        """Build and run once every graph that any split needs. Blocks: call it before the loop or in a thread."""
        self._steps.prepare(progress)

    async def run(self) -> None:
        """Serve until cancelled; however it ends, no request stays open.

        Raises:
            EngineError: the engine does not work any more.
        """
        tasks = [asyncio.create_task(work(), name=work.__name__) for work in (self._decode, self._run_steps)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self.stop_taking("internal", "the engine has ended")
            self.refuse_all("internal", "the engine has ended")
            await self._steps.close()

    async def _run_steps(self) -> None:
        while True:
            await self._take_turn()

    async def _take_turn(self) -> None:
        """Run a step, or wait until there may be something to run."""
        self._changed.clear()
        now = self._now()
        decision = self._scheduler.next(now, sources=len(self._receivers))
        self._refuse_hopeless(decision.hopeless)
        if decision.step is not None:
            for request in decision.step.batch:
                if request.at == request.split:
                    self._metrics.wait.observe(now - request.arrived)
                    self._waits.waited((now - request.arrived) * 1000, now)
            in_thread = await self._run_step(decision.step)
            self._costs.spent_beside(self._now() - now - in_thread)
            self._steps.build_what_is_wanted()
            return
        timeout = None if decision.wake_at is None else max(0.0, decision.wake_at - self._now())
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _run_step(self, step: Step) -> float:
        """Run a step. Gives the engine's time."""
        began = self._now()
        try:
            async with asyncio.timeout(STEP_TIMEOUT_S):
                outcomes, in_thread = await self._attempt(step)
        except TimeoutError as error:
            raise EngineError(
                f"{self._name} has not finished a step of {len(step.batch)} within {STEP_TIMEOUT_S:.0f} s"
            ) from error
        self._measure(step, self._now() - began)
        self._settle(step, outcomes)
        return in_thread

    async def _attempt(self, step: Step) -> tuple[list[Outcome | None], float]:
        """The outcome of each request of a step, and the engine's time.

        An outcome is None if the request itself made the step fail.

        Raises:
            EngineError: the engine does not work any more.
        """
        piece, began = (step.start, step.stop), self._now()
        running = asyncio.ensure_future(self._steps.run(piece, step.batch))
        await self._watch(running)
        try:
            y, found, in_thread = running.result()
        except Exception as error:
            return await self._run_one_by_one(step, error), self._now() - began
        now = self._now()
        self._costs.observe(*piece, len(step.batch), now - began, now)
        return [(y[n : n + 1], None if found is None else found[n]) for n in range(len(step.batch))], in_thread

    async def _watch(self, running: asyncio.Future[Ran]) -> None:
        """Wait until the step is done; meanwhile refuse requests that can no longer be in time after it."""
        while True:
            at = self._scheduler.hopeless_at()
            timeout = None if math.isinf(at) else max(0.0, at - self._now())
            done, _ = await asyncio.wait([running], timeout=timeout)
            if done:
                return
            self._refuse_hopeless(self._scheduler.hopeless(self._now()))

    async def _run_one_by_one(self, step: Step, why: Exception) -> list[Outcome | None]:
        """After a failure, run each request alone, unless the engine does not work any more."""
        try:
            await self._steps.check(step.start)
        except Exception as error:
            raise EngineError(f"{self._name} does not run any more: {type(error).__name__}: {error}") from error
        log.error("a step of %d from cut point %d failed", len(step.batch), step.start, exc_info=why)
        outcomes: list[Outcome | None] = []
        for request in step.batch:
            try:
                y, found, _ = await self._steps.run((step.start, step.stop), [request])
            except Exception:  # logged already, for the batch
                outcomes.append(None)
            else:
                outcomes.append((y.copy(), None if found is None else found[0]))
        return outcomes

    def _settle(self, step: Step, outcomes: Sequence[Outcome | None]) -> None:
        """Give their answers to the requests that the exit at the end of a step answers; the others wait there."""
        for request, outcome in zip(step.batch, outcomes, strict=True):
            if outcome is None or (outcome[1] is not None and not math.isfinite(outcome[1].confidence)):
                self._refuse(request, "internal", "the server could not run this request")
        answers = [None if outcome is None else outcome[1] for outcome in outcomes]
        at_exit = step.stop in self.bundle.exit_at
        confidences = [0.0 if answer is None else answer.confidence for answer in answers] if at_exit else None
        leaving = dict(self._scheduler.ran(step, confidences, self._now()))
        for request, outcome in zip(step.batch, outcomes, strict=True):
            if outcome is not None and request in leaving and outcome[1] is not None:
                self._answer(request, step.stop, outcome[1], shortened=leaving[request])
            elif outcome is not None and request in self._scheduler:
                request.activation = outcome[0].copy()  # the next run of the same piece overwrites it
        self._look_if_idle()

    def _measure(self, step: Step, seconds: float) -> None:
        segment = "-".join(self.bundle.cut_points[cut].name for cut in (step.start, step.stop))
        self._metrics.batch_size.observe(len(step.batch))
        self._metrics.compute.observe(seconds)
        self._metrics.segment.labels(self.bundle.name, segment).observe(seconds)
        self._metrics.rows.labels(self.bundle.name, segment).inc(len(step.batch))
        if len({request.split for request in step.batch}) > 1:
            self._metrics.joined.inc(len(step.batch))

    async def _decode(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            batch = [request for request in self._undecoded if request in self._scheduler]
            self._undecoded.clear()
            if batch:
                receivers = [self._receivers[request.owner] for request in batch]
                for request, found in zip(batch, await self._steps.decode(batch, receivers), strict=True):
                    self._take_decoded(request, found)
                self._changed.set()

    def _take_decoded(self, request: Request, found: Floats | Exception) -> None:
        request.payload = b""
        if isinstance(found, Exception):
            self._refuse(request, *refusal(request, found))
        else:
            request.activation = found
            self._scheduler.decoded(request)

    def _look_if_idle(self) -> None:
        if not len(self._scheduler):
            self._idle.set()

    def _answer(self, request: Request, cut: int, answer: Answer, *, shortened: bool) -> None:
        exit_index = self.bundle.exits.index(self.bundle.exit_at[cut])
        request.owner.answered(request, exit_index, answer, shortened=shortened)

    def _refuse(self, request: Request, reason: RejectReason, detail: str) -> None:
        """Refuse a request, if it is still open."""
        if self._scheduler.remove(request):
            self._look_if_idle()
            request.owner.refused(request, reason, detail)

    def _refuse_hopeless(self, requests: Sequence[Request]) -> None:
        for request in requests:
            request.owner.refused(request, "expired", "its budget is too small for what is left to do")
        self._look_if_idle()
