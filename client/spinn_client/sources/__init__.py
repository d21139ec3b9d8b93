"""Where pictures come from: `open_source` for what can be named, `Pushed` for a program's own.

A kind of source is one file and one registration, in `registry`.
"""

from .base import Picture, Source, Unusable
from .names import masked
from .pushed import Pushed
from .quiet import quiet_decoders
from .registry import SourceKind, open_source, register

__all__ = [
    "Picture",
    "Pushed",
    "Source",
    "SourceKind",
    "Unusable",
    "masked",
    "open_source",
    "quiet_decoders",
    "register",
]
