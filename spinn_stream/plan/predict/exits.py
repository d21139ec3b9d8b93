"""What the bundle's thresholds make of its exits: by the bundle's tables, corrected by a camera's own frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from spinn_stream.bundle import Bundle, PayloadRow, ThresholdRow
from spinn_stream.codec.payload_tables import uncoded

from .plan_table import Floats
from .planned_settings import losses


class CameraRates(NamedTuple):
    """Of one camera, 0 to 1. share: of the frames, that are repeated. lost: accuracy that a repeat costs. early_lost:
    that a frame which an early exit answers costs beyond the tables."""

    share: float = 0.0
    lost: float = 0.0
    early_lost: float = 0.0


class Exits:
    """T thresholds and E exits, the final one included; the repeat exit, if there is one, comes first.

    If all of the bundle's thresholds have exits, one without exits is added, whose plans have no threshold.
    share: (T, E), of the frames. answers, on_device: (T, E), whether it may answer, and whether the device runs it.
    accuracy: (T,). reference: of the whole network. alone: (E,), the accuracy if it answers all that comes to it; -inf
    for the repeat exit.

    shifts: see `shifted`; None: exits answer as often as the bundle's tables say.
    """

    def __init__(self, bundle: Bundle, shifts: Sequence[float] | None = None, rates: CameraRates | None = None) -> None:
        self._uncoded = uncoded(bundle)
        self.names, self.cuts = [e.name for e in bundle.exits], np.array([e.cut for e in bundle.exits])
        final = self._uncoded.get(self.names[-1])
        rows = list(bundle.thresholds)
        self.thresholds: list[float | None] = [row.threshold for row in rows]
        if all(any(n is not None for n in row.needed) for row in rows):
            early, best = len(bundle.exits) - 1, max(row.accuracy for row in rows) if final is None else final
            rows.append(ThresholdRow(1.0, (None,) * early, best, 1.0, (*(0.0,) * early, 1.0)))
            self.thresholds.append(None)
        self.accuracy = np.array([row.accuracy for row in rows])
        self.answers = np.array([[n is not None for n in row.needed] + [True] for row in rows])
        by_tables = _handed_on(np.array([row.share for row in rows]), self.answers)
        self.share = shifted(by_tables, shifts or [0.0] * (len(bundle.exits) - 1))
        every = np.array([threshold is None for threshold in self.thresholds])[:, None]
        self.on_device = self.answers | every  # a plan of no threshold has every exit run there (client's rule)
        rates = rates or CameraRates()
        self.accuracy -= rates.early_lost * self.share[:, :-1].sum(1)
        self.reference = float(self.accuracy[~self.answers[:, :-1].any(1)][-1])
        lost = [(final or 0.0) - self._uncoded.get(name, 0.0) for name in self.names]
        without_tables = np.full(len(lost), self.accuracy.min())
        self.alone = without_tables if final is None else np.clip(self.reference - np.array(lost), 0.0, 1.0)
        if rates.share > 0:
            always = np.ones((len(rows), 1), bool)
            self.share = np.hstack([rates.share * always, (1 - rates.share) * self.share])
            self.accuracy = self.accuracy - rates.share * rates.lost
            self.answers, self.on_device = np.hstack([always, self.answers]), np.hstack([always, self.on_device])
            self.names, self.cuts = ["repeat", *self.names], np.concatenate([[0], self.cuts])
            self.alone = np.concatenate([[-np.inf], self.alone])

    def lost(self, row: PayloadRow | None, weights: Floats) -> Floats:
        """(T,), accuracy that coding costs: as measured for each threshold, or else by the exits' losses.

        Args:
            weights: (E, T), share of the frames sent that each exit answers.
        """
        if row is None:
            return np.zeros(len(self.share))
        found = losses(self._uncoded, row)
        by_exit = weights.T @ np.array([found.get(name, 0.0) for name in self.names])
        by_exit[: len(row.lost)] = np.maximum(row.lost, 0.0)  # the row of no threshold, if one was added, comes last
        return np.asarray(by_exit)


def _handed_on(share: Floats, answers: np.ndarray) -> Floats:
    """(T, E), shares that add up to 1, and are 0 at exits that may not answer.

    Cross-validation may give a share to an exit that this row leaves out, since other folds had other needs. The next
    exit that may answer gets it.
    """
    kept, carried = np.zeros_like(share), np.zeros(len(share))
    for e in range(share.shape[1]):
        carried = carried + share[:, e]
        kept[:, e] = np.where(answers[:, e], carried, 0.0)
        carried = carried - kept[:, e]
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
        shifts: for each early exit, added to its log-odds of answering a frame that comes to it, at every threshold. An
            exit that always answers, or never, does not change.
    """
    answers, factors = of_those_that_come(share), np.exp(np.asarray([*shifts, 0.0]))
    answers = answers * factors / (1.0 - answers + answers * factors)
    goes_on = np.cumprod(1.0 - answers[:, :-1], axis=1)
    return np.asarray(np.hstack([np.ones((len(share), 1)), goes_on]) * answers)
