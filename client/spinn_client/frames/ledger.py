"""The contract: every frame taken in gets exactly one final result. Plain bookkeeping; `now` is an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from spinn_stream.runtime import Answer

from .results import FrameResult, Kind, Reason, Where

LATE_REMEMBERED = 256
"""Settled frames whose server answer may still come; beyond that the oldest is forgotten and its answer ignored."""


@dataclass
class _Entry:
    captured: float
    deadline: float
    plan: int
    best: Answer | None = None
    trouble: Reason | None = None  # why the server will not answer, once that is known


class Ledger:
    """Frames that wait for their final result, and what is known of each.

    Whatever comes first settles a frame; what comes later for it is a late result or nothing.

    Args:
        labels: names of the classes.
        provisional: whether unsure local exits are reported.
        late: whether server answers after the final result are reported.
    """

    def __init__(self, labels: Sequence[str], *, provisional: bool = False, late: bool = False) -> None:
        self._labels = labels
        self._report_provisional = provisional
        self._report_late = late
        self._open: dict[int, _Entry] = {}
        self._settled: OrderedDict[int, _Entry] = OrderedDict()
        self.late_answers = 0

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, frame: int) -> bool:
        return frame in self._open

    def take(self, frame: int, *, captured: float, deadline: float, plan: int) -> None:
        """From now on this frame is owed a final result by `deadline` (seconds, the caller's clock)."""
        if frame in self._open or frame in self._settled:
            raise ValueError(f"frame {frame} was taken in already")
        self._open[frame] = _Entry(captured, deadline, plan)

    def has_local_answer(self, frame: int) -> bool:
        """Whether a local exit could stand in for the server if time ran out now."""
        entry = self._open.get(frame)
        return entry is not None and entry.best is not None

    def local_exit(self, frame: int, answer: Answer, now: float) -> FrameResult | None:
        """A local exit has run and was not confident enough. Gives the provisional result, if those are wanted."""
        entry = self._open.get(frame)
        if entry is None:
            return None
        if entry.best is None or answer.confidence > entry.best.confidence:
            entry.best = answer
        if not self._report_provisional:
            return None
        return self._result(frame, entry, "provisional", answer, "device", None, now)

    def trouble(self, frame: int, reason: Reason) -> None:
        """The server will not answer this frame; its final result will say so."""
        entry = self._open.get(frame)
        if entry is not None:
            entry.trouble = reason

    def settle_locally(self, frame: int, answer: Answer | None, reason: Reason, now: float) -> FrameResult | None:
        """The device's answer, or its most confident exit where `answer` is None.

        Gives None where the frame has its final result, or where there is nothing to answer with yet.
        """
        entry = self._open.get(frame)
        if entry is None or (answer is None and entry.best is None):
            return None
        return self._settle(frame, answer or entry.best, "device", entry.trouble or reason, now)

    def server_answer(self, frame: int, answer: Answer, reason: Reason, now: float) -> FrameResult | None:
        """The server's answer: the final result, or a late one where the frame has its final result already."""
        if frame in self._open:
            return self._settle(frame, answer, "server", reason, now)
        entry = self._settled.pop(frame, None)
        if entry is None:
            return None
        self.late_answers += 1
        return self._result(frame, entry, "late", answer, "server", reason, now) if self._report_late else None

    def time_out(self, frame: int, now: float) -> FrameResult | None:
        """Its deadline has come: the most confident local exit, or the admission that there is none."""
        entry = self._open.get(frame)
        if entry is None:
            return None
        if entry.best is None:
            return self._settle(frame, None, None, "no_answer", now)
        return self._settle(frame, entry.best, "device", entry.trouble or "deadline", now)

    def _settle(
        self, frame: int, answer: Answer | None, where: Where | None, reason: Reason, now: float
    ) -> FrameResult:
        entry = self._open.pop(frame)
        if where != "server":
            self._settled[frame] = entry
            if len(self._settled) > LATE_REMEMBERED:
                self._settled.popitem(last=False)
        return self._result(frame, entry, "final", answer, where, reason, now)

    def _result(
        self,
        frame: int,
        entry: _Entry,
        kind: Kind,
        answer: Answer | None,
        where: Where | None,
        reason: Reason | None,
        now: float,
    ) -> FrameResult:
        age_ms = (now - entry.captured) * 1000
        if answer is None:
            return FrameResult(frame, kind, None, None, None, None, reason, age_ms, entry.plan)
        top = tuple((self._labels[k], p) for k, p in answer.top)
        return FrameResult(
            frame,
            kind,
            self._labels[answer.label],
            answer.confidence,
            answer.exit,
            where,
            reason,
            age_ms,
            entry.plan,
            top,
        )
