"""The repeat exit, an exit in time: the answer for an earlier frame again, where the picture has hardly changed.

thumbnail   what is compared: a small picture of what the network sees
agreement   how much accuracy a repeat costs, learned from audits, with a confidence bound
repeats     the references, and the decision: repeat, audit, or run the network
"""

from .agreement import DEFAULT_MOST_LOST
from .repeats import DEFAULT_AUDIT_RATE, EXIT, Look, Reference, Repeats

__all__ = ["DEFAULT_AUDIT_RATE", "DEFAULT_MOST_LOST", "EXIT", "Look", "Reference", "Repeats"]
