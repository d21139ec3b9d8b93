"""What becomes of frames: decides when one is taken, sent, finished here or given up. Plain code; `now` is an argument.

Whoever carries it out (`pipeline`) tells what happened and gets actions back, and asks again at `wake_at`:

    deadline   a frame's time is over: its most confident local answer is final
    grace      a frame without any answer at its deadline waits a little for work on it that is under way
    hold       a frame that is unsure here waits until link and server have room
    rescue     a frame that was sent before any exit had run here is worked on here in time for its first exit
    patience   but not before the server has had twice the time that its answers take
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from spinn_client.link.send_gate import SendGate
from spinn_stream.bundle import Bundle
from spinn_stream.plan import Plan
from spinn_stream.runtime import Answer

from .flight import Flight, Happens, State
from .ledger import Ledger
from .results import Reason, Result

SPARE_MS = 5.0
"""Kept between the end of local work and a deadline, for the way back through the event loop."""

GRACE_MS = 10.0
"""How long after its deadline a frame without any answer still waits for work on it that is under way.

Half of the 20 ms that the contract allows; the other half is for the way back through the event loop.
"""

PATIENCE = 2.0
"""The server is waited for PATIENCE times as long as its answers take, before a frame is worked on here."""

ANSWER_STEP = 0.1
"""How fast it is learned how long the server's answers take: a share of the difference for each."""


class DeviceTimes(Protocol):
    """How long the device takes, by what was seen; ms."""

    def first_exit_ms(self, start: int) -> float:
        """From a cut point to the first exit behind it."""

    def head_ms(self, plan: Plan) -> float:
        """A plan's head, without what comes before and after the network."""


@dataclass(frozen=True)
class Emit:
    """Give this result to whoever reads results."""

    result: Result


@dataclass(frozen=True)
class Send:
    """Give the frame's payload to the link; tell `sent` or `not_sent`."""

    flight: Flight


@dataclass(frozen=True)
class Finish:
    """Run the rest of the frame's network here; tell `local_exit` of every unsure exit, and `finished` at the end.

    stop_at: a stage that would end later is not begun. first_by: the same for the first stage, if any answer is better
    than none. only_first_exit: go no further than the next exit, confident or not.
    """

    flight: Flight
    activation: npt.NDArray[np.float32]
    stop_at: float
    first_by: float | None
    only_first_exit: bool = False


@dataclass(frozen=True)
class Cancel:
    """Tell the server that this frame's answer is of no use any more."""

    frame: int


Action = Emit | Send | Finish | Cancel


class Frames:
    """All frames of one stream that are owed a final result. Times in seconds of the caller's clock, never falling.

    Args:
        deadline_s: from capture to the final result; may be changed, for the frames taken from then on.
        keep_late: answers that come after the final result are wanted: the server is not told to drop them.
    """

    def __init__(
        self, bundle: Bundle, ledger: Ledger, device: DeviceTimes, gate: SendGate, *, deadline_s: float, keep_late: bool
    ) -> None:
        self._bundle = bundle
        self._final_exit = bundle.exits[-1].name
        self._ledger = ledger
        self._device = device
        self._gate = gate
        self.deadline_s = deadline_s
        self._keep_late = keep_late
        self._answer_s = 0.0  # from sending to the server's answer, of those in time; 0.0: none yet
        self._ready_s = (
            0.0  # of the last frame with a payload, from when the device could begin until it was to be sent
        )
        self._waits_to_begin = False
        self._begin_at = math.inf  # when to ask again whether a frame may be taken
        self.taken = 0

    def __len__(self) -> int:
        """Frames that are owed a final result."""
        return len(self._ledger)

    def flight(self, frame: int) -> Flight | None:
        """None: it was never taken in, or has its final result."""
        return self._ledger.flight(frame)

    # Taking frames

    def to_begin(self, now: float, plan: Plan) -> bool:
        """Whether to take the newest frame now; else ask again at `wake_at`, or when something happened.

        No frame is taken yet that would wait for the link after its head, if no exit of the head can answer it.
        """
        if not self._waits_to_begin:
            self._gate.forget()
        self._waits_to_begin, self._begin_at = False, math.inf
        if any(flight.state is State.HELD for flight in self._ledger):
            return False
        if plan.split == self._bundle.last or min(self._needed(plan), default=math.inf) <= plan.split:
            return True
        most_s = self._rescue_at(plan, now + self.deadline_s, now) - now
        wait = self._gate.to_begin(now, self._ready_s, most_s, self.deadline_s)
        if wait > 0:
            self._waits_to_begin, self._begin_at = True, now + wait
        return wait <= 0

    def take(self, frame: int, captured: float, plan: Plan, now: float, origin: str | None = None) -> Flight | None:
        """From now on it is owed a final result; None: it is older than the deadline already, and is not taken."""
        deadline = captured + self.deadline_s
        if deadline <= now:
            return None
        self.taken += 1
        return self._ledger.take(frame, captured=captured, deadline=deadline, plan=plan, origin=origin)

    # What the device tells

    def local_exit(self, frame: int, answer: Answer, now: float) -> list[Action]:
        """An exit ran on the device and was not confident enough."""
        actions = _emitted(self._ledger.local_exit(frame, answer, now))
        flight = self._ledger.flight(frame)
        if flight is not None and flight.state is State.OVERDUE:
            actions += self._give_up(flight, now)
        return actions

    def answered_here(self, frame: int, answer: Answer, now: float) -> list[Action]:
        """An exit was confident enough on the device, or its final exit ran."""
        reason: Reason = "final_exit" if answer.exit == self._final_exit else "confident"
        return _emitted(self._ledger.settle_locally(frame, answer, reason, now))

    def unsure(
        self, flight: Flight, activation: npt.NDArray[np.float32], payload: bytes | None, now: float,
        *, began: float, link_up: bool, to_learn: bool = False,
    ) -> list[Action]:  # fmt: skip
        """The head is done, and none of its exits was confident.

        Args:
            payload: the activation, coded; None: it cannot be sent. began: when the device could begin with the frame.
            to_learn: send it however late its answer will be, to learn of the link.
        """
        if flight.state is State.SETTLED:  # its deadline came while the head ran
            return []
        flight.activation = activation
        if flight.state is State.OVERDUE:  # some exit may still run in its grace
            return [self._finish(flight)]
        flight.happens(Happens.UNSURE)
        if payload is None:
            return self._leave(flight, None if link_up else "disconnected")
        self._ready_s = now - began
        flight.payload, flight.to_learn = payload, to_learn
        self._gate.forget()
        return self._ask_for_room(flight, now)

    def finished(self, flight: Flight, answer: Answer | None, *, only_first_exit: bool, now: float) -> list[Action]:
        """The device went as far with a frame as it was asked to. answer: None: no exit was confident in time."""
        if answer is not None:
            return self.answered_here(flight.frame, answer, now)
        if only_first_exit:
            return []
        return _emitted(self._ledger.settle_locally(flight.frame, None, "deadline", now))

    # What the link tells

    def sent(self, flight: Flight, now: float) -> list[Action]:
        """The link took the payload."""
        flight.happens(Happens.SENT)
        flight.sent_at, flight.payload = now, None
        if flight.best is None:
            flight.rescue_at = self._rescue_at(flight.plan, flight.deadline, now)
        return []

    def not_sent(self, flight: Flight, *, link_up: bool) -> list[Action]:
        """The link did not take the payload."""
        return self._leave(flight, None if link_up else "disconnected")

    def server_answered(self, frame: int, answer: Answer, now: float, server: str | None = None) -> list[Action]:
        """An exit answered on the server. server: which one."""
        flight = self._ledger.flight(frame)
        if flight is not None and flight.sent_at is not None:
            took = now - flight.sent_at
            self._answer_s += (ANSWER_STEP if self._answer_s else 1.0) * (took - self._answer_s)
        reason: Reason = "final_exit" if answer.exit == self._final_exit else "confident"
        return _emitted(self._ledger.server_answer(frame, answer, reason, now, server))

    def server_refused(self, frame: int) -> list[Action]:
        """The server will not answer this frame."""
        flight = self._ledger.flight(frame)
        return [] if flight is None else self._leave(flight, "rejected")

    def lost(self, frames: Sequence[int]) -> list[Action]:
        """The connection ended with these frames under way."""
        flights = [flight for frame in frames if (flight := self._ledger.flight(frame)) is not None]
        return [action for flight in flights for action in self._leave(flight, "disconnected")]

    # What the clock tells

    def wake_at(self) -> float:
        """When to call `look` again at the latest; inf: not until something happens."""
        times = [self._begin_at]
        for flight in self._ledger:
            times.append(flight.deadline + GRACE_MS / 1000 if flight.state is State.OVERDUE else flight.deadline)
            times += [at for at in (flight.ask_at, flight.rescue_at) if at is not None]
        return min(times)

    def look(self, now: float) -> list[Action]:
        """What is due."""
        actions: list[Action] = []
        if self._begin_at <= now:  # whoever asked is woken by this call
            self._begin_at = math.inf
        for flight in self._ledger:
            if flight.ask_at is not None and flight.ask_at <= now and flight.state is State.HELD:
                actions += self._ask_for_room(flight, now)
            if flight.rescue_at is not None and flight.rescue_at <= now:
                flight.rescue_at = None
                if flight.state is State.AWAY and flight.best is None:
                    actions.append(self._finish(flight, only_first_exit=True))
            if flight.state is State.OVERDUE:
                if flight.deadline + GRACE_MS / 1000 <= now:
                    actions += self._give_up(flight, now)
            elif flight.deadline <= now:
                if flight.best is not None:
                    actions += self._give_up(flight, now)
                else:
                    flight.happens(Happens.DEADLINE)
                    flight.ask_at = flight.rescue_at = None
        return actions

    def end(self, now: float) -> list[Action]:
        """Nobody waits any longer: every frame gets the best local answer there is, or none."""
        return [action for flight in self._ledger for action in self._give_up(flight, now)]

    # Decisions

    def _ask_for_room(self, flight: Flight, now: float) -> list[Action]:
        assert flight.payload is not None
        left_s = self._rescue_at(flight.plan, flight.deadline, now) - now
        wait = self._gate.to_send(now, len(flight.payload), left_s, None if flight.to_learn else flight.deadline)
        if wait == math.inf:
            return self._leave(flight, None)
        flight.ask_at = None if wait <= 0 else now + wait
        return [Send(flight)] if wait <= 0 else []

    def _leave(self, flight: Flight, trouble: Reason | None) -> list[Action]:
        """The server will not answer this frame: the device goes on with it."""
        if trouble is not None:
            flight.trouble = trouble
        flight.ask_at = flight.rescue_at = flight.payload = None
        if flight.state in (State.HELD, State.AWAY):
            flight.happens(Happens.LEFT)
            return [self._finish(flight)]
        return []

    def _finish(self, flight: Flight, *, only_first_exit: bool = False) -> Finish:
        assert flight.activation is not None
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

    def _rescue_at(self, plan: Plan, deadline: float, now: float) -> float:
        """When a frame without a local answer must be worked on here, to have one by its deadline; not before now.

        The thread may be busy with another frame's head just then, or with another rescue. If that leaves the server
        less time than its answers take, only the head is reckoned with: on a slow device, rescues that nobody needs
        would keep it from the next frames.
        """
        rescue_ms = self._device.first_exit_ms(plan.split)
        latest = deadline - (rescue_ms + self._device.head_ms(plan) + 3 * SPARE_MS) / 1000
        patient = now + PATIENCE * self._answer_s
        return max(now, min(latest, max(latest - rescue_ms / 1000, patient)))

    def _needed(self, plan: Plan) -> Collection[int]:
        """Cut points of the early exits that may answer."""
        return self._bundle.needed(plan.confidence_threshold)


def _emitted(result: Result | None) -> list[Action]:
    return [] if result is None else [Emit(result)]


def checked_deadline(ms: float) -> float:
    """A deadline that frames can have. Raises ValueError: it is none."""
    if not 1 <= ms <= 600_000:
        raise ValueError(f"deadline_ms is {ms}, expected 1 to 600000")
    return ms
