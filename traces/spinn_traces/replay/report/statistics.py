"""Figures with 95 % intervals, by a block bootstrap: frames that follow each other are alike.

A run's time is cut into short bins. A resample draws blocks of consecutive bins with replacement until the run's length
is reached (moving blocks: Künsch, The jackknife and the bootstrap for general stationary observations, Annals of
Statistics 17, 1989), wrapping at the end, so that every bin is as likely as any other (circular: Politis and Romano, A
circular block-resampling procedure for stationary data, 1992). If a run was repeated, repeats are drawn first, then
blocks within each. Traces are not drawn: an interval is about these traces.

Every policy on a trace gets the same draws, so that the network's luck cancels out in differences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ROUNDS = 1000
BIN_S = 0.5
BLOCK_S = 5.0
MOST_BINS = 600
LEAST_BLOCKS = 4
"""Least number of blocks: a short run has shorter blocks, and its intervals are still too narrow."""

_AT_ONCE = 4_000_000
"""Weights of frames held at once while quantiles are found: 32 MB."""


@dataclass(frozen=True)
class Estimate:
    """A figure, and its value in each resample, (rounds,); NaN: not known. rounds None: no interval."""

    value: float
    rounds: Floats | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """From the 2.5th to the 97.5th percentile of the resamples."""
        if self.rounds is None or not np.isfinite(self.rounds).all():
            return None
        low, high = np.percentile(self.rounds, (2.5, 97.5))
        return float(low), float(high)

    def below(self, other: Estimate) -> bool:
        """Whether this is less than another one with 95 % confidence, by the interval of the difference."""
        if self.rounds is None or other.rounds is None or self.rounds.shape != other.rounds.shape:
            return False
        difference = self.rounds - other.rounds
        return bool(np.isfinite(difference).all() and np.percentile(difference, 97.5) < 0)


def bins_of(duration_s: float) -> int:
    """The number of bins of a run's time."""
    return int(np.clip(round(duration_s / BIN_S), 1, MOST_BINS))


def block_bins(duration_s: float, bins: int) -> int:
    """The number of bins of a block."""
    return int(np.clip(round(bins * BLOCK_S / duration_s), 1, max(1, bins // LEAST_BLOCKS)))


def block_weights(bins: int, block: int, repeats: int, rounds: int, rng: np.random.Generator) -> Ints:
    """How often each bin of each repeat is in each resample: (rounds, repeats, bins); a round's sum is repeats x bins.

    The last block is cut, so that a resample is as long as the run.
    """
    blocks = -(-bins // block)
    lengths = np.full(blocks, block)
    lengths[-1] = bins - (blocks - 1) * block
    starts = rng.integers(0, bins, (rounds, repeats, blocks))
    edges = np.zeros((rounds, repeats, 2 * bins + 1), np.int64)  # what begins and ends at each bin, twice around
    where = np.ogrid[:rounds, :repeats, :1][:2]
    np.add.at(edges, (*where, starts), 1)
    np.add.at(edges, (*where, starts + lengths), -1)
    covered = edges.cumsum(axis=2)
    weights: Ints = covered[:, :, :bins] + covered[:, :, bins : 2 * bins]
    if repeats == 1:
        return weights
    drawn = np.eye(repeats, dtype=np.int64)[rng.integers(0, repeats, (rounds, repeats))]  # (rounds, slots, repeats)
    picked: Ints = np.einsum("rsk,rsb->rkb", drawn, weights)
    return picked


@dataclass(frozen=True)
class RunSample:
    """What the figures need of one run.

    bins: of its time. frame_bin: (N,) of each frame taken in. dropped_bin: (D,) of each that was not.
    """

    bins: int
    frame_bin: Ints
    dropped_bin: Ints
    age_ms: Floats  # (N,)
    minutes: float
    bytes_up: float
    server_ms: float


class Sample:
    """Runs of one policy, on one trace or several, and the draws of each trace.

    strata: for each trace the runs, one for each repeat. draws: for each trace the weights, as `block_weights` gives.
    """

    def __init__(self, strata: Sequence[Sequence[RunSample]], draws: Sequence[Ints]) -> None:
        self._runs = [run for runs in strata for run in runs]
        self._weights = [w[:, at, :] for runs, w in zip(strata, draws, strict=True) for at in range(len(runs))]
        self._rounds = len(draws[0])
        self._repeated = all(len(runs) > 1 for runs in strata)

    def share(self, parts: Sequence[Floats], wholes: Sequence[Floats]) -> Estimate:
        """Sum of parts over sum of wholes; each has, for each run, a value for each frame taken in, (N,). NaN: no
        wholes."""
        return self._ratio(
            [self._by_bin(run, run.frame_bin, part) for run, part in zip(self._runs, parts, strict=True)],
            [self._by_bin(run, run.frame_bin, whole) for run, whole in zip(self._runs, wholes, strict=True)],
        )

    def dropped(self) -> Estimate:
        """Share of the captured frames that were not taken in."""
        lost = [self._by_bin(run, run.dropped_bin) for run in self._runs]
        taken = [self._by_bin(run, run.frame_bin) for run in self._runs]
        return self._ratio(lost, [a + b for a, b in zip(lost, taken, strict=True)])

    def per_run(self, part: Callable[[RunSample], float], whole: Callable[[RunSample], float]) -> Estimate:
        """A ratio of totals of runs. They are not known over time, so there is an interval only if runs were
        repeated."""
        even = [np.full(run.bins, 1 / run.bins) for run in self._runs]
        found = self._ratio(
            [part(run) * share for run, share in zip(self._runs, even, strict=True)],
            [whole(run) * share for run, share in zip(self._runs, even, strict=True)],
        )
        return found if self._repeated else Estimate(found.value, None)

    def age_quantiles(self, levels: Sequence[float]) -> list[Estimate]:
        """The quantiles of age: the smallest age that at least this share of the frames does not exceed."""
        ages = np.concatenate([run.age_ms for run in self._runs])
        if len(ages) == 0:
            return [Estimate(float("nan"), None) for _ in levels]
        order = np.argsort(ages, kind="stable")
        ages = ages[order]
        rounds = np.empty((len(levels), self._rounds))
        step = max(1, _AT_ONCE // len(ages))
        for first in range(0, self._rounds, step):
            some = slice(first, first + step)
            weights = np.concatenate(
                [w[some][:, run.frame_bin] for run, w in zip(self._runs, self._weights, strict=True)], axis=1
            )
            passed = weights[:, order].cumsum(axis=1)  # (some rounds, frames)
            for level, row in zip(levels, rounds, strict=True):
                reached = passed >= level * passed[:, -1:] - 1e-9
                row[some] = np.where(passed[:, -1] > 0, ages[reached.argmax(axis=1)], np.nan)
        at = [max(0, int(np.ceil(level * len(ages) - 1e-9)) - 1) for level in levels]
        return [Estimate(float(ages[k]), row) for k, row in zip(at, rounds, strict=True)]

    def _by_bin(self, run: RunSample, bins: Ints, values: Floats | None = None) -> Floats:
        return np.bincount(bins, values, minlength=run.bins).astype(np.float64)

    def _ratio(self, parts: Sequence[Floats], wholes: Sequence[Floats]) -> Estimate:
        """parts, wholes: for each run the sum in each bin."""
        part = sum((w @ p for w, p in zip(self._weights, parts, strict=True)), np.zeros(self._rounds))
        whole = sum((w @ p for w, p in zip(self._weights, wholes, strict=True)), np.zeros(self._rounds))
        total = sum(p.sum() for p in wholes)
        with np.errstate(invalid="ignore", divide="ignore"):
            rounds: Floats = part / whole
        return Estimate(float(sum(p.sum() for p in parts) / total) if total else float("nan"), rounds)
