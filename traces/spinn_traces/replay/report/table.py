"""The table of a replay: figures of every policy, over all traces and on each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinn_client.frames.results import FALLBACK
from spinn_traces.replay.record import RunRecord

from .statistics import ROUNDS, Estimate, Floats, Ints, RunSample, Sample, bins_of, block_bins, block_weights

LEAST_S = 30.0
"""A policy may be called the best only if its runs are this long, in seconds: shorter ones have too narrow
intervals."""

GRACE_MS = 20.0
"""The contract: a final result comes at most this long after its deadline (docs/results.md)."""


@dataclass(frozen=True)
class Measure:
    """A column. better: `high`, `low` or None: neither is better by itself. scale: of the value as it is shown."""

    key: str
    title: str
    unit: str
    better: str | None
    digits: int
    scale: float = 1.0


MEASURES = (
    Measure("right", "right", "%", "high", 1, 100),
    Measure("device", "by the device", "%", None, 1, 100),
    Measure("server", "by the server", "%", None, 1, 100),
    Measure("fallback", "fallback", "%", "low", 1, 100),
    Measure("age_p50_ms", "age, median", "ms", "low", 1),
    Measure("age_p95_ms", "age, 95 %", "ms", "low", 1),
    Measure("age_p99_ms", "age, 99 %", "ms", "low", 1),
    Measure("in_time", "in time", "%", "high", 1, 100),
    Measure("dropped", "dropped", "%", "low", 1, 100),
    Measure("up_mbit_per_min", "sent", "Mb/min", "low", 2),
    Measure("server_ms_per_frame", "server's work", "ms/frame", "low", 2),
)


@dataclass(frozen=True)
class Row:
    """Figures of one policy. best: measures in which the interval of the difference to every other policy says so."""

    policy: str
    trace: str | None  # None: all of them
    runs: int
    captured: int
    frames: int
    figures: dict[str, Estimate]
    best: frozenset[str]

    def as_json(self) -> dict[str, Any]:
        """`value`, `low` and `high` of each figure; null: not known."""
        figures: dict[str, Any] = {}
        for key, estimate in self.figures.items():
            low, high = estimate.interval or (None, None)
            value = estimate.value if np.isfinite(estimate.value) else None
            figures[key] = {"value": _rounded(value), "low": _rounded(low), "high": _rounded(high)}
        return {
            "policy": self.policy, "trace": self.trace, "runs": self.runs, "captured": self.captured,
            "frames": self.frames, **figures, "best": sorted(self.best),
        }  # fmt: skip


def make_table(records: Sequence[RunRecord], names: dict[str, str], *, seed: int = 0) -> list[Row]:
    """Rows of all traces together first, then of each; within them the policies in the order of `names`.

    names: for each policy's text its name. Failed runs are missing from the figures; then no policy is called the best.
    """
    traces = list(dict.fromkeys(r.spec.trace.content for r in records))
    shown = {r.spec.trace.content: r.spec.trace.name for r in records}
    scopes: list[tuple[str | None, list[str]]] = [(None, traces), *((shown[t], [t]) for t in traces)]
    draws: dict[tuple[str, int], Ints] = {}
    rows = []
    for title, within in scopes:
        found = {text: _figures(text, records, within, traces, draws, seed) for text in names}
        present = {text: row for text, row in found.items() if row is not None}
        fair = len({frozenset(map(_place, runs)) for runs, _ in present.values()}) == 1
        for text, (runs, figures) in present.items():
            others = [other for key, (_, other) in present.items() if key != text]
            enough = fair and sum(run.spec.duration_s for run in runs) >= LEAST_S
            rows.append(
                Row(
                    policy=names[text],
                    trace=title,
                    runs=len(runs),
                    captured=sum(r.captured for r in runs),
                    frames=sum(r.taken for r in runs),
                    figures=figures,
                    best=_best(figures, others) if enough else frozenset(),
                )
            )
    return rows


def _figures(
    policy: str,
    records: Sequence[RunRecord],
    within: Sequence[str],
    traces: Sequence[str],
    draws: dict[tuple[str, int], Ints],
    seed: int,
) -> tuple[list[RunRecord], dict[str, Estimate]] | None:
    strata, weights = [], []
    for trace in within:
        runs = [r for r in records if r.spec.policy == policy and r.spec.trace.content == trace]
        if runs:
            if (trace, len(runs)) not in draws:
                duration_s = runs[0].spec.duration_s
                bins, rng = bins_of(duration_s), np.random.default_rng((seed, traces.index(trace)))
                draws[trace, len(runs)] = block_weights(bins, block_bins(duration_s, bins), len(runs), ROUNDS, rng)
            strata.append(runs)
            weights.append(draws[trace, len(runs)])
    if not strata:
        return None
    runs = [run for same in strata for run in same]
    sample = Sample([[_sample(run) for run in same] for same in strata], weights)
    return runs, _estimates(runs, sample)


def _estimates(runs: Sequence[RunRecord], sample: Sample) -> dict[str, Estimate]:
    every = [np.ones(run.taken) for run in runs]
    known = [np.array([c is not None for c in run.finals.correct], np.float64) for run in runs]
    right = [np.array([c is True for c in run.finals.correct], np.float64) for run in runs]
    p50, p95, p99 = sample.age_quantiles((0.5, 0.95, 0.99))
    return {
        "right": sample.share(right, known),
        **{by: sample.share([_answered(run, by) for run in runs], every) for by in ("device", "server", "fallback")},
        "age_p50_ms": p50,
        "age_p95_ms": p95,
        "age_p99_ms": p99,
        "in_time": sample.share([_in_time(run) for run in runs], every),
        "dropped": sample.dropped(),
        "up_mbit_per_min": sample.per_run(lambda run: run.bytes_up * 8e-6, lambda run: run.minutes),
        "server_ms_per_frame": sample.per_run(lambda run: run.server_ms, lambda run: len(run.age_ms)),
    }  # fmt: skip


def answered_by(record: RunRecord) -> list[str]:
    """Who answered each frame taken in: device, server or fallback."""
    finals = record.finals
    return ["fallback" if r in FALLBACK else str(w) for w, r in zip(finals.where, finals.reason, strict=True)]


def _answered(record: RunRecord, where: str) -> Floats:
    return np.array([by == where for by in answered_by(record)], np.float64)


def _in_time(record: RunRecord) -> Floats:
    finals, limit = record.finals, record.spec.deadline_ms + GRACE_MS
    return np.array(
        [w is not None and a <= limit for w, a in zip(finals.where, finals.age_ms, strict=True)], np.float64
    )


def _sample(record: RunRecord) -> RunSample:
    finals, duration_s = record.finals, record.spec.duration_s
    bins = bins_of(duration_s)

    def bin_of(captured_s: Floats) -> Ints:
        return np.clip(captured_s / duration_s * bins, 0, bins - 1).astype(np.int64)

    frames = np.array(finals.frame)
    captured_s = np.array(finals.captured_s, np.float64)
    missing = np.setdiff1d(np.arange(frames[0], frames[-1] + 1), frames)
    return RunSample(
        bins=bins,
        frame_bin=bin_of(captured_s),
        dropped_bin=bin_of(np.interp(missing, frames, captured_s)),
        age_ms=np.array(finals.age_ms, np.float64),
        minutes=duration_s / 60,
        bytes_up=record.bytes_up,
        server_ms=record.server_compute_ms,
    )


def _place(record: RunRecord) -> tuple[str, int]:
    return record.spec.trace.content, record.spec.repeat


def _best(figures: dict[str, Estimate], others: Sequence[dict[str, Estimate]]) -> frozenset[str]:
    if not others:
        return frozenset()
    best = set()
    for measure in MEASURES:
        key, own = measure.key, figures[measure.key]
        if (measure.better == "low" and all(own.below(other[key]) for other in others)) or (
            measure.better == "high" and all(other[key].below(own) for other in others)
        ):
            best.add(key)
    return frozenset(best)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
