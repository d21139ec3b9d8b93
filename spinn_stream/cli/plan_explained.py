"""What `spinn plan --explain` adds: the runner-up, why it is none better, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinn_stream.plan import METRICS, Figures, Plan, Prediction, Sla
from spinn_stream.plan.change.choice import KEPT, SAME_VIOLATION, Binding, decide, shown, violations
from spinn_stream.plan.predict.plan_table import Ints


@dataclass(frozen=True)
class RunnerUp:
    """The plan that would have been taken without the chosen split, and why it was not."""

    plan: Plan
    figures: Figures
    why: str


def runner_up(prediction: Prediction, sla: Sla, index: int) -> RunnerUp | None:
    """The choice among the plans of other splits; None if there are none."""
    table = prediction.table
    others = np.flatnonzero(table.split != table.split[index])
    if not others.size:
        return None
    total = violations(prediction, sla.constraints)[others]
    limit = KEPT if total.min() <= KEPT else float(total.min()) + SAME_VIOLATION
    second = decide(prediction, sla.targets, others[total <= limit])
    return RunnerUp(prediction.table.plan(second), prediction.figures(second), why_not(prediction, sla, index, second))


def why_not(prediction: Prediction, sla: Sla, index: int, other: int) -> str:
    """One line on why the other plan is worse."""
    for c in sla.constraints:
        value = prediction.at(c.metric.name, other)
        if c.violation(value) > max(KEPT, c.violation(prediction.at(c.metric.name, index)) + SAME_VIOLATION):
            return f"it breaks {c}: {shown(c.metric.name, value)}"
    for target in sla.targets:
        name, rises = target.metric.name, target.metric.rises
        ours, theirs = prediction.at(name, index), prediction.at(name, other)
        limit = target.limit(ours)
        if (theirs < limit) if rises else (theirs > limit):
            return f"{name} is {shown(name, theirs)} against {shown(name, ours)}"
    last = sla.targets[-1].metric
    ours, theirs = prediction.at(last.name, index), prediction.at(last.name, other)
    return f"as good within the tolerances; {last.name} {shown(last.name, theirs)}, {shown(last.name, ours)}"


def bound_in_words(binding: Binding) -> str:
    """The constraint that decides, and the plan's figure."""
    constraint, name = binding.constraint, binding.constraint.metric.name
    if binding.broken:
        return f"{constraint} cannot be kept: {shown(name, binding.value)}, off by {shown(name, binding.over)}"
    return f"{constraint}: {shown(name, binding.value)}"


def pareto(prediction: Prediction, metrics: Sequence[str], among: npt.ArrayLike | None = None) -> Ints:
    """Plans that no other one beats in all of these metrics, sorted by the first.

    Args:
        among: places of the plans looked at; None: all.
    """
    chosen = np.arange(len(prediction.table)) if among is None else np.asarray(among, np.intp)
    signs = [-1.0 if METRICS[name].rises else 1.0 for name in metrics]
    costs = np.stack([s * prediction.of(name)[chosen] for s, name in zip(signs, metrics, strict=True)], 1)
    order = np.lexsort(costs.T[::-1])
    kept: list[int] = []
    front = np.empty((0, len(metrics)))
    for i in order:
        if not (front <= costs[i]).all(1).any():
            kept.append(int(i))
            front = np.vstack([front, costs[i]])
    return chosen[np.array(kept, np.intp)]
