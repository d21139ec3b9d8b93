"""What to do with a frame: where to split, when an exit is confident enough, how to code the rest."""

from spinn_stream.plan.change.scheduler import Decision, Scheduler
from spinn_stream.plan.link.belief import LinkBelief
from spinn_stream.plan.link.probes import Prober
from spinn_stream.plan.policy.baselines import POLICIES, Policy, policy
from spinn_stream.plan.predict.plan_table import PlanTable
from spinn_stream.plan.predict.power import EnergyRates
from spinn_stream.plan.predict.predictor import Conditions, Figures, LinkState, Prediction, predict
from spinn_stream.plan.predict.table_maker import build_table
from spinn_stream.plan.sla.sla import METRICS, Constraint, Sla, Target
from spinn_stream.plan.sla.text import DEFAULT_SLA, parse_sla

from .plan import Plan

__all__ = [
    "DEFAULT_SLA", "METRICS", "POLICIES", "Conditions", "Constraint", "Decision", "EnergyRates", "Figures",
    "LinkBelief", "LinkState", "Plan", "PlanTable", "Policy", "Prediction", "Prober", "Scheduler", "Sla", "Target",
    "build_table", "parse_sla", "policy", "predict",
]  # fmt: skip
