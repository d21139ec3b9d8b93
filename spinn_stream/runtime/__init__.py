"""Runs pieces of a bundle: one small interface, several engines, and their times on this machine."""

from spinn_stream.runtime.engines.base import Engine, ExitOutput
from spinn_stream.runtime.measure.profiler import measure_profile, stored_profile

from .choice import Choice, choose_engine, open_engine, runtimes
from .exits import Answer, answers, grouped

__all__ = [
    "Answer", "Choice", "Engine", "ExitOutput", "answers", "choose_engine", "grouped", "measure_profile",
    "open_engine", "runtimes", "stored_profile",
]  # fmt: skip
