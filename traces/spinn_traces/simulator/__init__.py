"""The same system in virtual time: no processes, no waiting."""

from .costs import Costs, measure_costs
from .memo import MemoEngine
from .side import Side
from .system import Outcome, System, play

__all__ = ["Costs", "MemoEngine", "Outcome", "Side", "System", "measure_costs", "play"]
