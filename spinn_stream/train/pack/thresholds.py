"""Thresholds: the curve of accuracy against cost, and what each exit needs under one number.

A plan has one threshold t. Asking every exit for the confidence t would waste work: if an early exit is hardly ever
that sure, its head costs time on every frame for nothing, and stopping at two equally sure exits is not equally useful.
So a bundle maps t to the confidence that each exit needs, or to "not evaluated at all". This is the cheapest choice, on
held-out images, that is as accurate as asking every exit for the confidence t. So t has the same meaning at every depth
(docs/decisions/0007-one-threshold.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

GRID = (*(round(0.02 * i, 2) for i in range(50)), 0.99, 0.995, 0.998, 1.0)
"""Thresholds for which a bundle has a row, closer together near 1, where they differ more. A threshold between two
takes the next higher row."""

FOLDS = 4

CONFIDENCE = 0.95
"""Confidence that a row's true loss is at most its bound."""

_CANDIDATES = GRID[5:-1]
_PRICES = tuple(float(p) for p in np.geomspace(0.5, 60, 80))
"""Prices: backbone runs that one more right answer may cost. The hull is sampled at these slopes."""

Needed = tuple[float | None, ...]
"""Confidence that each early exit needs to answer; None: it is not evaluated."""


@dataclass(frozen=True)
class Costs:
    """Multiply-adds as shares of the whole backbone's.

    backbone: up to each early exit's cut point. heads: of each early exit's head.
    """

    backbone: tuple[float, ...]
    heads: tuple[float, ...]


@dataclass(frozen=True)
class Outcome:
    """accuracy and mean_macs_fraction: 0 to 1 (the latter may exceed 1 by the heads). share: answered at each exit."""

    accuracy: float
    mean_macs_fraction: float
    share: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """One threshold: what every early exit needs, and its measured or expected outcome.

    most_lost: upper confidence bound of the accuracy that it loses against the final exit alone; 0 if the outcome was
    played, not estimated.
    """

    threshold: float
    needed: Needed
    outcome: Outcome
    most_lost: float = 0.0


class Scores:
    """Every exit's answers to the same N images.

    Args:
        confidences: (exits, N), calibrated, the final exit last.
        right: (exits, N), whether each answer is right.
    """

    def __init__(self, confidences: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], costs: Costs) -> None:
        if confidences.shape != right.shape or len(confidences) != len(costs.heads) + 1:
            raise ValueError(f"got scores {confidences.shape} and {right.shape} for {len(costs.heads) + 1} exits")
        if not confidences.shape[1]:
            raise ValueError("got no images")
        self._confidences = confidences
        self._right = right
        self._costs = costs
        self.played: dict[Needed, Outcome] = {}

    def accuracy(self) -> float:
        """Of the final exit alone."""
        return float(self._right[-1].mean())

    def __len__(self) -> int:
        """Images."""
        return int(self._right.shape[1])

    def take(self, chosen: npt.NDArray[np.bool_]) -> Scores:
        """The same exits' scores on some of the images."""
        return Scores(self._confidences[:, chosen], self._right[:, chosen], self._costs)

    def play(self, needed: Needed) -> Outcome:
        """The first exit that is sure enough answers; an exit that is not evaluated costs nothing."""
        known = self.played.get(needed)
        if known is None:
            known = self.played[needed] = self._play(needed)
        return known

    def _play(self, needed: Needed) -> Outcome:
        n = self._right.shape[1]
        waiting = np.ones(n, bool)
        right, cost, heads = 0, 0.0, 0.0
        share = []
        for e, least in enumerate(needed):
            if least is None:
                share.append(0.0)
                continue
            heads += self._costs.heads[e]
            leaves = waiting & (self._confidences[e] >= least)
            count = int(np.count_nonzero(leaves))
            right += int(np.count_nonzero(self._right[e] & leaves))
            cost += count * (self._costs.backbone[e] + heads)
            share.append(count / n)
            waiting &= ~leaves
        rest = int(np.count_nonzero(waiting))
        right += int(np.count_nonzero(self._right[-1] & waiting))
        cost += rest * (1 + heads)
        return Outcome(right / n, cost / n, (*share, rest / n))

    def front(self) -> list[tuple[Outcome, Needed]]:
        """Of all choices played so far, those that no other beats in both accuracy and cost; the cheapest first."""
        kept: list[tuple[Outcome, Needed]] = []
        for needed, outcome in sorted(self.played.items(), key=lambda p: (p[1].mean_macs_fraction, -p[1].accuracy)):
            if not kept or outcome.accuracy > kept[-1][0].accuracy:
                kept.append((outcome, needed))
        return kept

    def changed(self, needed: Needed) -> tuple[int, int]:
        """How many images lose the right answer that the final exit has, and how many get one that it does not have."""
        waiting = np.ones(len(self), bool)
        worse = better = 0
        for e, least in enumerate(needed):
            if least is not None:
                leaves = waiting & (self._confidences[e] >= least)
                worse += int(np.count_nonzero(leaves & ~self._right[e] & self._right[-1]))
                better += int(np.count_nonzero(leaves & self._right[e] & ~self._right[-1]))
                waiting &= ~leaves
        return worse, better

    def cheapest(self, price: float, start: Needed) -> Needed:
        """Coordinate descent on mean cost - price * accuracy, from `start`, until nothing helps."""

        def value(needed: Needed) -> float:
            outcome = self.play(needed)
            return outcome.mean_macs_fraction - price * outcome.accuracy

        best, lowest = start, value(start)
        while True:
            before = lowest
            for e in range(len(start)):
                for candidate in (None, *_CANDIDATES):
                    tried = (*best[:e], candidate, *best[e + 1 :])
                    found = value(tried)
                    if found < lowest - 1e-12:
                        best, lowest = tried, found
            if lowest >= before:
                return best


def map_thresholds(scores: Scores, exits: int, grid: Sequence[float] = GRID) -> list[Row]:
    """A row for each threshold of the grid: the cheapest needs that are as accurate as this confidence at every exit.

    The needs are chosen on all images. Their outcome on the same images would look too good, so it is estimated by
    cross-validation: chosen on three quarters of the images, played on the fourth, and the mean of the four (Stone
    1974).

    Args:
        exits: number of early exits.
    """
    chosen = _choose(scores, exits, grid)
    fold = np.arange(len(scores)) % FOLDS
    if len(scores) < 2 * FOLDS:  # a toy: nothing to estimate from
        return [Row(t, n, scores.play(n), 1.0) for t, n in zip(grid, chosen, strict=True)]
    played: list[list[Outcome]] = [[] for _ in grid]
    changed = np.zeros((len(grid), 2), np.int64)
    weights = []
    for k in range(FOLDS):
        rest = scores.take(fold == k)
        weights.append(len(rest) / len(scores))
        for i, needed in enumerate(_choose(scores.take(fold != k), exits, grid)):
            played[i].append(rest.play(needed))
            changed[i] += rest.changed(needed)
    rows = []
    for threshold, needed, outcomes, (worse, better) in zip(grid, chosen, played, changed.tolist(), strict=True):
        mean = Outcome(
            float(np.dot(weights, [o.accuracy for o in outcomes])),
            float(np.dot(weights, [o.mean_macs_fraction for o in outcomes])),
            tuple(float(s) for s in np.dot(weights, [o.share for o in outcomes])),
        )
        rows.append(Row(threshold, needed, mean, lost_at_most(worse, better, len(scores))))
    return rows


def lost_at_most(worse: int, better: int, images: int) -> float:
    """Upper bound of the accuracy that is lost, at CONFIDENCE, one-sided (Agresti and Min 2005, for paired answers).

    Half an image is added to every cell of the table of both answers, since few images without a loss prove little.

    Args:
        worse, better: see `Scores.changed`, of these images.
    """
    worse_share, better_share = (worse + 0.5) / (images + 2), (better + 0.5) / (images + 2)
    lost = worse_share - better_share
    error = math.sqrt((worse_share + better_share - lost * lost) / (images + 2))
    return lost + NormalDist().inv_cdf(CONFIDENCE) * error


def _choose(scores: Scores, exits: int, grid: Sequence[float]) -> list[Needed]:
    """The needs for each threshold, on these images."""
    for begin in (None, 0.6, 0.8):  # descent finds a local optimum: from several sides
        start: Needed = (begin,) * exits
        for price in reversed(_PRICES):  # from no exit at all towards ever earlier ones
            start = scores.cheapest(price, start)
    candidates = scores.front()  # what the descents met on their way lies between the optima
    chosen: list[Needed] = []
    for threshold in grid:
        if threshold >= 1:  # certainty: no early exit ever has it
            chosen.append((None,) * exits)
            continue
        everywhere: Needed = (threshold,) * exits
        plain = scores.play(everywhere)
        choices = [(o, n) for o, n in candidates if o.accuracy >= plain.accuracy]
        chosen.append(min([*choices, (plain, everywhere)], key=lambda c: c[0].mean_macs_fraction)[1])
    return chosen


def default_threshold(rows: Sequence[Row], most_lost: float = 0.01) -> float:
    """The threshold of the cheapest row whose bound is `most_lost` of right answers or less; 1 if there is none.

    Rows are tested from the highest threshold downwards, until one fails. In this fixed order, many tests let a bad row
    pass no more often than one test does (fixed sequence testing: Angelopoulos et al. 2021, Learn then Test). Of rows
    of equal cost, the highest threshold is taken.
    """
    good = takewhile(lambda row: row.most_lost <= most_lost, reversed(rows))
    best = min(good, key=lambda r: (r.outcome.mean_macs_fraction, -r.threshold), default=None)
    return 1.0 if best is None else best.threshold
