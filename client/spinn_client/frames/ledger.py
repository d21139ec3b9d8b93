"""The contract: every frame taken in gets exactly one final result. Plain bookkeeping; `now` is an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from spinn_stream.plan import Plan
from spinn_stream.runtime import Answer

from .flight import Flight, Happens
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
