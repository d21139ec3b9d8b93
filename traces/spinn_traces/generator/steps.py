"""A real trace cut into steps, and counts over them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from spinn_stream.errors import ConfigError
from spinn_stream.trace import DIRECTIONS, Trace
from spinn_traces.figures import OUTAGE_MBPS, runs_in

from .model import PARTS, QUANTILES

Array = npt.NDArray[np.float64]

SHORTEST_S = 60.0
LASTING_S = 5.0
"""The correlation of normal scores is fitted to lags up to this."""

NORMAL = NormalDist()


class Steps:
    """One trace.

    mbps: capacity of each step, for each of `directions`. out: in an outage, of either direction, by seconds.
    outages_s: how long each lasted. slow: the mean log capacity around each step. regimes: set by `find_regimes`.

    Raises:
        ConfigError: a trace that a model cannot be fitted to.
    """

    def __init__(self, trace: Trace, step_s: float, smooth_s: float) -> None:
        self.directions = tuple(name for name in DIRECTIONS if name in trace.recorded)
        if not self.directions or trace.duration_s < SHORTEST_S:
            raise ConfigError(
                f"a trace of {trace.duration_s:g} s with {', '.join(self.directions) or 'no capacity'}, "
                f"expected {SHORTEST_S:g} s or more with capacity"
            )
        in_second = round(1 / step_s)
        if in_second < 1 or abs(in_second * step_s - 1) > 1e-9:
            raise ConfigError(f"a step is {step_s:g} s, expected a second or a whole part of one")
        seconds = [trace.windows(name, 1.0) for name in self.directions]
        below = np.any([values < OUTAGE_MBPS for values in seconds], axis=0)
        self.mbps = {name: trace.windows(name, step_s)[: len(below) * in_second] for name in self.directions}
        self.out: npt.NDArray[np.bool_] = np.repeat(below, in_second)
        self.outages_s = runs_in(below)
        if self.out.all():
            raise ConfigError("a trace that is one outage, expected some capacity")
        logs = np.mean([np.log(values + OUTAGE_MBPS) for values in self.mbps.values()], axis=0)
        self.slow = _smooth(logs, ~self.out, max(1, round(smooth_s * in_second)))
        self.regimes: npt.NDArray[np.int64] = np.zeros(len(self.out), np.int64)

    def inside(self, regime: int) -> npt.NDArray[np.bool_]:
        inside: npt.NDArray[np.bool_] = (self.regimes == regime) & ~self.out
        return inside


def find_regimes(parts: Sequence[Steps], below: Sequence[float]) -> None:
    """From poor to good. below: what part of the time outside outages, of all traces together, is below each border."""
    edges = np.quantile(np.concatenate([part.slow[~part.out] for part in parts]), below)
    for part in parts:
        part.regimes = np.searchsorted(edges, part.slow)


def moves(parts: Sequence[Steps], count: int) -> tuple[tuple[float, ...], ...]:
    """Probabilities from regime to regime; half a step in each regime counts as seen.

    Each trace repeats after its end. So every regime is entered as often as it is left, and the chain spends the same
    share of time in it as the traces do.
    """
    counts = np.eye(count) * 0.5
    for part in parts:
        walked = part.regimes[~part.out]
        np.add.at(counts, (walked, np.roll(walked, -1)), 1)
    return tuple(tuple(float(p) for p in row / row.sum()) for row in counts)


def outage_begins(parts: Sequence[Steps], count: int, in_second: int) -> tuple[float, ...]:
    """For each regime, the share of its seconds after which an outage began."""
    begins, steps = np.zeros(count), np.zeros(count)
    for part in parts:
        np.add.at(steps, part.regimes[~part.out], 1)
        np.add.at(begins, part.regimes[np.roll(part.out, -1) & ~part.out], 1)
    return tuple(float(min(1.0, b * in_second / max(n, 1))) for b, n in zip(begins, steps, strict=True))


def scores(values: Array, part: Steps, pooled: Sequence[Array]) -> Array:
    """Normal scores of the values among those of their regime; nan in outages."""
    found = np.full(len(values), np.nan)
    for regime, among in enumerate(pooled):
        inside = part.inside(regime)
        found[inside] = normal_scores(values[inside], among)
    return found


def normal_scores(values: Array, among: Array) -> Array:
    """The normal deviates of the values' ranks, ties in the middle."""
    ordered = np.sort(among)
    ranks = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.array([NORMAL.inv_cdf((rank + 1) / (2 * len(ordered) + 2)) for rank in ranks.tolist()])


def lasting_part(series: Sequence[Array], step_s: float) -> tuple[float, float]:
    """The share of the variance that continues from step to step, and the correlation of that part.

    An AR(1) process with noise on top has the autocorrelation lasting * correlation^lag: a straight line in logarithms,
    fitted to the lags up to `LASTING_S` while they are above noise.
    """
    lags, logs = [], []
    for lag in range(1, max(2, round(LASTING_S / step_s)) + 1):
        found = _correlation(series, lag)
        if found < 0.05:
            break
        lags.append(lag)
        logs.append(np.log(found))
    if not lags:
        return 0.0, 0.0
    if len(lags) == 1:
        return 1.0, float(np.exp(logs[0]))
    slope, begin = np.polyfit(lags, logs, 1)
    return float(np.clip(np.exp(begin), 0.0, 1.0)), float(np.clip(np.exp(slope), 0.0, 0.999))


def _correlation(series: Sequence[Array], lag: int) -> float:
    pairs = np.concatenate([np.stack((s[:-lag], s[lag:])) for s in series if len(s) > lag], axis=1)
    pairs = pairs[:, ~np.isnan(pairs).any(axis=0)]
    if pairs.shape[1] < 10 or not pairs.std(axis=1).all():
        return 0.0
    return float(np.corrcoef(pairs)[0, 1])


def quantiles(values: Array) -> tuple[float, ...]:
    return tuple(round(float(q), 6) for q in np.quantile(values, PARTS)) if len(values) else (0.0,) * QUANTILES


def _smooth(values: Array, use: npt.NDArray[np.bool_], width: int) -> Array:
    """Means over `width` steps of the values in use; where none is, the mean of all in use."""
    sums = np.concatenate(([0.0], np.cumsum(np.where(use, values, 0.0))))
    counts = np.concatenate(([0], np.cumsum(use)))
    begin = np.maximum(np.arange(len(values)) - width // 2, 0)
    end = np.minimum(begin + width, len(values))
    weights = counts[end] - counts[begin]
    found: Array = np.where(weights > 0, (sums[end] - sums[begin]) / np.maximum(weights, 1), values[use].mean())
    return found
