"""What becomes of frames: decides when one is taken, sent, finished here or given up. Plain code; `now` is an argument.

Whoever carries it out (`pipeline`) tells what happened and gets actions back, and asks again at `wake_at`:

    deadline   a frame's time is over: its most confident local answer is final
    grace      a frame without any answer at its deadline waits a little for work on it that is under way
    rescue     a frame that was sent before any exit had run here is worked on here in time for its first exit

A frame is taken only if it can be answered: the server's last answers all came soon enough, or the device has the time
for the frame's first exit, besides what it owes to others. So what is lost if the link fails is what is under way then,
and nothing that is taken in afterwards.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle
from spinn_stream.plan import Plan
from spinn_stream.runtime import Answer

from .actions import Action, Cancel, DeviceTimes, Emit, Finish, LinkIs, Manner, Send
from .flight import SPARE_MS, Flight, Happens, State
from .ledger import FirstExits, Ledger
from .reliance import MISSED, Reliance
from .results import Reason, Result

GRACE_MS = 10.0
"""How long after its deadline a frame without any answer still waits for work on it that is under way.

Half of the 20 ms that the contract allows; the other half is for the way back through the event loop.
"""

MOST_WAITING = 8
"""Frames that wait for the answer of another one; more are sent: each holds its activation and its payload."""

FRAMES = 8
"""The youngest of the last frames is as young as they come: a camera and its driver take their time, too."""

SAME_S = 1e-6
"""Captures nearer to each other are of one frame."""

FORGET = 0.9
"""How fast the longest time that a frame took to be ready is forgotten: it guards deadlines, as `StageClock` does."""


class Frames:
    """All frames of one stream that are owed a final result. Times in seconds of the caller's clock, never falling.

    Args:
        deadline_s: from capture to the final result; may be changed, for the frames taken from then on.
        keep_late: answers that come after the final result are wanted: the server is not told to drop them.
    """

    def __init__(
        self, bundle: Bundle, ledger: Ledger, device: DeviceTimes, *, deadline_s: float, keep_late: bool
    ) -> None:
        self._bundle = bundle
        self._final_exit = bundle.exits[-1].name
        self._whole = Plan(0, bundle.last, None)
        self._ledger = ledger
        self._device = device
        self.deadline_s = deadline_s
        self._keep_late = keep_late
        self._reliance = Reliance()
        self._first_exits = FirstExits(bundle, ledger, device)
        # By (split, whether it was sent): from beginning with a frame to its head's end.
        self._ready_s: dict[tuple[int, bool], float] = {}
        self._unfinished = 0  # jobs that the device was asked for and has not done
        self._in_need = 0  # frames without any answer that the device was asked to finish
        self._seen = -math.inf  # capture of the last frame that waited
        self._ages: deque[float] = deque(maxlen=FRAMES)  # of the last ones that waited, when that was first seen
        self.taken = 0

    def __len__(self) -> int:
        """Frames that are owed a final result."""
        return len(self._ledger)

    def flight(self, frame: int) -> Flight | None:
        """None: it was never taken in, or has its final result."""
        return self._ledger.flight(frame)

    # Taking frames

    def to_begin(self, now: float, age: float | None, plan: Plan, *, link: LinkIs) -> bool:
        """Whether to take a frame of that age now, or to drop it; else ask again when something happened.

        age: seconds; None: no frame waits.
        """
        captured = now - (age or 0.0)
        if age is not None and captured > self._seen + SAME_S:
            self._seen = captured
            self._ages.append(age)
        return captured + self.deadline_s <= now or self._manner(now, captured, plan, link) is not None

    def take(
        self, frame: int, captured: float, plan: Plan, now: float, origin: str | None = None, *, link: LinkIs
    ) -> Flight | None:
        """From now on it is owed a final result; None: nobody could answer it by its deadline, and it is not taken.

        link: as it is now.
        """
        manner = self._manner(now, captured, plan, link)
        if captured + self.deadline_s <= now or manner is None:
            return None
        self.taken += 1
        return self._ledger.take(
            frame, captured=captured, deadline=captured + self.deadline_s, plan=plan, origin=origin,
            relies=manner.relies, sends=manner.sends, has_room=link is LinkIs.READY,
        )  # fmt: skip

    # What the device tells

    def local_exit(self, frame: int, answer: Answer, now: float) -> list[Action]:
        """An exit ran on the device and was not confident enough."""
        actions = _emitted(self._ledger.local_exit(frame, answer, now))
        flight = self._ledger.flight(frame)
        if flight is not None:
            self._satisfied(flight)
            if flight.state is State.OVERDUE:
                actions += self._give_up(flight, now)
        return actions

    def others_in_need(self, flight: Flight, until: float) -> bool:
        """Whether the device is to work on another frame before that time, for its first answer. From any thread."""
        owed = [at for f in self._ledger if not f.relies and (at := f.rescue_at) is not None]
        return self._in_need > flight.in_need or min(owed, default=math.inf) < until

    def answered_here(self, frame: int, answer: Answer, now: float) -> list[Action]:
        """An exit was confident enough on the device, or its final exit ran."""
        reason: Reason = "final_exit" if answer.exit == self._final_exit else "confident"
        return _emitted(self._ledger.settle_locally(frame, answer, reason, now))

    def unsure(
        self, flight: Flight, activation: npt.NDArray[np.float32], payload: bytes | None, now: float,
        *, began: float, link_up: bool,
    ) -> list[Action]:  # fmt: skip
        """The head is done, and none of its exits was confident.

        Args:
            payload: the activation, coded; None: it cannot be sent. began: when the device could begin with the frame.
        """
        if flight.state is State.SETTLED:  # its deadline came while the head ran, or it is an audit
            flight.payload = payload if flight.audit else None
            return [Send(flight)] if flight.payload is not None else []
        flight.activation = activation
        way = flight.plan.split, payload is not None
        self._ready_s[way] = max(now - began, FORGET * self._ready_s.get(way, 0.0))
        if flight.state is State.OVERDUE:  # some exit may still run in its grace
            return [self._finish(flight)]
        flight.happens(Happens.UNSURE)
        if payload is None:
            return self._leave(flight, None if link_up else "disconnected", now)
        flight.payload = payload
        return [Send(flight)]

    def finished(self, flight: Flight, answer: Answer | None, *, only_first_exit: bool, now: float) -> list[Action]:
        """The device went as far with a frame as it was asked to. answer: None: no exit was confident in time."""
        if flight.finishing:
            flight.finishing -= 1
            self._unfinished -= 1
        self._satisfied(flight)
        if answer is not None:
            return self.answered_here(flight.frame, answer, now)
        if only_first_exit:
            return []
        return _emitted(self._ledger.settle_locally(flight.frame, None, "deadline", now))

    # What the link tells

    def sent(self, flight: Flight, now: float) -> list[Action]:
        """The link took the payload."""
        if flight.state is State.SETTLED:  # an audit: nobody waits for its answer
            flight.payload = None
            return []
        flight.happens(Happens.SENT)
        flight.sent_at, flight.payload, flight.reliance = now, None, self._reliance
        self._first_exits.set_times(self._reliance, now)
        return []

    def not_sent(self, flight: Flight, now: float, *, link_up: bool) -> list[Action]:
        """The link did not take the payload."""
        return self._leave(flight, None if link_up else "disconnected", now)

    def server_answered(
        self, frame: int, answer: Answer, now: float, server: str | None = None, *, shortened: bool = False
    ) -> list[Action]:
        """An exit answered on the server. server: which one. shortened: it is an earlier exit than was asked for."""
        flight = self._ledger.flight(frame)
        if flight is not None and flight.sent_at is not None and flight.reliance is not None:
            allowed = flight.deadline - flight.sent_at  # a much later one was read late: this process was held up
            flight.reliance.answered(min(now - flight.sent_at, MISSED * allowed), now)
        reason: Reason = "final_exit" if answer.exit == self._final_exit else "shortened" if shortened else "confident"
        return _emitted(self._ledger.server_answer(frame, answer, reason, now, server))

    def server_refused(self, frame: int, now: float) -> list[Action]:
        """The server will not answer this frame."""
        flight = self._ledger.flight(frame)
        if flight is None:
            return []
        self._missed(flight, now)
        return self._leave(flight, "rejected", now)

    def lost(self, frames: Sequence[int], now: float) -> list[Action]:
        """The connection ended with these frames under way."""
        flights = [flight for frame in frames if (flight := self._ledger.flight(frame)) is not None]
        return [action for flight in flights for action in self._leave(flight, "disconnected", now)]

    def wait(self, flight: Flight, awaited: Flight, now: float) -> bool:
        """Hold a frame back until the answer of another one, which is AWAY, or until it must be sent itself.

        False: it is not held back, as it would have to be sent before that answer usually comes.
        """
        if sum(f.awaits is not None for f in self._ledger) >= MOST_WAITING or awaited.sent_at is None:
            return False
        flight.awaits = awaited
        self._first_exits.set_times(self._reliance, now)
        until = flight.rescue_at
        if until is not None and until > now and self._reliance.perhaps(until - awaited.sent_at, now):
            flight.has_room = False  # others may have it meanwhile
            return True
        flight.awaits = flight.rescue_at = None
        return False

    def go_on(self) -> list[Action]:
        """With the frames that wait for one which is not AWAY any more: answered, refused, lost, or out of time."""
        over = [f for f in self._ledger if f.awaits is not None and f.awaits.state is not State.AWAY]
        for flight in over:
            flight.awaits = flight.rescue_at = None
        return [Send(flight) for flight in over]

    def server_changed(self) -> None:
        """Frames go to another server, or over another connection, from now on."""
        self._reliance = Reliance()

    # What the clock tells

    def wake_at(self) -> float:
        """When to call `look` again at the latest; inf: not until something happens."""
        times = [math.inf]
        for flight in self._ledger:
            times.append(flight.deadline + GRACE_MS / 1000 if flight.state is State.OVERDUE else flight.deadline)
            if flight.rescue_at is not None:
                times.append(flight.rescue_at)
        return min(times)

    def look(self, now: float) -> list[Action]:
        """What is due."""
        actions: list[Action] = []
        self._first_exits.set_times(self._reliance, now)
        for flight in self._ledger:
            if flight.awaits is not None and flight.rescue_at is not None and flight.rescue_at <= now:
                flight.awaits = flight.rescue_at = None
                actions.append(Send(flight))
            if flight.rescue_at is not None and flight.rescue_at <= now:
                flight.rescue_at, flight.rescued = None, True
                if flight.state is State.AWAY and flight.best is None and self._may_rescue(flight, now):
                    actions.append(self._finish(flight, only_first_exit=True))
            if flight.deadline <= now and flight.state is State.AWAY:
                self._missed(flight, now)
            if flight.state is State.OVERDUE:
                if flight.deadline + GRACE_MS / 1000 <= now:
                    actions += self._give_up(flight, now)
            elif flight.deadline <= now:
                if flight.best is not None:
                    actions += self._give_up(flight, now)
                else:
                    flight.happens(Happens.DEADLINE)
                    flight.rescue_at = None
        return actions

    def end(self, now: float) -> list[Action]:
        """Nobody waits any longer: every frame gets the best local answer there is, or none."""
        return [action for flight in self._ledger for action in self._give_up(flight, now)]

    # Decisions

    def _manner(self, now: float, captured: float, plan: Plan, link: LinkIs) -> Manner | None:
        """How a frame can be answered in time.

        None: it cannot, or a newer one can better a little later. A frame that even a device without other work could
        not answer is tried all the same if nothing else is owed: nobody suffers, and something is learned.
        """
        if self._unfinished:  # its head would only stand in line
            return None
        deadline = captured + self.deadline_s
        ready = now + self._head_s(plan, True)
        left = deadline - ready
        first_exit_s = self._first_exits.after_s(plan)
        longest = self._reliance.longest(now)
        sends = plan.split < self._bundle.last and link is not LinkIs.AWAY and self._reliance.perhaps(left, now)
        may_send = sends and (link is LinkIs.READY or not first_exit_s)
        guaranteed = may_send and self._first_exits.all_in_time(ready, (plan, deadline))
        # The device would have to begin before the answer comes.
        in_vain = guaranteed and self._reliance.usual(now) > left - first_exit_s
        if (
            sends
            and first_exit_s
            and longest <= left
            and (in_vain or not guaranteed)
            and self._first_exits.all_in_time(ready)
        ):
            waited = max((now - f.sent_at for f in self._ledger if f.sent_at is not None), default=0.0)
            if waited <= longest and link is LinkIs.READY:
                return Manner(relies=True, sends=True)
            if waited <= longest and self._device.head_ms(self._whole) / 1000 > longest - waited:
                return None  # there is room again before the device would be done with it
        youngest = min(self._ages, default=0.0)
        too_slow = youngest + self._head_s(plan, False) + first_exit_s > self.deadline_s - SPARE_MS / 1000  # for any
        asks = may_send and too_slow and self._reliance.worth_a_risk(left, now) and not len(self._ledger)
        if guaranteed or (asks and self._first_exits.all_in_time(ready)):
            return Manner(relies=not guaranteed, sends=True)
        alone = now + self._head_s(plan, False)
        if self._first_exits.all_in_time(alone, (plan, deadline)):
            return Manner(relies=False, sends=False)
        return Manner(relies=True, sends=link is LinkIs.READY) if too_slow and not len(self._ledger) else None

    def _satisfied(self, flight: Flight) -> None:
        self._in_need -= flight.in_need
        flight.in_need = False

    def _may_rescue(self, flight: Flight, now: float) -> bool:
        if not flight.relies:
            return True
        assert flight.sent_at is not None
        in_order = now - flight.sent_at < self._reliance.longest(now) < math.inf
        return (
            not in_order
            and not self._unfinished
            and self._first_exits.all_in_time(now + self._first_exits.after_s(flight.plan))
        )

    def _missed(self, flight: Flight, now: float) -> None:
        """The server did not answer it in time, or will not."""
        if flight.sent_at is not None and flight.reliance is not None:
            flight.reliance.missed(flight.deadline - flight.sent_at, now)
            self._first_exits.set_times(self._reliance, now)

    def _head_s(self, plan: Plan, sends: bool) -> float:
        """From beginning with a frame until its head is done, and coded if it is to be sent."""
        return max(self._device.head_ms(plan) / 1000, self._ready_s.get((plan.split, sends), 0.0))

    def _leave(self, flight: Flight, trouble: Reason | None, now: float) -> list[Action]:
        """The server will not answer this frame: the device goes on with it.

        Before that with those of an earlier deadline that would have their first exit too late after it.
        """
        if trouble is not None:
            flight.trouble = trouble
        flight.rescue_at = flight.payload = None
        if flight.state not in (State.HELD, State.AWAY):
            return []
        flight.happens(Happens.LEFT)
        actions: list[Action] = []
        done = now + self._first_exits.after_s(flight.plan)
        for other in sorted(self._ledger, key=lambda f: f.deadline):
            if other.state is not State.AWAY or other.relies or other.rescue_at is None or other.best is not None:
                continue
            if other.deadline < min(flight.deadline, done + self._first_exits.after_s(other.plan)):
                other.rescue_at, other.rescued = None, True
                actions.append(self._finish(other, only_first_exit=True))
        return [*actions, self._finish(flight)]

    def _finish(self, flight: Flight, *, only_first_exit: bool = False) -> Finish:
        assert flight.activation is not None
        flight.finishing += 1
        self._unfinished += 1
        if flight.best is None and not flight.in_need:
            flight.in_need = True
            self._in_need += 1
        return Finish(
            flight,
            flight.activation,
            flight.deadline - SPARE_MS / 1000,
            None if flight.best is not None else flight.deadline + GRACE_MS / 1000,
            only_first_exit,
        )

    def _give_up(self, flight: Flight, now: float) -> list[Action]:
        """Time is over: the best local answer there is, or none."""
        actions = _emitted(self._ledger.time_out(flight.frame, now))
        if flight.sent_at is not None and not self._keep_late:
            actions.append(Cancel(flight.frame))
        return actions


def _emitted(result: Result | None) -> list[Action]:
    return [] if result is None else [Emit(result)]
