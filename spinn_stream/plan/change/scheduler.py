"""When to plan anew, and whether the best plan is worth a change.

The theory, in one place:

    look        If a condition moved by more than `look_again` since the last look. (No figure of a plan can have moved
                by much more: each is a sum of terms that are proportional to one condition.) If the link came or went.
                If the last look left a question open. Never more often than `min_interval_s`, except when the link
                comes or goes, or a repair is due.
    change      At once if there is no plan yet, or the link comes or goes. Otherwise see `hysteresis`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spinn_stream.bundle import Bundle
from spinn_stream.plan.plan import Plan
from spinn_stream.plan.policy.baselines import Policy, policy
from spinn_stream.plan.predict.plan_table import PlanTable
from spinn_stream.plan.predict.power import PowerMeter
from spinn_stream.plan.predict.predictor import Conditions, Figures, Prediction, Predictor
from spinn_stream.plan.sla.sla import Sla

from .choice import Binding, RunnerUp, binding, choose, runner_up
from .config import SchedulerConfig
from .hysteresis import Change, Hysteresis
from .reason import AGREED, ASKED, FIRST, SERVER_AWAY, SERVER_BACK, reason


@dataclass(frozen=True)
class Decision:
    """A plan to use from now on.

    figures: predicted under the present conditions. reason: one line for people. feasible: all constraints are kept.
    binding: the constraint that decides, if one does. runner_up: the best plan of the other splits.
    """

    plan: Plan
    figures: Figures
    reason: str
    feasible: bool
    binding: Binding | None
    runner_up: RunnerUp | None


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
        self._bundle, self._power = bundle, power
        self._plans = len(table)
        self._why_first = FIRST
        self.use_table(table)
        self._next_id = first_id
        self._current: int | None = None  # number of the plan in the table
        self._plan: Plan | None = None
        self._looked = -float("inf")
        self._seen: Conditions | None = None
        self._hysteresis = Hysteresis(self._config)

    def use_table(self, table: PlanTable) -> None:
        """Plan with another profile's table of the same bundle from the next look on; the plan in force stays.

        Raises:
            ValueError: a table of other plans.
        """
        if len(table) != self._plans:
            raise ValueError(f"a table of {len(table)} plans, expected {self._plans}; it is of another bundle")
        mask = self._policy.plans(self._bundle, table)
        if not mask.any():
            raise ValueError(f"policy {self._policy.name} has no plan in this table")
        self._table = table
        self._predictor = Predictor(table, self._power, plans=mask)
        alone = mask & (table.split == table.last)
        self._alone = Predictor(table, self._power, plans=alone if alone.any() else table.split == table.last)

    def agree(self, sla: Sla, policy: Policy, first_id: int) -> None:
        """Plan by another goal from the next look on, which is due at once; the plan in force stays until then.

        Raises:
            ValueError: the policy has no plans in this table; all stays as it was.
        """
        before = self._policy
        self._policy = policy
        try:
            self.use_table(self._table)
        except ValueError:
            self._policy = before
            raise
        self._sla, self._seen, self._current = sla, None, None
        self._next_id = max(self._next_id, first_id)
        self._why_first = AGREED

    @property
    def plan(self) -> Plan | None:
        """The plan in force."""
        return self._plan

    def choose(self, now: Conditions) -> Decision:
        """The best plan under these conditions, whatever is in force. Changes nothing; its id is 0."""
        prediction, sla = self._predict(now)
        index, violation = choose(prediction, sla)
        return self._decision(prediction, sla, index, violation, ASKED, 0)

    def decide(self, now: float, conditions: Conditions) -> Decision | None:
        """The plan to change to; None: keep the one in force."""
        if not self._due(now, conditions):
            return None
        before, self._seen, self._looked = self._seen, conditions, now
        prediction, sla = self._predict(conditions)
        index, violation = choose(prediction, sla)
        change = self._change(now, prediction, sla, index, violation, before)
        return None if change is None else self._adopt(now, prediction, sla, change, violation)

    def _due(self, now: float, conditions: Conditions) -> bool:
        seen, config = self._seen, self._config
        if seen is None or (conditions.link is None) != (seen.link is None):
            return True
        if now - self._looked < config.min_interval_s and not self._looked < self._hysteresis.repair_at <= now:
            return False
        if self._hysteresis.open_question or now - self._looked >= config.max_interval_s:
            return True
        return _moved(seen, conditions, config.look_again)

    def _predict(self, conditions: Conditions) -> tuple[Prediction, Sla]:
        predictor = self._alone if conditions.link is None else self._predictor
        return predictor.predict(conditions), self._policy.sla(self._sla, conditions.deadline_ms)

    def _change(
        self, now: float, prediction: Prediction, sla: Sla, best: int, violation: float, before: Conditions | None
    ) -> Change | None:
        assert self._seen is not None
        number = prediction.table.number
        if self._current is None or before is None:
            return Change(best, self._why_first)
        if int(number[best]) == self._current:
            self._hysteresis.settled()
            return None
        here = np.flatnonzero(number == self._current)
        if not here.size or (before.link is None) != (self._seen.link is None):
            return Change(best, SERVER_AWAY if self._seen.link is None else SERVER_BACK)
        return self._hysteresis.compare(now, prediction, sla, int(here[0]), best, violation, self._elsewhere)

    def _elsewhere(self, slower: float) -> Prediction:
        """The last look's prediction, if device, server and link took `slower` times as long."""
        assert self._seen is not None
        return self._predict(_harder(self._seen, slower))[0]

    def _adopt(self, now: float, prediction: Prediction, sla: Sla, change: Change, violation: float) -> Decision:
        number = int(prediction.table.number[change.place])
        decision = self._decision(prediction, sla, change.place, violation, change.why, self._next_id)
        old = None if self._current is None or self._plan is None else (self._current, self._plan.split)
        self._hysteresis.changed(now, old, (number, decision.plan.split))
        self._next_id += 1
        self._current, self._plan = number, decision.plan
        return decision

    def _decision(self, prediction: Prediction, sla: Sla, index: int, violation: float, why: str, id: int) -> Decision:
        plan, figures = prediction.plan(index, id), prediction.figures(index)
        bound = binding(prediction, sla, index, violation)
        second = runner_up(prediction, sla, index)
        first = sla.targets[0].metric
        said = reason(plan, self._names, why, figures, bound, first, float(prediction.of(first.name)[index]))
        return Decision(plan, figures, said, violation <= 0, bound, second)


def _harder(now: Conditions, factor: float) -> Conditions:
    """Device, server and link take `factor` times as long."""
    link = now.link and replace(now.link, up_mbps=now.link.up_mbps / factor, rtt_ms=now.link.rtt_ms * factor)
    return replace(now, link=link, device_load=now.device_load * factor, server_load=now.server_load * factor)


def _moved(before: Conditions, now: Conditions, share: float) -> bool:
    """Whether any condition changed by more than this share of itself."""
    pairs = [
        (before.device_load, now.device_load), (before.server_load, now.server_load),
        (before.fps, now.fps),
        (before.deadline_ms or 0.0, now.deadline_ms or 0.0), (before.server_queue_ms, now.server_queue_ms),
        (before.device_overhead_ms, now.device_overhead_ms), (before.server_overhead_ms, now.server_overhead_ms),
    ]  # fmt: skip
    codecs = before.payload_factors.keys() | now.payload_factors.keys()
    pairs += [(before.payload_factors.get(codec, 1.0), now.payload_factors.get(codec, 1.0)) for codec in codecs]
    if before.link is not None and now.link is not None:
        pairs += [
            (before.link.up_mbps, now.link.up_mbps), (before.link.down_mbps, now.link.down_mbps),
            (before.link.rtt_ms, now.link.rtt_ms), (before.link.jitter_ms, now.link.jitter_ms),
        ]  # fmt: skip
    return any(abs(a - b) > share * min(a, b) for a, b in pairs)
