"""Measured costs and load factors: measured by runtime/, carried by wire/, planned with by plan/."""

from .load import LoadTracker
from .profile import BatchProfile, Profile, Timing

__all__ = ["BatchProfile", "LoadTracker", "Profile", "Timing"]
