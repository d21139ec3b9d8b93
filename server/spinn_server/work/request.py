"""One request: an activation that is to be taken to an exit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle
from spinn_stream.runtime import Answer
from spinn_stream.wire import Infer, RejectReason

PATIENCE_S = 1.0
"""A request that has waited this long is as urgent as one whose budget ends: a long budget is no reason to starve."""


class Owner(Protocol):
    """Whom requests belong to. It is told what became of each, once, on the event loop; it must not raise."""

    def answered(self, request: Request, exit_index: int, found: Answer, *, shortened: bool) -> None: ...

    def refused(self, request: Request, reason: RejectReason, detail: str) -> None: ...


@dataclass(eq=False, slots=True)
class Request:
    """What one client wants to know of one frame.

    It is an object of its own, whatever its id: a client may use an id again once that was answered or refused, while
    the request that had it is still in a batch.

    id: on the wire; names the activation that later payloads refer to. split: the cut point it begins at. needed: cut
    point of each early exit that may answer -> the confidence that is needed there. group_of: for each class its group,
    if the answer is to be about groups. arrived, expires: in seconds on the server's clock. may_shorten: an earlier
    exit than asked for may answer if the server is overloaded. at: the cut point it has come to. due: by when it wants
    to be served; requests are ordered by this. activation: the one there, (1, C, H, W); None: the payload is not
    decoded.
    """

    owner: Owner
    id: int
    split: int
    codec: str
    payload: bytes
    needed: Mapping[int, float]
    group_of: npt.NDArray[np.intp] | None
    arrived: float
    expires: float
    may_shorten: bool = False
    at: int = field(init=False)
    due: float = field(init=False)
    activation: npt.NDArray[np.float32] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.at = self.split
        self.due = min(self.expires, self.arrived + PATIENCE_S)

    @classmethod
    def of(
        cls, infer: Infer, owner: Owner, bundle: Bundle, now: float, group_of: npt.NDArray[np.intp] | None = None
    ) -> Request:
        """As a message asks for it, which arrived at `now`."""
        return cls(
            owner,
            infer.id,
            infer.split,
            infer.codec,
            infer.payload,
            bundle.needed(infer.threshold),
            group_of,
            now,
            now + infer.budget_ms / 1000,
            infer.may_shorten,
        )
