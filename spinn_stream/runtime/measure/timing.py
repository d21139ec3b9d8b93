"""Measures times until their median is known well enough."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spinn_stream.errors import Interrupted
from spinn_stream.profile import Timing

Stop = Callable[[], bool]
"""Whether to give up, called every few milliseconds, by any thread: `threading.Event.is_set`, for instance."""


def never() -> bool:
    """Never give up."""
    return False


def check(stop: Stop) -> None:
    """Raises Interrupted: `stop` says so."""
    if stop():
        raise Interrupted("measuring was given up, as asked")


@dataclass(frozen=True)
class StopRule:
    """When to stop: the 95 % interval of every median is narrower than `spread` of it to each side, or time is up.

    The interval is that of order statistics: ranks n/2 -+ 0.98 sqrt(n), whatever the distribution.
    """

    warm_up: int = 3
    least: int = 8  # runs, if the budget allows
    most: int = 2000
    spread: float = 0.02
    budget_s: float = 2.0

    def is_met(self, samples: Sequence[float]) -> bool:
        if len(samples) < self.least:
            return False
        ordered = np.sort(np.asarray(samples))
        reach = 0.98 * math.sqrt(len(ordered))
        low = ordered[max(0, int(len(ordered) / 2 - reach))]
        high = ordered[min(len(ordered) - 1, math.ceil(len(ordered) / 2 + reach))]
        return bool(high - low <= 2 * self.spread * ordered[len(ordered) // 2])


def sample(
    functions: Sequence[Callable[[], object]], rule: StopRule, *, streak: int = 1, stop: Stop = never,
    progress: Callable[[float], object] = lambda share: None,
) -> list[list[float]]:  # fmt: skip
    """Run the functions in turn, again and again, so that a disturbance of the machine meets all of them.

    The order of each turn is drawn (the same draws on every call), so that what one function leaves in the caches
    affects all others alike.

    Args:
        streak: runs of one function in its turn; if there are several, the first is not counted, since the caches are
            cold.
        stop: asked before each streak. progress: called after each turn with the share of the budget that is spent.

    Returns:
        For each function its times in ms, the same number for all, and at least one.

    Raises:
        Interrupted: `stop` said so.
    """
    for function in functions:
        for _ in range(rule.warm_up):
            check(stop)
            function()
    samples: list[list[float]] = [[] for _ in functions]
    collecting = gc.isenabled()
    gc.disable()
    order = list(zip(functions, samples, strict=True))
    draw = random.Random(0)
    end = time.perf_counter() + rule.budget_s
    try:
        for done in range(1, rule.most + 1):
            draw.shuffle(order)
            for function, times in order:
                check(stop)
                for run in range(streak):
                    began = time.perf_counter()
                    function()
                    if run or streak == 1:
                        times.append((time.perf_counter() - began) * 1000)
            progress(min(1.0, 1 - (end - time.perf_counter()) / rule.budget_s) if rule.budget_s > 0 else 1.0)
            if time.perf_counter() > end or (done % 4 == 0 and all(rule.is_met(s) for s in samples)):
                break
    finally:
        if collecting:
            gc.enable()
    return samples


def summary(samples: Sequence[float]) -> Timing:
    """Median and 95th percentile of times in ms; differences below 0 count as 0."""
    return Timing(max(0.0, float(np.median(samples))), max(0.0, float(np.percentile(samples, 95))))
