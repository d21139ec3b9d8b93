"""The states of one frame, from being taken in to its final result, in one table.

HEAD ──unsure──► HELD ──sent──► AWAY     HEAD: its head waits for the device, or runs
                  │               │      HELD: unsure here; given to the link if that takes it, or first waits for the
                  │               │            answer of a frame that looks like it (`waiting`)
                  └──left──► ALONE ◄──left──┘    AWAY: the server has it; ALONE: the device finishes it

from any of these: deadline without any answer ──► OVERDUE: work under way here may still give one
from any of these: answered ──► SETTLED
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinn_stream.codec import PayloadSender
from spinn_stream.plan import Plan
from spinn_stream.runtime import Answer

from .reliance import Reliance
from .results import Reason

SPARE_MS = 5.0
"""Kept between the end of local work and a deadline, for the way back through the event loop."""


class State(enum.Enum):
    """Where a frame is."""

    HEAD = enum.auto()
    HELD = enum.auto()
    AWAY = enum.auto()
    ALONE = enum.auto()
    OVERDUE = enum.auto()
    SETTLED = enum.auto()


class Happens(enum.Enum):
    """What moves a frame from one state to another."""

    UNSURE = enum.auto()  # its head is done, and no exit was confident
    SENT = enum.auto()  # its payload was given to the link
    LEFT = enum.auto()  # the server will not answer it: not sent, refused, or lost
    DEADLINE = enum.auto()  # its time is over and nothing has answered yet
    ANSWERED = enum.auto()  # it got its final result


TRANSITIONS: dict[State, dict[Happens, State]] = {
    State.HEAD: {Happens.UNSURE: State.HELD, Happens.DEADLINE: State.OVERDUE, Happens.ANSWERED: State.SETTLED},
    State.HELD: {
        Happens.SENT: State.AWAY, Happens.LEFT: State.ALONE, Happens.DEADLINE: State.OVERDUE,
        Happens.ANSWERED: State.SETTLED,
    },
    State.AWAY: {Happens.LEFT: State.ALONE, Happens.DEADLINE: State.OVERDUE, Happens.ANSWERED: State.SETTLED},
    State.ALONE: {Happens.DEADLINE: State.OVERDUE, Happens.ANSWERED: State.SETTLED},
    State.OVERDUE: {Happens.ANSWERED: State.SETTLED},
    State.SETTLED: {},
}  # fmt: skip


@dataclass(eq=False)
class Flight:
    """One frame between being taken in and its final result. Times in seconds of the caller's clock.

    best: the most confident local answer. trouble: why the server will not answer, once that is known.
    activation: at the plan's split, (1, C, H, W), once the head is done. payload: it, coded, until it is sent; sender:
    what coded it, on one connection. relies: the server alone can answer it in time. sends: the server is asked.
    has_room: the link had room for it when it was taken, and nothing else gets that.
    awaits: the frame whose answer this one, which is HELD, waits for; None: it waits for none.
    finishing: how often the device was asked to go on with it and is not done. rescue_at: when the device must begin
    with an AWAY frame that has no local answer, or when a frame waits no longer; None: never. rescued: the device was
    to begin.
    in_need: the device was asked for its first answer, and has not given one. reliance: what is told how long the
    server that it was sent to took. audit: it has its final result, and a later answer is only compared. early: what
    an early exit answered before an audit of it went on.
    """

    frame: int
    captured: float
    deadline: float
    plan: Plan
    origin: str | None = None
    relies: bool = False
    sends: bool = True
    has_room: bool = False
    state: State = State.HEAD
    best: Answer | None = None
    trouble: Reason | None = None
    activation: npt.NDArray[np.float32] | None = None
    payload: bytes | None = None
    sender: PayloadSender | None = None
    finishing: int = 0
    rescued: bool = False
    in_need: bool = False
    sent_at: float | None = None
    rescue_at: float | None = None
    reliance: Reliance | None = None
    audit: bool = False
    early: Answer | None = None
    awaits: Flight | None = None

    def happens(self, what: Happens) -> None:
        """Move on as the table says.

        Raises:
            KeyError: it cannot happen in this state: a fault of the caller.
        """
        self.state = TRANSITIONS[self.state][what]


def checked_deadline(ms: float) -> float:
    """A deadline that frames can have. Raises ValueError: it is none."""
    if not 1 <= ms <= 600_000:
        raise ValueError(f"deadline_ms is {ms}, expected 1 to 600000")
    return ms


def deadline_warning(deadline_ms: float, first_exit_ms: float) -> str | None:
    """What to say of a deadline that the device's first exit cannot keep; None: it can."""
    first = first_exit_ms + SPARE_MS
    if deadline_ms >= first:
        return None
    needs = f"the deadline of {deadline_ms:.0f} ms is shorter than the {first:.0f} ms this device needs"
    return f"{needs} for its first exit; frames may end in no_answer"
