"""The result of a reader."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spinn_stream.trace import Trace


@dataclass(frozen=True)
class Reading:
    """A file's trace, and how it was read.

    files: the files read: one, or the two of a pair. format: its name. notes: what was assumed, a sentence each.
    parts: the traces of the files, if two became one; each has its own length, and the whole has the longest.
    units: the units that were taken, and why, a phrase each.
    rtt_median_ms: over the measurements, if rows without one repeat the row before; None: over the samples.
    """

    files: tuple[Path, ...]
    format: str
    trace: Trace
    notes: tuple[str, ...] = ()
    parts: tuple[Trace, ...] = ()
    rtt_median_ms: float | None = None
    units: tuple[str, ...] = ()
