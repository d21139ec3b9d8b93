"""What to do with a frame: where to split, when an exit is confident enough, how to code the rest."""

from .choice import Binding, RunnerUp
from .link_belief import LinkBelief, LinkBounds
from .link_estimate import LinkEstimate, LinkReading
from .load import LoadTracker
from .plan import Plan
from .plan_table import PlanTable
from .policies import POLICIES, Policy, policy
from .power import EnergyRates, PowerMeter, PowerModel
from .predictor import Conditions, Figures, LinkState, Prediction, Predictor
from .probes import ProbeConfig, Prober
from .profile import BatchProfile, Profile, Timing
from .scheduler import Decision, Scheduler
from .scheduler_config import SchedulerConfig
from .sla import METRICS, Constraint, Sla, Target
from .sla_text import DEFAULT_SLA, parse_sla
from .table_maker import build_table

__all__ = [
    "DEFAULT_SLA",
    "METRICS",
    "POLICIES",
    "BatchProfile",
    "Binding",
    "Conditions",
    "Constraint",
    "Decision",
    "EnergyRates",
    "Figures",
    "LinkBelief",
    "LinkBounds",
    "LinkEstimate",
    "LinkReading",
    "LinkState",
    "LoadTracker",
    "Plan",
    "PlanTable",
    "Policy",
    "PowerMeter",
    "PowerModel",
    "Prediction",
    "Predictor",
    "ProbeConfig",
    "Prober",
    "Profile",
    "RunnerUp",
    "Scheduler",
    "SchedulerConfig",
    "Sla",
    "Target",
    "Timing",
    "build_table",
    "parse_sla",
    "policy",
]
