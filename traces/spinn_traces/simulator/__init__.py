"""The same system in virtual time: no processes, no waiting."""

from .calibration import measure_costs
from .costs import Costs
from .memo import MemoEngine
from .runs import forget, simulate
from .side import Side
from .system import Outcome, System, play

__all__ = ["Costs", "MemoEngine", "Outcome", "Side", "System", "forget", "measure_costs", "play", "simulate"]
