"""A model from real traces.

If a trace has both directions, they share their regimes: the mean log capacity of both over some seconds gives the
regime. The number of seconds is found by trials: the model whose traces are most like the real ones is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from spinn_stream.errors import ConfigError
from spinn_stream.trace import DIRECTIONS, LIMITS, Trace

from .comparison import compare
from .model import QUANTILES, Flow, Model, Outages
from .steps import Steps, find_regimes, lasting_part, moves, normal_scores, outage_begins, quantiles, scores

EDGES = (0.2, 0.4, 0.6, 0.8, 0.94)
"""Shares of the time below each border between regimes. The rare best regime is separate."""

REGIMES = len(EDGES) + 1
SMOOTH_S = (5.0, 9.0, 15.0, 25.0)
TRIAL_SEEDS = 8
RTT_MS = 50.0


@dataclass(frozen=True)
class Settings:
    """How to fit.

    step_s: a second, or a whole part of one. rtt_from: a trace whose round trips give the distribution; without it, the
    round trip is `rtt_ms` throughout; with both, the distribution is scaled to that median. The model says what is
    assumed.
    up_share: the uplink as a part of the downlink, for traces without one.
    """

    step_s: float = 1.0
    rtt_from: Trace | None = None
    rtt_ms: float | None = None
    up_share: float = 1.0


def fit(traces: Sequence[Trace], settings: Settings, *, name: str, made_by: str, sources: Sequence[str]) -> Model:
    """A model of the traces: counts of their steps become probabilities, and their values quantiles.

    Raises:
        ConfigError: traces that a model cannot be fitted to.
    """
    trials = [_fit(traces, settings, smooth_s) for smooth_s in SMOOTH_S]
    best = min(trials, key=lambda model: _difference(model, traces))
    return replace(best, name=name, made_by=made_by, sources=tuple(sources))


def derive(levels: Model, motion: Model, *, name: str, made_by: str) -> Model:
    """A model with the capacities and round trips of one model, and the regime changes and outages of another.

    Raises:
        ConfigError: their numbers of regimes differ.
    """
    if len(levels.moves) != len(motion.moves):
        raise ConfigError(f"{levels.name} has {len(levels.moves)} regimes and {motion.name} {len(motion.moves)}")
    rtt = levels.rtt_ms
    sources = (f"levels of {levels.name}", f"motion of {motion.name}")
    return replace(
        motion, name=name, made_by=made_by, sources=sources,
        up_mbps=_moving_as(levels.up_mbps, motion.up_mbps), down_mbps=_moving_as(levels.down_mbps, motion.down_mbps),
        rtt_ms=replace(rtt, correlation=rtt.correlation ** (motion.step_s / levels.step_s)),
    )  # fmt: skip


def _moving_as(levels: Flow, motion: Flow) -> Flow:
    outage = tuple(map(min, levels.outage, motion.outage))  # out of coverage as the motion has it, and no better
    return replace(levels, outage=outage, lasting=motion.lasting, correlation=motion.correlation)


def _fit(traces: Sequence[Trace], settings: Settings, smooth_s: float) -> Model:
    parts = [Steps(trace, settings.step_s, smooth_s) for trace in traces]
    if len({part.directions for part in parts}) != 1:
        found = " and ".join(sorted({"+".join(part.directions) for part in parts}))
        raise ConfigError(f"the traces record {found}, expected the same directions in each")
    find_regimes(parts, EDGES)
    flows = {direction: _flow(parts, direction, settings.step_s) for direction in parts[0].directions}
    if "up_mbps" not in flows:
        flows["up_mbps"] = _share(flows["down_mbps"], settings.up_share)
    if "down_mbps" not in flows:
        flows["down_mbps"] = replace(flows["up_mbps"], source="assumed: as the uplink")
    begins = outage_begins(parts, REGIMES, round(1 / settings.step_s))
    lengths = quantiles(np.array([seconds for part in parts for seconds in part.outages_s], np.float64))
    return Model(
        "", "", (), settings.step_s, moves(parts, REGIMES), **{name: flows[name] for name in DIRECTIONS},
        rtt_ms=_round_trip(settings), outages=Outages(begins, lengths),
    )  # fmt: skip


def _difference(model: Model, traces: Sequence[Trace]) -> float:
    """The sum of the differences of distributions, of autocorrelations (root mean square over the lags), and of the
    share of time in outages."""
    total = 0.0
    for found in compare(model, traces, seeds=TRIAL_SEEDS):
        off = found.made_correlation.mean(axis=0) - found.correlation
        share, made = sum(found.outages_s) / found.seconds, sum(found.made_outages_s) / len(found.made_values)
        total += found.distance + float(np.sqrt(np.mean(off**2))) + abs(share - made)
    return total


def _flow(parts: Sequence[Steps], direction: str, step_s: float) -> Flow:
    regimes = range(REGIMES)
    pooled = [np.concatenate([part.mbps[direction][part.inside(regime)] for part in parts]) for regime in regimes]
    away = np.concatenate([part.mbps[direction][part.out] for part in parts])
    lasting, correlation = lasting_part([scores(part.mbps[direction], part, pooled) for part in parts], step_s)
    return Flow(tuple(quantiles(values) for values in pooled), quantiles(away), lasting, correlation, "measured")


def _share(flow: Flow, share: float) -> Flow:
    if not 0 < share <= 1:
        raise ConfigError(f"the uplink's share is {share}, expected above 0 and at most 1")
    regimes = tuple(tuple(q * share for q in of_one) for of_one in flow.regimes)
    outage = tuple(q * share for q in flow.outage)
    return replace(flow, regimes=regimes, outage=outage, source=f"assumed: {share:g} times the downlink")


def _round_trip(settings: Settings) -> Flow:
    trace, median = settings.rtt_from, settings.rtt_ms
    if trace is None:
        constant = (RTT_MS if median is None else median,) * QUANTILES
        return Flow((constant,) * REGIMES, constant, 0.0, 0.0, f"assumed: {constant[0]:g} ms")
    if trace.rtt_ms is None:
        raise ConfigError("the trace for round trips records none")
    times = np.arange(int(trace.duration_s / settings.step_s)) * settings.step_s
    values = trace.rtt_ms[np.searchsorted(trace.times_s, times, side="right") - 1]
    lasting, correlation = lasting_part([normal_scores(values, values)], settings.step_s)
    source = "measured" if "rtt_ms" in trace.measured else "assumed: the constant of a file"
    if median is not None:
        values = np.minimum(values * (median / max(float(np.median(values)), 1e-3)), LIMITS["rtt_ms"])
        source = f"assumed: {median:g} ms, with the spread of a trace of round trips"
    found = quantiles(values)
    return Flow((found,) * REGIMES, found, lasting, correlation, source)
