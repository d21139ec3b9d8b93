"""What `Frames` is told of device and link, and what it wants done."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from spinn_stream.plan import Plan

from .flight import Flight
from .results import Result


class LinkIs(enum.Enum):
    """What the link can do just now."""

    READY = enum.auto()  # one more request may be sent
    FULL = enum.auto()  # not before one that is under way is answered
    AWAY = enum.auto()  # there is none, or it is in doubt


class DeviceTimes(Protocol):
    """How long the device takes, by what was seen; ms."""

    def first_exit_ms(self, start: int) -> float:
        """From a cut point to the first exit behind it."""

    def head_ms(self, plan: Plan) -> float:
        """A plan's head, without what comes before and after the network."""


@dataclass(frozen=True)
class Manner:
    """How a frame is to be answered. relies: the server alone can do it in time. sends: the server is asked."""

    relies: bool
    sends: bool


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
