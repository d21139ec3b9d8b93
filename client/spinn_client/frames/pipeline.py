"""Frames in, answers out: takes frames, runs heads, hands tails to the server, and keeps every deadline."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinn_client.device.device import Device
from spinn_client.link.connection import Link
from spinn_client.link.send_gate import SendGate
from spinn_client.steering.steering import Steering
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting
from spinn_stream.errors import EngineError
from spinn_stream.plan import Plan
from spinn_stream.runtime import Answer
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host
from spinn_stream.wire import Reject, Result

from .feed import Feed, Frame
from .ledger import Ledger
from .results import FrameResult, Reason

log = logging.getLogger(__name__)

SPARE_MS = 5.0
"""Kept between the end of local work and a deadline, for the way back through the event loop."""

GRACE_MS = 10.0
"""How long after its deadline a frame without any answer still waits for work on it that is under way.

Half of the 20 ms that the contract allows; the other half is for the way back through the event loop.
"""

PROBE_S = 2.0
"""A probe that waits for longer before it is sent is not sent."""

PATIENCE = 2.0
"""The server is waited for so many times as long as its answers take, before a frame is worked on here."""

ANSWER_STEP = 0.1
"""How fast it is learned how long the server's answers take: a share of the difference for each."""

MOST_PROBES = 16
"""Whose answers may be under way; the oldest is forgotten then."""

PROBE_CODEC = CodecSetting("jpeg", 95)
"""Of its name alone is told to the server; any quality is decoded alike."""

LATE_GRACE_S = 1.0
"""How long a run that reports late answers waits for them at its end."""


@dataclass
class _Pending:
    """A frame that the server was asked about; enough to finish it without the server."""

    activation: npt.NDArray[np.float32]
    plan: Plan
    deadline: float
    sent: float | None = None


class Pipeline:
    """One source's frames through one device and, where there is one, one server.

    Owns every task it starts. All methods and callbacks run on the event loop.

    Args:
        emit: gets every result, in the order they are ready.
    """

    def __init__(
        self,
        bundle: Bundle,
        feed: Feed,
        ledger: Ledger,
        *,
        deadline_ms: float,
        unpaced: bool,
        keep_late: bool,
        emit: Callable[[FrameResult], None],
        host: Host = THIS_MACHINE,
    ) -> None:
        self._bundle = bundle
        self._cut_of = {e.name: e.cut for e in bundle.exits}
        self._device: Device  # from `run` on
        self._feed = feed
        self._ledger = ledger
        self._plan: Plan  # from `run` on
        self._deadline_s = deadline_ms / 1000
        self._unpaced = unpaced
        self._keep_late = keep_late
        self._emit_to = emit
        self._now = host.clock
        self._link: Link | None = None
        self._steering: Steering | None = None
        self._gate: SendGate | None = None
        self._probes: deque[int] = deque(maxlen=MOST_PROBES)  # frames sent to learn of the link alone
        self._pending: dict[int, _Pending] = {}
        self._answer_s = 0.0  # from sending to the server's answer, of those in time; 0.0: none yet
        self._completions: set[asyncio.Task[None]] = set()
        self._overdue: set[int] = set()  # past their deadline without an answer, in their grace
        self._settled = asyncio.Event()
        self._plan_change: asyncio.Task[None] | None = None
        self._ready_s = 0.0  # of the last frame with a payload, from when it was taken until that was to be sent
        self.taken = 0

    def use_link(self, link: Link) -> None:
        """Offer frames to a server from now on."""
        self._link = link

    def use_steering(self, steering: Steering) -> None:
        """Let it change plans, from `run` on."""
        self._steering = steering
        self._gate = SendGate(steering.busy_s, steering.link_answer_s, self._now)

    def change_plan(self, plan: Plan) -> None:
        """Use a plan for the frames taken from now on, or once its graphs are built, which nothing waits for.

        At once where the device has graphs that will do until then. A later call takes the place of an earlier one that
        is still building. A plan that cannot be built is logged; the one before stays, if it was not given up already.
        """
        if self._plan_change is not None:
            self._plan_change.cancel()
        if self._device.runs(plan):
            self._plan = plan
        self._plan_change = asyncio.create_task(self._adopt(plan), name=f"plan {plan.id}")

    async def _adopt(self, plan: Plan) -> None:
        try:
            await self._device.build(plan)
        except EngineError as error:
            log.error(
                "the graphs of plan %d cannot be built: %s; frames go on under plan %d", plan.id, error, self._plan.id
            )
            return
        self._plan = plan

    async def run(self, device: Device, plan: Plan) -> None:
        """Until the source ends and every frame taken in has its final result.

        Raises:
            Exception: what went wrong in the source, after every frame was answered.
        """
        self._device, self._plan = device, plan
        beside = []
        if self._link is not None:
            beside.append(asyncio.create_task(self._link.run(), name="link"))
        if self._steering is not None:
            beside.append(asyncio.create_task(self._steering.run(), name="steering"))
        self._feed.start()
        try:
            await self._take_frames()
        finally:
            self._feed.stop()
            await self._drain()
            left = [*beside, *self._completions, *([] if self._plan_change is None else [self._plan_change])]
            for task in left:
                task.cancel()
            for ended in await asyncio.gather(*left, return_exceptions=True):
                if isinstance(ended, Exception):
                    log.error("a task beside the frames failed", exc_info=ended)

    async def _take_frames(self) -> None:
        while True:
            if self._unpaced and self._link is not None:
                await self._link.wait_for_room(self._deadline_s)
            await self._wait_to_begin()
            asked = self._now()
            frame = await self._feed.next()
            taken = self._now()
            if frame is None:
                return
            deadline = frame.captured + self._deadline_s
            if deadline <= self._now():
                self._feed.dropped["expired"] += 1
                continue
            self.taken += 1
            self._ledger.take(frame.index, captured=frame.captured, deadline=deadline, plan=self._plan.id)
            self._later(deadline, self._time_out, frame.index, deadline)
            await self._treat(frame, deadline, began=frame.captured if frame.captured >= asked else taken)

    async def _wait_to_begin(self) -> None:
        """Take no frame yet that would wait for the link after its head, where no exit of the head can answer it."""
        plan = self._plan
        if self._gate is None or plan.split == self._bundle.last:
            return
        if all(cut > plan.split for cut in self._bundle.needed(plan.confidence_threshold)):
            await self._gate.wait_to_begin(
                self._ready_s, self._rescue_in(plan, self._now() + self._deadline_s), self._deadline_s
            )

    async def _treat(self, frame: Frame, deadline: float, *, began: float) -> None:
        """began: when the device could have begun with it."""
        plan = self._plan
        probe = None if self._steering is None else self._steering.probe()
        outcome = await self._device.head(
            frame.index,
            frame.pixels,
            plan,
            lambda answer: self._local_exit(frame.index, answer),
            answer_by=deadline - SPARE_MS / 1000,
            probe=probe,
        )
        if self._steering is not None:
            self._steering.passed(plan, None if outcome.answer is None else self._cut_of[outcome.answer.exit])
        if outcome.answer is not None:
            self._answer_locally(frame.index, outcome.answer)
            self._count_overhead(began)
            if probe is not None and outcome.probe is not None:
                self._send_probe(frame.index, probe, outcome.probe)
            return
        if frame.index not in self._ledger:  # its deadline came while the head ran
            return
        self._count_overhead(began)
        in_time = True
        if outcome.payload is not None:
            self._ready_s = self._now() - began
        if outcome.payload is not None and self._gate is not None:  # answers to many at a time would only be older
            in_time = await self._gate.wait_to_send(
                len(outcome.payload),
                lambda: self._rescue_in(plan, deadline),
                answer_by=None if probe is not None else deadline,
            )
        if frame.index not in self._ledger:
            return
        self._pending[frame.index] = _Pending(outcome.activation, plan, deadline)
        link = self._link if in_time else None
        if link is not None and outcome.payload and link.send(frame.index, plan, outcome.payload, deadline):
            self._pending[frame.index].sent = self._now()
            if self._steering is not None:
                self._steering.sent(plan, len(outcome.payload))
            if not self._ledger.has_local_answer(frame.index):
                asyncio.get_running_loop().call_later(self._rescue_in(plan, deadline), self._rescue, frame.index)
            return
        if self._link is not None and not self._link.up:
            self._ledger.trouble(frame.index, "disconnected")
        await self._complete(frame.index)

    def _count_overhead(self, began: float) -> None:
        if self._steering is not None:
            self._steering.treated(self._now() - began - self._device.head_foreseen_s)

    def _send_probe(self, frame: int, setting: CodecSetting, payload: bytes) -> None:
        """A frame that is answered already; the server's first exit will do."""
        if self._steering is not None:
            self._steering.coded(0, setting, len(payload))
        plan = Plan(0, 0, 0.0, PROBE_CODEC)
        if self._link is not None and self._link.send(frame, plan, payload, self._now() + PROBE_S):
            self._probes.append(frame)

    def _rescue_in(self, plan: Plan, deadline: float) -> float:
        """Seconds until a frame without a local answer must be worked on here, to have one by its deadline.

        The thread may be busy with another frame's head just then, or with another rescue. Where that leaves the server
        less time than its answers take, only the head is reckoned with: on a slow device, rescues that nobody needs
        would keep it from the next frames.
        """
        now, rescue_ms = self._now(), self._device.first_exit_ms(plan.split)
        latest = deadline - (rescue_ms + self._device.head_ms(plan) + 3 * SPARE_MS) / 1000
        patient = now + PATIENCE * self._answer_s
        return max(0.0, min(latest, max(latest - rescue_ms / 1000, patient)) - now)

    def _rescue(self, frame: int) -> None:
        if frame in self._ledger and not self._ledger.has_local_answer(frame):
            self._start_completion(frame, only_first_exit=True)

    def _start_completion(self, frame: int, *, only_first_exit: bool = False) -> None:
        if frame in self._pending:
            task = asyncio.create_task(self._complete(frame, only_first_exit=only_first_exit), name=f"complete {frame}")
            self._completions.add(task)
            task.add_done_callback(self._completion_done)

    def _completion_done(self, task: asyncio.Task[None]) -> None:
        self._completions.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("finishing a frame on the device failed", exc_info=task.exception())

    async def _complete(self, frame: int, *, only_first_exit: bool = False) -> None:
        """Finish a frame on the device, as far as time allows."""
        pending = self._pending.get(frame)
        if pending is None:  # it was answered meanwhile
            return
        answer = await self._device.complete(
            pending.activation,
            pending.plan.split,
            pending.plan,
            pending.deadline - SPARE_MS / 1000,
            lambda found: self._local_exit(frame, found),
            first_by=None if self._ledger.has_local_answer(frame) else pending.deadline + GRACE_MS / 1000,
            only_first_exit=only_first_exit,
        )
        if answer is not None:
            self._answer_locally(frame, answer)
        elif not only_first_exit:
            self._emit(self._ledger.settle_locally(frame, None, "deadline", self._now()))

    def _later(self, when: float, then: Callable[..., None], *arguments: object) -> None:
        asyncio.get_running_loop().call_later(max(0.0, when - self._now()), then, *arguments)

    # What the device and the clock tell

    def _local_exit(self, frame: int, answer: Answer) -> None:
        self._emit(self._ledger.local_exit(frame, answer, self._now()))
        if frame in self._overdue:
            self._give_up(frame)

    def _answer_locally(self, frame: int, answer: Answer) -> None:
        final = answer.exit == self._bundle.exits[-1].name
        self._emit(self._ledger.settle_locally(frame, answer, "final_exit" if final else "confident", self._now()))

    def _time_out(self, frame: int, deadline: float) -> None:
        if frame in self._ledger and not self._ledger.has_local_answer(frame):
            self._overdue.add(frame)
            self._later(deadline + GRACE_MS / 1000, self._give_up, frame)
        else:
            self._give_up(frame)

    def _give_up(self, frame: int) -> None:
        """Time is over: the best local answer there is, or none."""
        self._overdue.discard(frame)
        result = self._ledger.time_out(frame, self._now())
        if result is None:
            return
        if self._link is not None and not self._keep_late and frame in self._pending:
            self._link.cancel(frame)
        self._emit(result)

    # What the link tells

    def on_answer(self, message: Result) -> None:
        """See `LinkEvents`."""
        if message.id in self._probes:  # its frame was answered here; this says no more of it
            return
        self._device.sender.acknowledge(message.id)
        pending = self._pending.get(message.id)
        if pending is not None and pending.sent is not None:
            took = self._now() - pending.sent
            self._answer_s += (ANSWER_STEP if self._answer_s else 1.0) * (took - self._answer_s)
        exit_ = self._bundle.exits[message.exit]
        if pending is not None and self._steering is not None:
            self._steering.served(pending.plan, exit_.cut, message.arrived_ms, message.left_ms)
        answer = Answer(exit_.name, message.top[0][0], message.top[0][1], message.top)
        reason: Reason = "final_exit" if exit_.cut == self._bundle.last else "confident"
        self._emit(self._ledger.server_answer(message.id, answer, reason, self._now()))

    def on_reject(self, message: Reject) -> None:
        """See `LinkEvents`."""
        if message.reason == "no_reference":
            self._device.sender.reset()
        if message.id is not None and message.id in self._ledger:
            log.warning("the server refused frame %d: %s: %s", message.id, message.reason, message.detail)
            self._ledger.trouble(message.id, "rejected")
            self._start_completion(message.id)

    def on_up(self) -> None:
        """See `LinkEvents`."""
        log.info("the server is there")

    def on_down(self, lost: list[int], why: str) -> None:
        """See `LinkEvents`."""
        log.warning("lost the server (%s); answering on the device alone", why)
        self._device.sender.reset()
        self._probes.clear()
        if self._steering is not None:
            self._steering.look()
        for frame in lost:
            self._ledger.trouble(frame, "disconnected")
            if frame in self._ledger:
                self._start_completion(frame)

    # The way out

    def _emit(self, result: FrameResult | None) -> None:
        if result is None:
            return
        if result.kind == "final":
            self._pending.pop(result.frame, None)
            self._settled.set()
        self._emit_to(result)

    async def _drain(self) -> None:
        """Until nothing is owed; deadlines see to it that this ends."""
        while len(self._ledger):
            self._settled.clear()
            try:
                async with asyncio.timeout(self._deadline_s + 1):
                    await self._settled.wait()
            except TimeoutError:
                log.error("%d frames were never settled", len(self._ledger))
                return
        if self._keep_late and self._link is not None and self._link.up:
            await self._link.wait_until_idle(LATE_GRACE_S)
