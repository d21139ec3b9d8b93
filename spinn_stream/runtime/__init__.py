"""Run parts of a bundle: from one cut point to another, with the exit at the end."""

from .choice import open_engine
from .engine import Engine
from .exits import Answer, answers

__all__ = ["Answer", "Engine", "answers", "open_engine"]
