"""The contract: every frame taken in gets exactly one final result. Plain bookkeeping; `now` is an argument.

`Ledger` has the frames that wait for it, `FirstExits` what the device owes to them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from spinn_stream.bundle import Bundle
from spinn_stream.plan import Plan
from spinn_stream.runtime import Answer

from .actions import DeviceTimes
from .flight import SPARE_MS, Flight, Happens, State
from .reliance import Reliance
from .results import Kind, Reason, Result, Where

LATE_REMEMBERED = 256
"""Settled frames whose server answer may still come; beyond that the oldest is forgotten and its answer ignored."""


UNKNOWN = "unknown"
"""The label of an answer that is not confident enough to be called one."""


class Ledger:
    """Frames that wait for their final result.

    Whatever comes first settles a frame; what comes later for it is a late result or nothing.

    Args:
        labels: names of the classes.
        provisional: whether unsure local exits are reported.
        late: whether server answers after the final result are reported.
        unknown_below: a less confident answer is UNKNOWN; its top-k stays. None: every answer stands.
    """

    def __init__(
        self,
        labels: Sequence[str],
        *,
        provisional: bool = False,
        late: bool = False,
        unknown_below: float | None = None,
    ) -> None:
        self._labels = labels
        self._unknown_below = unknown_below
        self._report_provisional = provisional
        self._report_late = late
        self._open: dict[int, Flight] = {}
        self._settled: OrderedDict[int, Flight] = OrderedDict()
        self.late_answers = 0

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, frame: int) -> bool:
        return frame in self._open

    def __iter__(self) -> Iterator[Flight]:
        """Frames without their final result, oldest first; a copy, so that they may be settled meanwhile."""
        return iter(list(self._open.values()))

    def flight(self, frame: int) -> Flight | None:
        """None: it was never taken in, or has its final result."""
        return self._open.get(frame)

    def take(
        self,
        frame: int,
        *,
        captured: float,
        deadline: float,
        plan: Plan,
        origin: str | None = None,
        relies: bool = False,
        sends: bool = True,
        has_room: bool = False,
    ) -> Flight:
        """From now on this frame is owed a final result by `deadline` (seconds, the caller's clock)."""
        if frame in self._open or frame in self._settled:
            raise ValueError(f"frame {frame} was taken in already")
        self._open[frame] = Flight(frame, captured, deadline, plan, origin, relies, sends, has_room)
        return self._open[frame]

    def local_exit(self, frame: int, answer: Answer, now: float) -> Result | None:
        """A local exit has run and was not confident enough. Gives the provisional result, if those are wanted."""
        flight = self._open.get(frame)
        if flight is None:
            return None
        if flight.best is None or answer.confidence > flight.best.confidence:
            flight.best = answer
        return self._result(flight, "provisional", answer, "device", None, now) if self._report_provisional else None

    def trouble(self, frame: int, reason: Reason) -> None:
        """The server will not answer this frame; its final result will say so."""
        flight = self._open.get(frame)
        if flight is not None:
            flight.trouble = reason

    def settle_again(self, frame: int, answer: Answer, repeats: int, now: float, *, audit: bool) -> Result | None:
        """The answer for an earlier frame is this one's. audit: its own may come, and is then no final or late one."""
        flight = self._open.get(frame)
        if flight is None:
            return None
        flight.audit = audit
        return replace(self._settle(flight, answer, "device", flight.trouble or "confident", now), repeats=repeats)

    def settle_locally(self, frame: int, answer: Answer | None, reason: Reason, now: float) -> Result | None:
        """The device's answer, or its most confident exit if `answer` is None.

        Gives None if there is nothing to answer with yet, or if the frame has its final result. An audit has it, and
        gets a late result, if late ones are wanted.
        """
        flight = self._open.get(frame)
        if flight is None and answer is not None and frame in self._settled and self._settled[frame].audit:
            return self._late(self._settled.pop(frame), answer, "device", reason, now)
        if flight is None or (answer is None and flight.best is None):
            return None
        return self._settle(flight, answer or flight.best, "device", flight.trouble or reason, now)

    def server_answer(
        self, frame: int, answer: Answer, reason: Reason, now: float, server: str | None = None
    ) -> Result | None:
        """The server's answer: the final result, or a late one if the frame has its final result already."""
        flight = self._open.get(frame)
        if flight is not None:
            return replace(self._settle(flight, answer, "server", reason, now), server=server)
        flight = self._settled.pop(frame, None)
        if flight is None:
            return None
        late = self._late(flight, answer, "server", reason, now)
        return None if late is None else replace(late, server=server)

    def time_out(self, frame: int, now: float) -> Result | None:
        """Its time is over: the most confident local exit, or the admission that there is none."""
        flight = self._open.get(frame)
        if flight is None:
            return None
        if flight.best is None:
            return self._settle(flight, None, None, "no_answer", now)
        return self._settle(flight, flight.best, "device", flight.trouble or "deadline", now)

    def _late(self, flight: Flight, answer: Answer, where: Where, reason: Reason, now: float) -> Result | None:
        self.late_answers += not flight.audit
        return self._result(flight, "late", answer, where, reason, now) if self._report_late else None

    def _settle(self, flight: Flight, answer: Answer | None, where: Where | None, reason: Reason, now: float) -> Result:
        del self._open[flight.frame]
        flight.happens(Happens.ANSWERED)
        flight.activation = flight.payload = None
        if where != "server":
            self._settled[flight.frame] = flight
            if len(self._settled) > LATE_REMEMBERED:
                self._settled.popitem(last=False)
        return self._result(flight, "final", answer, where, reason, now)

    def _result(
        self, flight: Flight, kind: Kind, answer: Answer | None, where: Where | None, reason: Reason | None, now: float
    ) -> Result:
        age_ms = (now - flight.captured) * 1000
        if answer is None:
            return Result(
                flight.frame, kind, None, None, None, None, reason, age_ms, flight.plan.id, origin=flight.origin
            )
        unknown = self._unknown_below is not None and answer.confidence < self._unknown_below
        return Result(
            flight.frame, kind, UNKNOWN if unknown else self._labels[answer.label], answer.confidence, answer.exit,
            where, reason, age_ms, flight.plan.id, tuple((self._labels[k], p) for k, p in answer.top), flight.origin,
        )  # fmt: skip


class FirstExits:
    """The first exits that the device owes: whether it can keep to all of them, and when it must begin.

    Of the frames in a ledger. Times in seconds of the caller's clock.
    """

    def __init__(self, bundle: Bundle, ledger: Ledger, device: DeviceTimes) -> None:
        self._bundle = bundle
        self._ledger = ledger
        self._device = device

    def after_s(self, plan: Plan) -> float:
        """From the end of a plan's head; 0.0: the head has one."""
        if min(self._bundle.exit_at) <= plan.split:
            return 0.0
        return self._device.first_exit_ms(plan.split) / 1000

    def all_in_time(self, ready: float, one_more: tuple[Plan, float] | None = None) -> bool:
        """Whether the device, free at `ready`, can give every frame that it owes one a first exit in time.

        The earliest deadline goes first. one_more: the plan and deadline of a frame that is not taken yet.
        """
        owed = [(f.deadline, f.plan) for f in self._ledger if not f.relies and f.best is None and not f.finishing]
        if one_more is not None:
            owed.append((one_more[1], one_more[0]))
        at = ready
        for deadline, plan in sorted(owed, key=lambda pair: pair[0]):
            at += self.after_s(plan)
            if at > deadline - SPARE_MS / 1000:
                return False
        return True

    def set_times(self, reliance: Reliance, now: float) -> None:
        """When the device is to begin with each frame that is AWAY without an answer, and when waiting frames go on.

        At once if the server usually answers later than the device would have to begin, else as late as possible:
        frames that it owes a first exit are worked on one after the other. A frame that relies on the server is worked
        on if its answer is overdue and the device has nothing else to do.

        A frame that waits for another one's answer goes on while it can still have what it would have had without: its
        own answer of the server, and the device's first exit.
        """
        begin, usual, longest = math.inf, reliance.usual(now), reliance.longest(now)
        for flight in sorted(self._ledger, key=lambda f: -f.deadline):
            end, first_exit_s = flight.deadline - SPARE_MS / 1000, self.after_s(flight.plan)
            owed = flight.best is None and not flight.finishing
            if owed and not flight.relies:
                begin = min(begin, end) - first_exit_s
            if flight.awaits is not None:
                takes = longest if flight.relies or longest < math.inf else 0.0  # of a server that is not known yet
                flight.rescue_at = min(end - takes, begin if owed and not flight.relies else math.inf)
                continue
            if not owed or flight.sent_at is None or flight.state is not State.AWAY or flight.rescued:
                continue
            if flight.relies:
                flight.rescue_at = min(flight.sent_at + longest, end - first_exit_s)
            else:
                flight.rescue_at = begin if flight.sent_at + usual <= begin else flight.sent_at
