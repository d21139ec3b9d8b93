"""Runs parts of a bundle: one small interface, several engines, and what they take on this machine."""

from .choice import RUNTIMES, Choice, choose_engine, open_engine
from .engine import Engine, ExitOutput
from .exits import Answer, answers
from .profiler import measure_profile, stored_profile

__all__ = [
    "RUNTIMES", "Answer", "Choice", "Engine", "ExitOutput", "answers", "choose_engine", "measure_profile",
    "open_engine", "stored_profile",
]  # fmt: skip
