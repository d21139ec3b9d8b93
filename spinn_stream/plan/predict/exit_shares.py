"""Which share of the frames each exit answers under each threshold: by a bundle's tables, corrected by a camera's own
frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle, ThresholdRow
from spinn_stream.codec.payload_tables import uncoded

from .plan_table import Floats


@dataclass(frozen=True)
class RepeatRates:
    """Of the repeat exit. share: of the frames, 0 to 1. lost: accuracy that a repeat costs, 0 to 1."""

    share: float = 0.0
    lost: float = 0.0


Rows = Sequence[tuple[float | None, ThresholdRow]]
"""T thresholds of plans, each with its row of the bundle."""


def planned_rows(bundle: Bundle) -> Rows:
    """The bundle's thresholds. If all of them have exits, a row without exits is added."""
    rows: list[tuple[float | None, ThresholdRow]] = [(row.threshold, row) for row in bundle.thresholds]
    if all(any(n is not None for n in row.needed) for row in bundle.thresholds):
        early = len(bundle.exits) - 1
        best = uncoded(bundle).get(bundle.exits[-1].name, max(row.accuracy for row in bundle.thresholds))
        rows.append((None, ThresholdRow(1.0, (None,) * early, best, 1.0, (*(0.0,) * early, 1.0))))
    return rows


def answering(rows: Rows) -> npt.NDArray[np.bool_]:
    """(T, E), which exits may answer; the final one always."""
    return np.array([[n is not None for n in row.needed] + [True] for _, row in rows])


def exit_shares(rows: Rows) -> Floats:
    """(T, E), shares of the frames that each exit answers; they add up to 1, and are 0 at exits that may not.

    Cross-validation may give a share to an exit that this row leaves out, since other folds had other needs. The next
    exit that may answer gets it.
    """
    share, needed = np.array([row.share for _, row in rows]), answering(rows)
    kept = np.zeros_like(share)
    carried = np.zeros(len(share))
    for e in range(share.shape[1]):
        carried = carried + share[:, e]
        kept[:, e] = np.where(needed[:, e], carried, 0.0)
        carried = np.where(needed[:, e], 0.0, carried)
    return np.asarray(kept / np.maximum(kept.sum(1, keepdims=True), 1e-9))


def of_those_that_come(share: Floats) -> Floats:
    """(T, E), for each exit the share that it answers of the frames that come to it; 1 at the final one."""
    come = share[:, ::-1].cumsum(1)[:, ::-1]
    found = np.minimum(share / np.maximum(come, 1e-12), 1.0)
    found[:, -1] = 1.0
    return np.asarray(found)


def shifted(share: Floats, shifts: Sequence[float]) -> Floats:
    """(T, E), the shares if frames are easier or harder than those of the tables.

    Args:
        share: as of `exit_shares`. shifts: for each early exit, added to its log-odds of answering a frame that comes
            to it, at every threshold. An exit that always answers, or never, does not change.
    """
    answers = of_those_that_come(share)
    answers[:, :-1] = _odds_times(answers[:, :-1], np.exp(np.asarray(shifts, np.float64)))
    goes_on = np.cumprod(1.0 - answers[:, :-1], axis=1)
    come = np.concatenate([np.ones((len(share), 1)), goes_on], axis=1)
    return np.asarray(come * answers)


def _odds_times(p: Floats, factors: Floats) -> Floats:
    return np.asarray(p * factors / (1.0 - p + p * factors))
