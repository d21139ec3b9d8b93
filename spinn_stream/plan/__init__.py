"""What to do with a frame: where to split, when an exit is confident enough, how to code the rest."""

from .link_estimate import LinkEstimate, LinkReading
from .load import LoadTracker
from .plan import Plan
from .profile import BatchProfile, Profile, Timing

__all__ = ["BatchProfile", "LinkEstimate", "LinkReading", "LoadTracker", "Plan", "Profile", "Timing"]
