"""Quantiles of a time that is a mixture of several ways.

Each way is a logistic distribution of known mean and standard deviation: its distribution function and its inverse
are closed formulas, and it is close to the normal one with somewhat heavier tails, as run times have.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

QUANTILE = 0.95

_SCALE = math.sqrt(3) / math.pi  # of a logistic distribution whose standard deviation is 1

_EXTREME = 0.001

_FAR = 8.0  # scales of a part: no quantile is looked for beyond


def level_z(level: npt.ArrayLike) -> Floats:
    """How many standard deviations above the mean a logistic quantile is; levels are kept within 0.001 to 0.999."""
    u = np.clip(np.asarray(level, np.float64), _EXTREME, 1 - _EXTREME)
    return np.asarray(_SCALE * np.log(u / (1 - u)))


Z95 = float(level_z(QUANTILE))


def spread(median: float, p95: float) -> float:
    """Standard deviation of a logistic distribution with these quantiles."""
    return max(0.0, p95 - median) / Z95


def mixture_quantile(means: Floats, deviations: Floats, weights: Floats, levels: Floats) -> Floats:
    """The quantile of each mixture at its level; by bisection if it has several parts.

    Args:
        means, deviations, weights: (E, N), the parts of N mixtures; weights need not add up to 1, parts of weight 0
            count for nothing. levels: (N,), 0 to 1.

    Returns: (N,), within 8 scales of some part's mean; 0 if all weights are 0.
    """
    scales = np.maximum(deviations * _SCALE, 1e-9 + 1e-9 * np.abs(means))
    parts = (weights > 0).sum(0)
    only = np.argmax(weights > 0, axis=0), np.arange(len(levels))
    with np.errstate(divide="ignore"):
        place = np.clip(np.log(levels / (1 - levels)), -_FAR, _FAR)
    found = np.where(parts > 0, means[only] + scales[only] * place, 0.0)
    mixed = np.flatnonzero(parts > 1)
    if mixed.size:
        found[mixed] = _bisected(means[:, mixed], scales[:, mixed], weights[:, mixed], levels[mixed])
    return np.asarray(found)


def _bisected(means: Floats, scales: Floats, weights: Floats, levels: Floats) -> Floats:
    counted = weights > 0
    low = np.where(counted, means - _FAR * scales, np.inf).min(0)
    high = np.where(counted, means + _FAR * scales, -np.inf).max(0)
    goal = levels * weights.sum(0)
    for _ in range(48):
        middle = (low + high) / 2
        z = np.clip((middle - means) / scales, -500, 500)
        below = (weights / (1 + np.exp(-z))).sum(0) < goal
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2)
