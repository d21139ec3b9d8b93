"""A trace from a model and a seed: the same two give the same trace on every machine."""

from __future__ import annotations

import math
import random
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from spinn_stream.errors import ConfigError
from spinn_stream.trace import MAX_SAMPLES, Trace

from .model import PARTS, QUANTILES, Flow, Model

NORMAL = NormalDist()
WARM_UP = 1000
"""Steps before the first one that counts, so that the chain forgets its start."""


def generate(model: Model, *, seed: int, duration_s: float) -> Trace:
    """A trace with capacities rounded to a kb/s and round trips to 0.1 ms; nothing in it is measured.

    Raises:
        ConfigError: a duration that a trace cannot have.
    """
    steps = math.ceil(duration_s / model.step_s - 1e-9) if 0 < duration_s < math.inf else 0
    if not 1 <= steps <= MAX_SAMPLES:
        most = f"{MAX_SAMPLES * model.step_s:g} in steps of {model.step_s:g} s"
        raise ConfigError(f"the duration is {duration_s:g} s, expected above 0 and at most {most}")
    draws = random.Random(seed)  # its `random` gives the same numbers in every version of Python
    states = _states(model, steps, draws)
    columns: dict[str, Any] = {
        name: _walk(getattr(model, name), states, digits, draws)
        for name, digits in (("up_mbps", 3), ("down_mbps", 3), ("rtt_ms", 1))
    }
    return Trace(np.round(np.arange(steps) * model.step_s, 6), duration_s, **columns)


def _states(model: Model, steps: int, draws: random.Random) -> list[int]:
    """The regime of each step; -1 in outages."""
    sums = [list(accumulate(row)) for row in model.moves]
    last = len(model.moves) - 1
    in_second = max(1, round(1 / model.step_s))
    regime, out = last // 2, 0
    states = []
    for step in range(-WARM_UP, steps):
        if out == 0 and step % in_second == 0 and draws.random() < model.outages.begin[regime]:
            out = max(1, round(at_quantile(model.outages.seconds, draws.random()) / model.step_s))
        if out:
            out -= 1
            states.append(-1)
        else:
            regime = min(bisect(sums[regime], draws.random()), last)
            states.append(regime)
    return states[WARM_UP:]


def _walk(flow: Flow, states: Sequence[int], digits: int, draws: random.Random) -> npt.NDArray[np.float64]:
    keep, fresh = flow.correlation, math.sqrt(1 - flow.correlation**2)
    lasting, new = math.sqrt(flow.lasting), math.sqrt(1 - flow.lasting)
    values = np.empty(len(states))
    slow = _normal(draws)
    for i, state in enumerate(states):
        slow = keep * slow + fresh * _normal(draws)
        part = NORMAL.cdf(lasting * slow + new * _normal(draws))
        values[i] = round(at_quantile(flow.outage if state < 0 else flow.regimes[state], part), digits)
    return values


def _normal(draws: random.Random) -> float:
    return NORMAL.inv_cdf(min(max(draws.random(), 1e-12), 1 - 1e-12))


def at_quantile(quantiles: Sequence[float], part: float) -> float:
    """The value below which this part, 0 to 1, of the distribution lies; straight lines between the quantiles."""
    low = min(bisect(PARTS, part), QUANTILES - 1) - 1
    share = (part - PARTS[low]) / (PARTS[low + 1] - PARTS[low])
    return quantiles[low] + (quantiles[low + 1] - quantiles[low]) * share
