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

    def __str__(self) -> str:
        name = self.constraint.metric.name
        if self.broken:
            return f"{self.constraint} cannot be kept: {shown(name, self.value)}, off by {shown(name, self.over)}"
        return f"{self.constraint}: {shown(name, self.value)}"


def violations(prediction: Prediction, constraints: Sequence[Constraint]) -> Floats:
    """(P,), summed over the constraints, each in units of its bound; 0 if all are kept."""
    total = np.zeros(len(prediction.table))
    for c in constraints:
        off = prediction.of(c.metric.name) - c.bound
        total += np.maximum(-off if c.metric.rises else off, 0.0) * (1.0 / c.unit)
    return total


def choose(prediction: Prediction, sla: Sla) -> tuple[int, float]:
    """(the plan's place in the prediction, its violation).

    Raises:
        ValueError: there are no plans.
    """
    if not len(prediction.table):
        raise ValueError("there is no plan to choose")
    total = violations(prediction, sla.constraints)
    least = float(total.min())
    limit = KEPT if least <= KEPT else least + SAME_VIOLATION
    index = decide(prediction, sla.targets, np.flatnonzero(total <= limit))
    return index, float(total[index]) if least > KEPT else 0.0


def decide(prediction: Prediction, targets: Sequence[Target], among: Ints) -> int:
    """The best plan by the targets alone. Plans within a target's tolerance go on to the next; the best in the last is
    it."""
    for target in targets[:-1]:
        values = prediction.of(target.metric.name)[among]
        if target.metric.rises:
            among = among[values >= target.limit(float(values.max()))]
        else:
            among = among[values <= target.limit(float(values.min()))]
    values = prediction.of(targets[-1].metric.name)[among]
    return int(among[values.argmax() if targets[-1].metric.rises else values.argmin()])


def binding(prediction: Prediction, sla: Sla, index: int) -> Binding | None:
    """The constraint that decided: the one most violated or, if all are kept, the one that costs the first target most.

    None: the plan would be as good without any of them.
    """
    if not sla.constraints:
        return None
    first = sla.targets[0].metric
    worst = max(sla.constraints, key=lambda c: c.violation(_at(prediction, c.metric.name, index)))
    if worst.violation(_at(prediction, worst.metric.name, index)) > KEPT:
        return _bound(prediction, worst, index, 0.0)
    here = _at(prediction, first.name, index)
    found: list[tuple[float, Constraint]] = []
    for c in sla.constraints:
        others = [o for o in sla.constraints if o is not c]
        kept = np.flatnonzero(violations(prediction, others) <= KEPT)
        values = prediction.of(first.name)[kept]
        gain = float(values.max()) - here if first.rises else here - float(values.min())
        found.append((gain, c))
    gain, which = max(found, key=lambda pair: pair[0])
    limit = sla.targets[0].limit(here - gain if not first.rises else here + gain)
    worth = here < limit if first.rises else here > limit
    return _bound(prediction, which, index, gain) if worth else None


def _at(prediction: Prediction, name: str, index: int) -> float:
    return float(prediction.of(name)[index])


def _bound(prediction: Prediction, constraint: Constraint, index: int, gain: float) -> Binding:
    value = _at(prediction, constraint.metric.name, index)
    over = constraint.bound - value if constraint.metric.rises else value - constraint.bound
    return Binding(constraint, value, over, gain)


def shown(name: str, value: float) -> str:
    """A figure with its unit, as people read it."""
    if name.startswith("accuracy"):
        return f"{100 * value:.2f} %"
    if name == "uplink":
        return f"{value / 1000:.1f} kB/s"
    unit = next(iter(METRICS[name].units))
    return f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"
