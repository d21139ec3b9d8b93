"""Which plan is in force: the best one at first, and whenever the link comes or goes; else see `patience`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinn_stream.bundle import Bundle
from spinn_stream.plan.plan import Plan
from spinn_stream.plan.policy.baselines import Policy, policy
from spinn_stream.plan.predict.plan_table import PlanTable
from spinn_stream.plan.predict.power import PowerMeter
from spinn_stream.plan.predict.predictor import Conditions, Figures, Prediction, Predictor
from spinn_stream.plan.sla.sla import Sla

from .choice import Binding, binding, choose
from .patience import Patience, gain_of
from .reason import AGREED, ASKED, FIRST, SERVER_AWAY, SERVER_BACK, reason

HEADROOM = 0.05
"""Plans are chosen to keep bounds with this share to spare, or noise would soon push them out again."""


@dataclass(frozen=True)
class Decision:
    """A plan to use from now on.

    figures: predicted under the present conditions. reason: one line for people. feasible: all constraints are kept.
    binding: the constraint that decides, if one does.
    """

    plan: Plan
    figures: Figures
    reason: str
    feasible: bool
    binding: Binding | None


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
        power: PowerMeter | None = None, first_id: int = 1,
    ) -> None:  # fmt: skip
        self._policy = chooses or policy("spinn")
        self._sla = sla
        self._names = [cut.name for cut in bundle.cut_points]
        self._bundle, self._power = bundle, power
        self._plans = len(table)
        self._why_first = FIRST
        self.use_table(table)
        self._next_id = first_id
        self._current: int | None = None  # number of the plan in the table; None: the best one is due
        self._plan: Plan | None = None
        self._linked: bool | None = None  # whether there was a link at the last look
        self._patience = Patience()

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
        self._sla, self._linked, self._current = sla, None, None
        self._next_id = max(self._next_id, first_id)
        self._why_first = AGREED

    @property
    def plan(self) -> Plan | None:
        """The plan in force."""
        return self._plan

    def choose(self, now: Conditions) -> Decision:
        """The best plan under these conditions, whatever is in force. Changes nothing; its id is 0."""
        prediction, sla = self.predict(now)
        return self._decision(prediction, sla, choose(prediction, sla)[0], ASKED, 0)

    def decide(self, now: float, conditions: Conditions) -> Decision | None:
        """The plan to change to; None: keep the one in force."""
        linked = conditions.link is not None
        met, self._linked = linked == self._linked, linked
        if not met:
            self._patience.forget(now)
        prediction, sla = self.predict(conditions)
        best, _ = choose(prediction, sla.with_headroom(HEADROOM))
        if self._current is None:
            return self._adopt(prediction, sla, best, self._why_first)
        number = prediction.table.number
        here = np.flatnonzero(number == self._current)
        if not here.size or not met:
            if int(number[best]) == self._current:
                return None
            return self._adopt(prediction, sla, best, SERVER_BACK if linked else SERVER_AWAY)
        gain = gain_of(prediction, sla, int(here[0]), best)
        if not self._patience.worth(now, 0.0 if gain is None else gain.share) or gain is None:
            return None
        self._patience.changed(now)
        return self._adopt(prediction, sla, best, gain.why)

    def predict(self, conditions: Conditions) -> tuple[Prediction, Sla]:
        """Of the policy's plans, and what it is to keep and reach."""
        predictor = self._alone if conditions.link is None else self._predictor
        return predictor.predict(conditions), self._policy.sla(self._sla, conditions.deadline_ms)

    def _adopt(self, prediction: Prediction, sla: Sla, place: int, why: str) -> Decision:
        decision = self._decision(prediction, sla, place, why, self._next_id)
        self._next_id += 1
        self._current, self._plan = int(prediction.table.number[place]), decision.plan
        return decision

    def _decision(self, prediction: Prediction, sla: Sla, place: int, why: str, id: int) -> Decision:
        plan, figures = prediction.plan(place, id), prediction.figures(place)
        bound, first = binding(prediction, sla, place), sla.targets[0].metric
        said = reason(plan, self._names, why, figures, bound, first, float(prediction.of(first.name)[place]))
        return Decision(plan, figures, said, bound is None or not bound.broken, bound)
