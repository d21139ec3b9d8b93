"""The same system in virtual time: no processes, no waiting."""

from .calibration import measure_costs
from .costs import Costs
from .memo import MemoEngine
from .runs import forget, simulate
from .side import Side
from .system import Outcome, System, play, play_camera

__all__ = [
    "Costs", "MemoEngine", "Outcome", "Side", "System", "forget", "measure_costs", "play", "play_camera", "simulate",
]  # fmt: skip
