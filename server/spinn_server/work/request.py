"""One request: an activation on its way to an exit."""

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
"""After this wait, a request is as urgent as one whose budget ends, so that a long budget never starves."""


class Owner(Protocol):
    """The owner of requests. It is told the outcome of each, once, on the event loop; it must not raise."""

    def answered(self, request: Request, exit_index: int, found: Answer, *, shortened: bool) -> None: ...

    def refused(self, request: Request, reason: RejectReason, detail: str) -> None: ...


@dataclass(eq=False, slots=True)
class Request:
    """One frame of one client.

    Requests are told apart as objects, not by id: a client may use an id again after its answer or refusal, while the
    old request is still in a batch.

    id: on the wire; later payloads refer to its activation by it. split: the cut point it begins at. needed: cut point
    of each early exit that may answer -> the confidence it needs. group_of: for each class its group, if answers name
    groups. arrived, expires: in seconds on the server's clock. may_shorten: an earlier exit than asked for may answer
    if the server is overloaded. at: the cut point it has reached. due: requests are served in the order of this time.
    activation: at `at`, (1, C, H, W); None: the payload is not decoded yet.
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
        """The request of a message that arrived at `now`."""
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
