"""Which plan is in force: the best one at first, and whenever the link comes or goes; else see `patience`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinn_stream.bundle import Bundle
from spinn_stream.errors import ConfigError
from spinn_stream.plan.plan import Plan
from spinn_stream.plan.policy.baselines import Policy, policy
from spinn_stream.plan.predict.plan_table import PlanTable
from spinn_stream.plan.predict.power import EnergyRates
from spinn_stream.plan.predict.predictor import Conditions, Figures, Prediction, predict
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
        ConfigError: the policy has no plans in this table.
    """

    def __init__(
        self, bundle: Bundle, table: PlanTable, sla: Sla, *, chooses: Policy | None = None,
        rates: EnergyRates | None = None, first_id: int = 1,
    ) -> None:  # fmt: skip
        self._sla, self._bundle, self._rates, self._table = sla, bundle, rates, table
        self._use(table, chooses or policy("spinn"))
        self._next_id, self._why_first = first_id, FIRST
        self._current: int | None = None  # number of the plan in the table; None: the best one is due
        self._linked: bool | None = None  # whether there was a link at the last look
        self._patience = Patience()

    def use_table(self, table: PlanTable) -> None:
        """Plan with another profile's table of the same bundle from the next look on; the plan in force stays.

        Raises:
            ValueError: a table of other plans.
        """
        self._use(table, self._policy)

    def agree(self, sla: Sla, policy: Policy, first_id: int) -> None:
        """Plan by another goal from the next look on, which is due at once; the plan in force stays until then.

        Raises:
            ConfigError: the policy has no plans in this table; all stays as it was.
        """
        self._use(self._table, policy)
        self._sla, self._linked, self._current = sla, None, None
        self._next_id, self._why_first = max(self._next_id, first_id), AGREED

    def _use(self, table: PlanTable, policy: Policy) -> None:
        if len(table) != len(self._table):
            raise ValueError(f"a table of {len(table)} plans, expected {len(self._table)}; it is of another bundle")
        mask = policy.plans(self._bundle, table)
        if not mask.any():
            raise ConfigError(
                f"policy {policy.name} has no plan for bundle {self._bundle.name}; take another --policy, or fix a plan"
            )
        self._table, self._policy = table, policy
        local = table.split == table.last
        self._plans = table.take(mask)
        self._plans_alone = table.take(mask & local if (mask & local).any() else local)

    def choose(self, now: Conditions) -> Decision:
        """The best plan under these conditions, whatever is in force. Changes nothing; its id is 0."""
        prediction, sla = self.predict(now)
        return self._decision(prediction, sla, choose(prediction, sla), ASKED, 0)

    def decide(self, now: float, conditions: Conditions) -> Decision | None:
        """The plan to change to; None: keep the one in force."""
        linked = conditions.link is not None
        met, self._linked = linked == self._linked, linked
        if not met:
            self._patience.forget(now)
        prediction, sla = self.predict(conditions)
        best = choose(prediction, sla, HEADROOM)
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
        plans = self._plans_alone if conditions.link is None else self._plans
        return predict(plans, conditions, self._rates), self._policy.sla(self._sla, conditions.deadline_ms)

    def _adopt(self, prediction: Prediction, sla: Sla, place: int, why: str) -> Decision:
        self._current = int(prediction.table.number[place])
        self._next_id += 1
        return self._decision(prediction, sla, place, why, self._next_id - 1)

    def _decision(self, prediction: Prediction, sla: Sla, place: int, why: str, id: int) -> Decision:
        plan, figures = prediction.table.plan(place, id), prediction.figures(place)
        bound, first = binding(prediction, sla, place), sla.targets[0].metric
        names = [cut.name for cut in self._bundle.cut_points]
        said = reason(plan, names, why, figures, bound, first, prediction.at(first.name, place))
        return Decision(plan, figures, said, bound is None or not bound.broken, bound)
