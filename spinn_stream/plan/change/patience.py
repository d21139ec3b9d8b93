"""Whether a better plan is worth a change: the plan follows steps of the conditions soon, and noise seldom.

better   A plan is better by its gain in the first target that tells the two apart, if it is within the tolerance in
         those before; or by how far the plan in force breaks constraints, if that is more.
proved   The gain beyond MARGIN adds up over time to PROOF (a cumulative sum: Page, Biometrika 1954), so large gains
         are believed soon. While no plan is better, MARGIN is taken away again.
calm     Each change makes the proof of the next one twice as large. This wears off, by half in CALM_S.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from spinn_stream.plan.predict.predictor import Prediction
from spinn_stream.plan.sla.sla import Sla

from .choice import KEPT, SAME_VIOLATION, most_violated, violations
from .reason import gained, repaired

MARGIN = 0.10
"""A gain counts by what it is beyond this share."""

MOST_GAIN, MOST_LATER_GAIN = 0.35, 0.15
"""A larger gain counts as this one, since a pause of 0.3 s may make a gain look enormous. A gain in a later target can
wait until the first one has proved about equal."""

PROOF = 0.10
"""Seconds times share: a gain of 35 % proves itself in 0.4 s, one of 15 % in 2 s."""

CALM_S = 20.0
"""A change this long ago makes the proof only half as much larger, on a logarithmic scale."""

LONGEST_LOOK_S = 0.4
"""What is seen at a look counts for the time since the one before, up to this."""


class Gain(NamedTuple):
    """share: of the figure that decides. why: a clause of a reason (see `reason`)."""

    share: float
    why: str


class Patience:
    """Compares the plan in force with the best one. `now` is in seconds and never falls."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._looked = self._changed = -math.inf
        self._unrest = 0.0  # changes, of which each counts half as much after CALM_S

    def worth(self, now: float, gain: float) -> bool:
        """Whether the best plan has proved better. gain: its share over the plan in force; 0: none."""
        seconds = min(now - self._looked, LONGEST_LOOK_S) if math.isfinite(self._looked) else 0.0
        self._looked = now
        self._sum = max(0.0, self._sum + (min(gain, MOST_GAIN) - MARGIN) * seconds)
        return self._sum >= PROOF * math.exp2(self._unrest_at(now))

    def forget(self, now: float) -> None:
        """The link came or went, or there is another goal: what was better until now proves nothing."""
        self._sum, self._looked = 0.0, now

    def changed(self, now: float) -> None:
        """Another plan is in force."""
        self._unrest, self._changed, self._sum = self._unrest_at(now) + 1, now, 0.0

    def _unrest_at(self, now: float) -> float:
        return self._unrest * math.exp2((self._changed - now) / CALM_S)


def gain_of(prediction: Prediction, sla: Sla, ours: int, theirs: int) -> Gain | None:
    """What the plan at place `theirs` gains over the one in force at `ours`; None: nothing, or less than it must."""
    broken = violations(prediction, sla.constraints)[[ours, theirs]]
    saved = float(broken[0] - broken[1])
    if saved < -KEPT:
        return None
    better, kept = _better(prediction, sla, ours, theirs), broken[0] > KEPT >= broken[1]
    repair = saved + MARGIN * kept if kept or saved > SAME_VIOLATION else 0.0
    if repair <= (0.0 if better is None else better.share):
        return better
    worst = most_violated(prediction, sla.constraints, ours)
    return Gain(repair, repaired(worst, prediction.at(worst.metric.name, ours)))


def _better(prediction: Prediction, sla: Sla, ours: int, theirs: int) -> Gain | None:
    """The gain in the first target that tells the two apart."""
    for target in sla.targets:
        metric = target.metric
        before, after = (prediction.at(metric.name, place) for place in (ours, theirs))
        gain = metric.signed(before) - metric.signed(after)
        slack = abs(target.limit(before) - before)
        if gain < -slack:
            return None
        unit = slack / MARGIN if metric.absolute else abs(before)  # of an accuracy, a point is a small share, and much
        if gain > max(slack, MARGIN * unit):
            most = math.inf if target is sla.targets[0] else MOST_LATER_GAIN
            return Gain(min(gain / max(unit, 1e-9), most), gained(metric, before, after))
    return None
