"""What to do with a frame: where to split, when an exit is confident enough, how to code the rest."""

from .plan import Plan

__all__ = ["Plan"]
