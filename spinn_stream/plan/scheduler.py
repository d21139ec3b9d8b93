"""When to plan anew, and whether what comes out is worth a change.

The theory, in one place:

    look        when a condition moved by more than `look_again` since the last look (no figure of a plan can have moved
                by much more: each is a sum of terms that are proportional to one condition), when the link appeared or
                went, or when the last look left a question open; never more often than `min_interval_s`, but at once
                when the link goes
    change      at once     without a plan, without a link under a plan that needs one, with the link back, and where
                            the plan breaks a constraint that another one keeps
                confirmed   where another plan is better by more than `margin`, at every look for `confirm_s`
                held        back to a plan that was left lately: not before the hold is over, which doubles with every
                            return. So noise around the point where two plans are equal costs few changes, and a step
                            is answered at once

A better plan must keep the constraints with `headroom` to spare; else noise would push it out again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..model.bundle import Bundle
from .choice import KEPT, Binding, RunnerUp, binding, choose, runner_up, shown, violations
from .plan import Plan
from .plan_table import PlanTable
from .policies import Policy, policy
from .power import PowerMeter
from .predictor import Conditions, Figures, Prediction, Predictor
from .sla import Constraint, Sla


@dataclass(frozen=True)
class SchedulerConfig:
    """How eagerly plans change. Shares are of the figure that decides."""

    look_again: float = 0.05  # a condition moves by more: look
    min_interval_s: float = 0.2  # between two looks
    max_interval_s: float = 5.0  # look though nothing moved: what is small adds up
    margin: float = 0.10  # a better plan is better by more
    headroom: float = 0.05  # of a bound (of an accuracy: of what it leaves open): what a better plan has to spare
    confirm_s: float = 0.4  # a better plan is better for so long
    hold_s: float = 5.0  # before going back to a plan left less than `remember_s` ago; doubles with every return
    longest_hold_s: float = 120.0
    remember_s: float = 60.0

    def __post_init__(self) -> None:
        if not all(value >= 0 for value in vars(self).values()):
            raise ValueError(f"got {self}, expected numbers from 0")


@dataclass(frozen=True)
class Decision:
    """A plan to use from now on.

    figures: predicted under the conditions of the moment. reason: one line for the log. feasible: all constraints are
    kept. binding: the constraint that decides, if one does. runner_up: the best of the other splits.
    """

    plan: Plan
    figures: Figures
    reason: str
    feasible: bool
    binding: Binding | None
    runner_up: RunnerUp | None


@dataclass
class _Left:
    """A plan that was given up."""

    at: float
    returns: int = 0


class Scheduler:
    """Decides which plan is in force. `now` is in seconds and never falls.

    Args:
        table: of all plans. chooses: the policy; its plans and its objective are used.
        first_id: of the first plan; each change takes the next one.

    Raises:
        ValueError: the policy has no plans in this table.
    """

    def __init__(
        self, bundle: Bundle, table: PlanTable, sla: Sla, *, chooses: Policy | None = None,
        power: PowerMeter | None = None, config: SchedulerConfig | None = None, first_id: int = 1,
    ) -> None:  # fmt: skip
        self._policy = chooses or policy("spinn")
        self._sla = sla
        self._config = config or SchedulerConfig()
        self._names = [cut.name for cut in bundle.cut_points]
        mask = self._policy.plans(bundle, table)
        if not mask.any():
            raise ValueError(f"policy {self._policy.name} has no plan in this table")
        self._predictor = Predictor(table, power, plans=mask)
        alone = mask & (table.split == table.last)
        self._alone = Predictor(table, power, plans=alone if alone.any() else table.split == table.last)
        self._next_id = first_id
        self._current: int | None = None  # number of the plan in the table
        self._plan: Plan | None = None
        self._looked = -float("inf")
        self._seen: Conditions | None = None
        self._better_since: float | None = None
        self._left: dict[int, _Left] = {}

    @property
    def plan(self) -> Plan | None:
        """The plan in force."""
        return self._plan

    def choose(self, now: Conditions) -> Decision:
        """The best plan under these conditions, whatever is in force. Changes nothing; its id is 0."""
        prediction, sla = self._predict(now)
        index, violation = choose(prediction, sla)
        return self._decision(prediction, sla, index, violation, "asked", 0)

    def decide(self, now: float, conditions: Conditions) -> Decision | None:
        """The plan to change to; None: keep the one in force."""
        if not self._due(now, conditions):
            return None
        before, self._seen, self._looked = self._seen, conditions, now
        prediction, sla = self._predict(conditions)
        index, violation = choose(prediction, sla)
        why = self._change(now, prediction, sla, index, violation, before)
        if why is None:
            return None
        return self._adopt(now, prediction, sla, *why)

    def _due(self, now: float, conditions: Conditions) -> bool:
        seen, config = self._seen, self._config
        if seen is None or (conditions.link is None) != (seen.link is None):
            return True
        if now - self._looked < config.min_interval_s:
            return False
        open_question = self._better_since is not None
        return (
            open_question or now - self._looked >= config.max_interval_s or _moved(seen, conditions, config.look_again)
        )

    def _predict(self, conditions: Conditions) -> tuple[Prediction, Sla]:
        predictor = self._alone if conditions.link is None else self._predictor
        return predictor.predict(conditions), self._policy.sla(self._sla, conditions.deadline_ms)

    def _change(
        self, now: float, prediction: Prediction, sla: Sla, best: int, violation: float, before: Conditions | None
    ) -> tuple[int, float, str] | None:
        """(place of the plan to change to, its violation, why), or None."""
        assert self._seen is not None
        number = prediction.table.number
        if self._current is None or before is None:
            return best, violation, "first plan"
        if int(number[best]) == self._current:
            self._better_since = None
            return None
        here = np.flatnonzero(number == self._current)
        if not here.size or (before.link is None) != (self._seen.link is None):
            return best, violation, "no server" if self._seen.link is None else "the server is there"
        return self._compare(now, prediction, sla, int(here[0]), best, violation)

    def _compare(
        self, now: float, prediction: Prediction, sla: Sla, current: int, best: int, violation: float
    ) -> tuple[int, float, str] | None:
        """The plan in force against the best one, under the same conditions."""
        broken = float(violations(prediction, sla.constraints)[current])
        if broken > self._config.margin + violation or (broken > KEPT and violation <= 0):
            return self._repair(now, prediction, sla, current, best, violation)
        better = self._better(prediction, sla, current, best, violation)
        if better is None:
            self._better_since = None
            return None
        if self._better_since is None:
            self._better_since = now
        place, why = better
        if now - self._better_since < self._config.confirm_s or not self._may_return(
            int(prediction.table.number[place]), now
        ):
            return None
        return place, violation, why

    def _repair(
        self, now: float, prediction: Prediction, sla: Sla, current: int, best: int, violation: float
    ) -> tuple[int, float, str]:
        """The plan in force breaks a constraint: to the best plan, one with headroom first."""
        spare = self._with_headroom(prediction, sla)
        if spare is not None and violation <= 0:
            best = spare
        worst = max(sla.constraints, key=lambda c: c.violation(float(prediction.of(c.metric.name)[current])))
        value = float(prediction.of(worst.metric.name)[current])
        return best, violation, f"the plan breaks {worst}: {shown(worst.metric.name, value)}"

    def _better(
        self, prediction: Prediction, sla: Sla, current: int, best: int, violation: float
    ) -> tuple[int, str] | None:
        """The plan that beats the one in force by more than the margin, and in what."""
        if violation <= 0:
            spare = self._with_headroom(prediction, sla)
            if spare is None or spare == current:
                return None
            best = spare
        margin = self._config.margin
        for target in sla.targets:
            metric = target.metric
            ours, theirs = (float(prediction.of(metric.name)[i]) for i in (current, best))
            gain = theirs - ours if metric.rises else ours - theirs
            slack = abs(target.limit(ours) - ours)
            if gain > max(slack, margin * abs(ours) if not metric.absolute else slack):
                return best, f"{metric.name} {shown(metric.name, theirs)}, not {shown(metric.name, ours)}"
            if gain < -slack:
                return None
        return None

    def _with_headroom(self, prediction: Prediction, sla: Sla) -> int | None:
        """The best plan under tighter constraints; None where none keeps them."""
        if not sla.constraints:
            return choose(prediction, sla)[0]
        tight = tuple(_tightened(c, self._config.headroom) for c in sla.constraints)
        index, violation = choose(prediction, replace(sla, constraints=tight))
        return index if violation <= 0 else None

    def _may_return(self, number: int, now: float) -> bool:
        left = self._left.get(number)
        if left is None or now - left.at > self._config.remember_s:
            return True
        hold = min(self._config.hold_s * 2**left.returns, self._config.longest_hold_s)
        return left.returns == 0 or now - left.at >= hold

    def _adopt(self, now: float, prediction: Prediction, sla: Sla, index: int, violation: float, why: str) -> Decision:
        number = int(prediction.table.number[index])
        if self._current is not None:
            self._left.setdefault(self._current, _Left(now)).at = now
        if number in self._left:
            returned = self._left[number]
            returned.returns = returned.returns + 1 if now - returned.at <= self._config.remember_s else 1
        self._left = {n: left for n, left in self._left.items() if now - left.at <= self._config.longest_hold_s}
        self._better_since = None
        decision = self._decision(prediction, sla, index, violation, why, self._next_id)
        self._next_id += 1
        self._current, self._plan = number, decision.plan
        return decision

    def _decision(self, prediction: Prediction, sla: Sla, index: int, violation: float, why: str, id: int) -> Decision:
        plan, figures = prediction.plan(index, id), prediction.figures(index)
        bound = binding(prediction, sla, index, violation)
        second = runner_up(prediction, sla, index)
        threshold = "no exit" if plan.confidence_threshold is None else f"threshold {plan.confidence_threshold:g}"
        reason = f"{why}: split {self._names[plan.split]}, {threshold}"
        if plan.codec is not None:
            reason += f", {plan.codec}"
        reason += (
            f"; predicted {figures.latency_ms:.0f} ms, {figures.throughput_fps:.1f} fps, "
            f"accuracy {100 * figures.accuracy:.1f} %"
        )
        if bound is not None:
            reason += f"; {bound}" if violation > 0 else f"; bound by {bound}"
        return Decision(plan, figures, reason, violation <= 0, bound, second)


def _tightened(constraint: Constraint, headroom: float) -> Constraint:
    metric, bound = constraint.metric, constraint.bound
    room = headroom * (1.0 - bound if metric.absolute and metric.rises else bound)
    return Constraint(metric, min(bound + room, metric.largest) if metric.rises else bound - room)


def _moved(before: Conditions, now: Conditions, share: float) -> bool:
    """Whether any condition is another one by more than this share of itself."""
    pairs = [
        (before.device_load, now.device_load), (before.server_load, now.server_load),
        (before.fps, now.fps), (before.payload_factor, now.payload_factor),
        (before.deadline_ms or 0.0, now.deadline_ms or 0.0), (before.server_queue_ms, now.server_queue_ms),
    ]  # fmt: skip
    if before.link is not None and now.link is not None:
        pairs += [
            (before.link.up_mbps, now.link.up_mbps), (before.link.down_mbps, now.link.down_mbps),
            (before.link.rtt_ms, now.link.rtt_ms), (before.link.jitter_ms, now.link.jitter_ms),
        ]  # fmt: skip
    return any(abs(a - b) > share * min(a, b) for a, b in pairs)
