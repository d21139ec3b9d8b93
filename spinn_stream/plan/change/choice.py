"""Which plan is the best: constraints prune, then targets decide in their order. And why it is that one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spinn_stream.plan.predict.plan_table import Floats, Ints
from spinn_stream.plan.predict.predictor import Prediction
from spinn_stream.plan.sla.sla import METRICS, Constraint, Sla, Target

KEPT = 1e-9
"""A violation that is only rounding."""

SAME_VIOLATION = 0.01
"""If no plan keeps all constraints, violations that differ by less than this are equally bad; the unit is a bound."""


@dataclass(frozen=True)
class Binding:
    """The constraint that decides.

    value: the plan's figure. over: how far beyond the bound, in the metric's unit; 0 or less if it is kept.
    gain: how much better the first target would be without it, in its unit; 0 if no plan keeps it.
    """

    constraint: Constraint
    value: float
    over: float
    gain: float

    @property
    def broken(self) -> bool:
        """Whether the plan breaks it."""
        return self.over > KEPT * self.constraint.unit


def violations(prediction: Prediction, constraints: Sequence[Constraint], spare: float = 0.0) -> Floats:
    """(P,), summed over the constraints, each in units of its bound; 0 if all are kept.

    Args:
        spare: bounds on figures that waver are tightened by this share of them.
    """
    total = np.zeros(len(prediction.table))
    for c in constraints:
        off = c.over(prediction.of(c.metric.name)) + (0.0 if c.metric.steady else spare * c.bound)
        total += np.maximum(off, 0.0) * (1.0 / c.unit)
    return total


def choose(prediction: Prediction, sla: Sla, spare: float = 0.0) -> int:
    """The best plan's place in the prediction. spare: as in `violations`."""
    total = violations(prediction, sla.constraints, spare)
    least = float(total.min())
    limit = KEPT if least <= KEPT else least + SAME_VIOLATION
    return decide(prediction, sla.targets, np.flatnonzero(total <= limit))


def decide(prediction: Prediction, targets: Sequence[Target], among: Ints) -> int:
    """The best plan by the targets alone. Plans within a target's tolerance go on to the next; the best in the last is
    it."""
    for target in targets[:-1]:
        signed = target.metric.signed
        costs = signed(prediction.of(target.metric.name)[among])
        among = among[costs <= signed(target.limit(signed(float(costs.min()))))]
    last = targets[-1].metric
    return int(among[last.signed(prediction.of(last.name)[among]).argmin()])


def most_violated(prediction: Prediction, constraints: Sequence[Constraint], index: int) -> Constraint:
    """By a plan; the first one if it keeps all."""
    return max(constraints, key=lambda c: c.violation(prediction.at(c.metric.name, index)))


def binding(prediction: Prediction, sla: Sla, index: int) -> Binding | None:
    """The constraint that decided: the one most violated or, if all are kept, the one that costs the first target most.

    None: the plan would be as good without any of them.
    """
    if not sla.constraints:
        return None
    first = sla.targets[0]
    here = first.metric.signed(prediction.at(first.metric.name, index))

    def gain_without(constraint: Constraint) -> float:
        others = [other for other in sla.constraints if other is not constraint]
        kept = violations(prediction, others) <= KEPT
        return here - float(first.metric.signed(prediction.of(first.metric.name)[kept]).min())

    which, gain = most_violated(prediction, sla.constraints, index), 0.0
    if which.violation(prediction.at(which.metric.name, index)) <= KEPT:
        which = max(sla.constraints, key=gain_without)
        gain = gain_without(which)
        if here <= first.metric.signed(first.limit(first.metric.signed(here - gain))):
            return None
    value = prediction.at(which.metric.name, index)
    return Binding(which, value, which.over(value), gain)


def shown(name: str, value: float) -> str:
    """A figure with its unit, as people read it."""
    if name.startswith("accuracy"):
        return f"{100 * value:.2f} %"
    if name == "uplink":
        return f"{value / 1000:.1f} kB/s"
    unit = next(iter(METRICS[name].units))
    return f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"
