"""Carries out what `Frames` decides: runs heads and tails, moves payloads, keeps one timer. The way of a frame:

feed ─► take ─► head on the device ─► confident ─► result
                      │ unsure
                      ▼
            like one that is with the server? ─► that one's answer, when it comes ─► result
                      │ no, or it does not come in time
                      ▼
                room? ─► link ─► server's answer ─► result
                      │ no, or no answer in time
                      ▼
                finish on the device ─► result
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from spinn_client.device.camera_answers import NOTHING_MADE, CameraAnswers
from spinn_client.device.device import Device, HeadOutcome
from spinn_client.device.exit_audits import ExitAudits
from spinn_client.events import Event, PlanChanged, ServerBack, ServerChanged, ServerLost, ServerRefusedUs, Warned
from spinn_client.link.probes import Probes
from spinn_client.steering.guide import Guide
from spinn_client.tasks import Tasks
from spinn_stream.bundle import Bundle
from spinn_stream.errors import EngineError
from spinn_stream.plan import Decision, Plan
from spinn_stream.runtime import Answer
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host

from .actions import Action, Cancel, Emit, Finish, LinkIs, Send
from .feed import Frame
from .flight import SPARE_MS, Flight, State
from .frames import Frames
from .ledger import Ledger
from .repeating import Repeating
from .results import Result
from .slot import FrameSource

if TYPE_CHECKING:
    from spinn_client.link.link import Link
    from spinn_stream.codec import CodecSetting
    from spinn_stream.wire import Reject
    from spinn_stream.wire import Result as ServerResult

log = logging.getLogger(__name__)

LATE_GRACE_S = 1.0
"""How long a run that reports late answers waits for them at its end."""


class Pipeline:
    """One source's frames through one device and, if there is one, one server.

    Owns every task it starts. All methods and callbacks run on the event loop.

    Args:
        guide: says how frames are treated. link: connected already, or to be; None: the device is alone.
        unpaced: every frame is wanted, so a frame waits until one more may be sent.
        emit: gets every result, in the order they are ready. tell: gets what happens besides.
        wait_for: waited for before each frame is taken, if given: whoever reads results may have enough of them.
        answers: those for one camera's frames, to repeat them and to audit early exits.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: Device,
        feed: FrameSource,
        ledger: Ledger,
        guide: Guide,
        link: Link | None,
        *,
        deadline_ms: float,
        unpaced: bool = False,
        keep_late: bool = False,
        emit: Callable[[Result], object],
        tell: Callable[[Event], object] = lambda event: None,
        wait_for: Callable[[], Coroutine[Any, Any, None]] | None = None,
        answers: CameraAnswers = NOTHING_MADE,
        host: Host = THIS_MACHINE,
    ) -> None:
        self._bundle = bundle
        self._cut_of = {e.name: e.cut for e in bundle.exits}
        self._device = device
        self._feed = feed
        self._guide = guide
        self._link = link
        self._unpaced = unpaced
        self._keep_late = keep_late
        self._emit_to, self._tell = emit, tell
        self._wait_for, self._answers = wait_for, answers
        self._now = host.clock
        self.plan = guide.plan
        self._frames = Frames(bundle, ledger, device, deadline_s=deadline_ms / 1000, keep_late=keep_late)
        self._repeating = Repeating(self._frames, ledger, answers)
        self._probes = Probes()
        self.limited = 0  # frames that were not sent as the server had had as many as it is to have
        self._tasks = Tasks(lambda text: tell(Warned(self._now(), text)))
        self._guiding: asyncio.Task[None] | None = None
        self._plan_change: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()  # something happened that may let a frame be taken, or end
        self._timer: tuple[float, asyncio.TimerHandle] | None = None  # for `Frames.look`: when, and what to cancel

    @property
    def taken(self) -> int:
        return self._frames.taken

    # What may change while it runs

    def set_deadline(self, deadline_ms: float) -> None:
        """For the frames taken from now on."""
        self._frames.deadline_s = deadline_ms / 1000

    def use_guide(self, guide: Guide) -> None:
        """Ask another one from now on, and change to its plan."""
        self.change_plan(guide.plan)
        if guide is not self._guide:
            self._guide = guide
            if self._guiding is not None:
                self._guiding.cancel()
                self._start_guide()

    def change_plan(self, plan: Plan) -> None:
        """Use a plan for the frames taken from now on, or once its graphs are built, which nothing waits for.

        At once if the device has graphs that will do until then. A later call takes the place of an earlier one that
        is still building. A plan that cannot be built is told; the one before stays, if it was not given up already.
        """
        if self._plan_change is not None:
            self._plan_change.cancel()
        if self._device.runs(plan):
            self.plan = plan
        self._plan_change = self._tasks.start(self._adopt(plan), f"building the graphs of plan {plan.id}")

    async def _adopt(self, plan: Plan) -> None:
        try:
            await self._device.build(plan)
        except EngineError as error:
            text = f"the graphs of plan {plan.id} cannot be built: {error}; frames go on under plan {self.plan.id}"
            self._tell(Warned(self._now(), text))
            return
        self.plan = plan

    # The life of a run

    async def run(self) -> None:
        """Until the source ends and every frame taken in has its final result.

        Raises:
            Exception: what went wrong in the source or on the device, after every frame was answered.
        """
        self._start_guide()
        if self._link is not None:
            self._tasks.start(self._link.run(self), "the connection to the server")
        self._feed.start(self._changed.set)
        try:
            await self._take_frames()
        finally:
            self._feed.stop()
            try:
                await self._drain()
            finally:
                await self._end_tasks()

    def end_now(self) -> None:
        """Give every frame the best answer there is, without waiting for more; `run` then ends."""
        self._feed.stop()
        self._do(self._frames.end(self._now()))

    async def _take_frames(self) -> None:
        while True:
            asked = await self._until_one_may_be_taken()
            frame = await self._feed.next()
            if self._link is not None:
                self._link.choose()
            taken = self._now()
            if frame is None:
                return
            flight = self._frames.take(frame.index, frame.captured, self.plan, taken, frame.origin, link=self._link_is)
            if flight is None:
                too_old = frame.captured + self._frames.deadline_s <= taken
                self._feed.drop(frame.index, "expired" if too_old else "no_time")
                continue
            self.limited += self._link is not None and self._link.up and self._link.limits(taken)
            self._set_timer()
            await self._treat(frame, began=frame.captured if frame.captured >= asked else taken)

    async def _until_one_may_be_taken(self) -> float:
        """Gives since when the device could have begun with it."""
        if self._wait_for is not None:
            await self._wait_for()
        patience, idle_since = self._now() + self._frames.deadline_s, None
        while True:
            now, link = self._now(), self._link
            age = self._feed.age(now)
            for_room = self._unpaced and now < patience and link is not None and link.up and not link.ready
            begins = self._frames.to_begin(now, age, self.plan, link=self._link_is) and not for_room
            idle_since = (idle_since or now) if begins else None
            if idle_since is not None and age is not None:
                return idle_since
            self._set_timer()
            frames_time = math.inf if age is None else self._frames.deadline_s - age
            await self._something_happens(patience - now if for_room else frames_time)

    @property
    def _link_is(self) -> LinkIs:
        if self._link is None or not self._link.server.well or self._link.limits(self._now()):
            return LinkIs.AWAY
        return LinkIs.READY if self._link.ready else LinkIs.FULL

    async def _treat(self, frame: Frame, *, began: float) -> None:
        """began: when the device could have begun with it."""
        flight = self._frames.flight(frame.index)
        if flight is None:
            return
        plan, link, probe = flight.plan, self._link, self._guide.probe()
        sender = link.sender if link is not None and flight.sends else None
        outcome = await self._device.head(
            frame.index, frame.pixels, plan,
            lambda answer: self._do(self._frames.local_exit(frame.index, answer, self._now())),
            sender=sender, answer_by=flight.deadline - SPARE_MS / 1000, probe=probe,
            repeats=self._repeating.looks(frame.index, self._now, self._do),
            audit=self._answers.asks(lambda audits, answer: self._goes_on(flight, audits, answer)),
        )  # fmt: skip
        now = self._now()
        if outcome.repeated:
            self._treated(frame.index, now - began, probe, outcome)
            return
        first = flight.early or outcome.answer
        self._guide.went(plan, 0, plan.split, None if first is None else self._cut_of[first.exit])
        if outcome.answer is not None:
            self._answers.answered(frame.index, outcome.answer)
            self._do(self._frames.answered_here(frame.index, outcome.answer, now))
            self._treated(frame.index, now - began, probe, outcome)
            return
        if self._frames.flight(frame.index) is not None:
            self._guide.treated(now - began - self._device.head_foreseen_s)
        flight.sender = sender
        up = link is None or link.up
        self._do(self._frames.unsure(flight, outcome.activation, outcome.payload, now, began=began, link_up=up))

    def _treated(self, frame: int, took: float, probe: CodecSetting | None, outcome: HeadOutcome) -> None:
        """A frame that is answered may be sent as a probe, too. took: seconds."""
        self._guide.treated(took - self._device.head_foreseen_s)
        if probe is not None and outcome.probe is not None:
            self._guide.coded(0, probe, len(outcome.probe))
            if self._link is not None:
                self._probes.send(frame, outcome.probe, self._link, self._now())

    def _goes_on(self, flight: Flight, audits: ExitAudits, answer: Answer) -> None:
        """An early exit has answered a frame that goes on as an audit."""
        if flight.state is State.SETTLED:  # it is an audit of a repeat, or its deadline came
            return
        flight.early, flight.audit = answer, True
        self._answers.answered(flight.frame, answer)
        audits.passed(flight.frame, flight.plan, answer)
        self._do(self._frames.answered_here(flight.frame, answer, self._now()))

    # Carrying out

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Emit(result):
                    self._emit_to(result)
                case Send():
                    self._do(self._send(action))
                case Finish():
                    self._tasks.start(self._finish(action), f"finishing frame {action.flight.frame} on the device")
                case Cancel(frame):
                    if self._link is not None:
                        self._link.cancel(frame)
        if going_on := self._frames.go_on():
            self._do(going_on)
        self._changed.set()
        self._set_timer()

    def _send(self, action: Send) -> list[Action]:
        flight, link = action.flight, self._link
        if (instead := self._repeating.instead_of_sending(flight, self._now())) is not None:
            return instead
        assert flight.payload is not None
        request = flight.frame, flight.plan, flight.payload, flight.deadline, flight.sender
        if link is None or not (flight.has_room or link.ready) or not link.send(*request):
            return self._frames.not_sent(flight, self._now(), link_up=link is None or link.up)
        self._guide.sent(flight.plan, len(flight.payload))
        return self._frames.sent(flight, self._now())

    async def _finish(self, action: Finish) -> None:
        flight, answer = action.flight, None
        try:
            answer = await self._device.complete(
                action.activation, flight.plan.split, flight.plan, action.stop_at,
                lambda found: self._do(self._frames.local_exit(flight.frame, found, self._now())),
                first_by=action.first_by, only_first_exit=action.only_first_exit,
                go_on=lambda first, until: (
                    flight.state is not State.SETTLED and (first or not self._frames.others_in_need(flight, until))
                ),
            )  # fmt: skip
            if answer is not None:
                self._answers.answered(flight.frame, answer)
        finally:  # else no frame would be taken any more
            self._do(self._frames.finished(flight, answer, only_first_exit=action.only_first_exit, now=self._now()))

    def _set_timer(self) -> None:
        """One timer for all that `Frames` waits for. One that rings early is harmless, and spares setting it anew."""
        at = self._frames.wake_at()
        if self._timer is not None:
            if self._timer[0] <= at:
                return
            self._timer[1].cancel()
            self._timer = None
        if at < math.inf:
            loop = asyncio.get_running_loop()
            self._timer = at, loop.call_later(max(0.0, at - self._now()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._do(self._frames.look(self._now()))

    async def _something_happens(self, most_s: float) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if most_s == math.inf else most_s):
                await self._changed.wait()

    # What the link tells: see `LinkEvents`

    def on_answer(self, message: ServerResult, server: str) -> None:
        if message.id in self._probes.frames:  # its frame was answered here; this says no more of it
            return
        exit_ = self._bundle.exits[message.exit]
        flight = self._frames.flight(message.id)
        if flight is not None and not message.shortened:  # else the exit says nothing of the plan
            self._guide.went(flight.plan, flight.plan.split, self._bundle.last, exit_.cut)
        answer = Answer(exit_.name, message.top[0][0], message.top[0][1], message.top)
        if not message.shortened:
            self._answers.answered(message.id, answer)
        self._do(self._frames.server_answered(message.id, answer, self._now(), server, shortened=message.shortened))

    def on_reject(self, message: Reject) -> None:
        if message.id is not None:
            log.info("the server refused frame %d: %s: %s", message.id, message.reason, message.detail)
            self._do(self._frames.server_refused(message.id, self._now()))

    def on_room(self) -> None:
        self._changed.set()

    def on_up(self, server: str) -> None:
        self._tell(ServerBack(self._now(), server))

    def on_refused(self, server: str, why: str) -> None:
        self._tell(ServerRefusedUs(self._now(), server, why))

    def on_down(self, server: str, lost: list[int], why: str) -> None:
        self._probes.frames.clear()
        instead = self._link.server.config.url if self._link is not None and self._link.up else None
        self._tell(ServerLost(self._now(), server, why, instead))
        if instead is None:  # if another took its place, `on_switch` has said so; a spare's end changes nothing
            self._frames.server_changed()
        self._look()
        self._do(self._frames.lost(lost, self._now()))

    def on_switch(self, before: str, server: str) -> None:
        self._frames.server_changed()
        self._tell(ServerChanged(self._now(), before, server))
        self._look()

    def _look(self) -> None:
        decision = self._guide.look()
        if decision is not None:
            self._decided(decision)

    # Tasks, and the end

    def _decided(self, decision: Decision) -> None:
        self._tell(PlanChanged(self._now(), decision.plan, decision.reason))
        self.change_plan(decision.plan)

    def _start_guide(self) -> None:
        self._guiding = self._tasks.start(self._guide.run(lambda: self._feed.captured, self._decided), "the scheduler")

    async def _drain(self) -> None:
        """Until nothing is owed; deadlines see to it that this ends."""
        while len(self._frames):
            await self._something_happens(math.inf)
        if self._keep_late and self._link is not None and self._link.up:
            await self._link.wait_until_idle(LATE_GRACE_S)

    async def _end_tasks(self) -> None:
        if self._timer is not None:
            self._timer[1].cancel()
        await self._tasks.end()
