"""What the client says of a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["provisional", "final", "late"]
Where = Literal["device", "server"]
Reason = Literal[
    "confident",  # an exit passed the threshold
    "final_exit",  # the whole network was run
    "shortened",  # an overloaded server answered at an earlier exit than asked for, as the client had allowed
    "deadline",  # time ran out: the most confident local exit
    "disconnected",  # the server is away: what the device found alone
    "rejected",  # the server refused or dropped it: what the device found alone
    "no_answer",  # time ran out before any local exit had run
]
FALLBACK: frozenset[Reason] = frozenset({"deadline", "disconnected", "rejected", "no_answer"})


@dataclass(frozen=True)
class Result:
    """One answer for one frame.

    label, exit, where and confidence are None for `no_answer` alone; reason is None for a provisional result,
    which is there because nothing was reason enough yet. top: (label, probability), best first. age_ms: from
    capture to this answer. plan: id of the plan the frame was treated by. origin: the file that the frame came from,
    if each frame of the source has one of its own. server: the address of the one that answered. repeats: the frame
    whose answer this is, of exit "repeat".
    """

    frame: int
    kind: Kind
    label: str | None
    confidence: float | None
    exit: str | None
    where: Where | None
    reason: Reason | None
    age_ms: float
    plan: int
    top: tuple[tuple[str, float], ...] = ()
    origin: str | None = None
    server: str | None = None
    repeats: int | None = None

    @property
    def is_fallback(self) -> bool:
        """Whether it is not the answer that its plan asked for, as time, server or link did not allow that."""
        return self.reason in FALLBACK

    def as_json(self) -> dict[str, object]:
        """What a line of `--jsonl` says of the frame; the sink adds when."""
        line: dict[str, object] = {
            "frame": self.frame, "kind": self.kind, "label": self.label,
            "confidence": None if self.confidence is None else round(self.confidence, 4),
            "exit": self.exit, "where": self.where, "reason": self.reason,
            "age_ms": round(self.age_ms, 2), "plan": self.plan,
        }  # fmt: skip
        if self.repeats is not None:
            line["repeats"] = self.repeats
        return line if self.origin is None else {**line, "source": self.origin}
