"""Compares a model's traces with measured ones: distributions, autocorrelation and outages, in windows of a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spinn_stream.trace import Trace
from spinn_traces.figures import OUTAGE_MBPS, runs_in

from .generate import generate
from .model import Model

Array = npt.NDArray[np.float64]

SEEDS = 10
LAGS_S = 60
SHOWN_LAGS_S = (1, 5, 20)


@dataclass(frozen=True)
class Compared:
    """One direction: measured, and generated over several seeds of the same length.

    values: Mb/s of every second, sorted. correlation: at lags of 0, 1, ... `LAGS_S` seconds; of the generated ones a
    row for each seed. outages_s: how long each lasted.
    """

    direction: str
    seconds: int
    values: Array
    made_values: Array
    correlation: Array
    made_correlation: Array
    outages_s: tuple[int, ...]
    made_outages_s: tuple[int, ...]

    @property
    def distance(self) -> float:
        """Largest difference of the two distributions (Kolmogorov and Smirnov's statistic), 0 to 1."""
        places = np.concatenate((self.values, self.made_values))
        here = np.searchsorted(self.values, places, side="right") / len(self.values)
        made = np.searchsorted(self.made_values, places, side="right") / len(self.made_values)
        return float(np.abs(here - made).max())

    def as_json(self) -> dict[str, Any]:
        return {
            "direction": self.direction,
            "seconds": self.seconds,
            "measured": _figures(self.values, self.correlation, self.outages_s, self.seconds),
            "generated": _figures(
                self.made_values, self.made_correlation.mean(axis=0), self.made_outages_s, len(self.made_values)
            ),
            "largest_difference": round(self.distance, 4),
        }


def compare(model: Model, traces: Sequence[Trace], *, seeds: int = SEEDS) -> list[Compared]:
    """Compares each recorded direction with made-up traces of the same length, for the seeds from 1 on."""
    seconds = max(LAGS_S + 2, *(int(trace.duration_s) for trace in traces))
    made = [generate(model, seed=seed, duration_s=float(seconds)) for seed in range(1, seeds + 1)]
    found = []
    for direction in ("up_mbps", "down_mbps"):
        real = [trace.windows(direction) for trace in traces if direction in trace.recorded]
        if not real:
            continue
        fake = [trace.windows(direction) for trace in made]
        longest = max(real, key=len)
        found.append(
            Compared(
                direction, sum(map(len, real)), np.sort(np.concatenate(real)), np.sort(np.concatenate(fake)),
                autocorrelation(longest), np.array([autocorrelation(values) for values in fake]),
                tuple(run for values in real for run in runs_in(values < OUTAGE_MBPS)),
                tuple(run for values in fake for run in runs_in(values < OUTAGE_MBPS)),
            )
        )  # fmt: skip
    return found


def autocorrelation(values: Array) -> Array:
    """At lags from 0 to `LAGS_S` samples; 0 at lags beyond the samples, and 0 everywhere for a constant."""
    centred = values - values.mean()
    power = float(np.dot(centred, centred))
    lags = range(min(LAGS_S + 1, len(values)))
    found = np.zeros(LAGS_S + 1)
    if power > 0:
        found[: len(lags)] = [np.dot(centred[: len(values) - lag], centred[lag:]) / power for lag in lags]
    return found


def _figures(values: Array, correlation: Array, outages: Sequence[int], seconds: int) -> dict[str, Any]:
    p5, p50, p95 = (round(float(q), 3) for q in np.quantile(values, (0.05, 0.5, 0.95)))
    return {
        "mean_mbps": round(float(values.mean()), 3),
        "p5_mbps": p5,
        "p50_mbps": p50,
        "p95_mbps": p95,
        "correlation": {f"{lag}_s": round(float(correlation[lag]), 3) for lag in SHOWN_LAGS_S},
        "outage_share": round(sum(outages) / seconds, 4),
        "outages_an_hour": round(len(outages) / seconds * 3600, 1),
        "longest_outage_s": max(outages, default=0),
    }
