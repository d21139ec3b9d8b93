"""The figures of `spinn trace info`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from spinn_stream.trace import DIRECTIONS, Trace

from .readers import Reading

OUTAGE_MBPS = 0.05
WINDOW_S = 1.0

ROUNDING = 1e-9
"""Relative error of sums of floating-point numbers."""


def figures(reading: Reading, name: str) -> dict[str, Any]:
    """The figures as JSON has them. In a pair of files, each direction has the figures of its own file; the length is
    the longer one.

    up_mbps, down_mbps: means weighted by time; None: not recorded. rtt_ms: the median; None: not recorded.
    longest_outage_s: of the worse direction; None: no capacity is recorded. assumed: fields that are not measured.
    """
    trace, parts = reading.trace, reading.parts or (reading.trace,)
    rtt = reading.rtt_median_ms
    if rtt is None and trace.rtt_ms is not None:
        rtt = float(np.median(trace.rtt_ms))
    outages = [longest_outage_s(part, name) for part in parts for name in DIRECTIONS if name in part.recorded]
    return {
        "file": name,
        "format": reading.format,
        "duration_s": trace.duration_s,
        "up_mbps": _mean(parts, "up_mbps"),
        "down_mbps": _mean(parts, "down_mbps"),
        "rtt_ms": rtt,
        "longest_outage_s": max(outages, default=None),
        "assumed": list(trace.assumed),
    }


def longest_outage_s(trace: Trace, direction: str, *, below_mbps: float = OUTAGE_MBPS) -> float:
    """The longest run of windows of one second whose mean capacity is below 50 kb/s.

    Windows begin at 0 and follow each other; a last part shorter than a second is left out. A run does not continue
    from the end of the trace to its beginning.
    """
    out = trace.windows(direction, WINDOW_S) < below_mbps * (1 - ROUNDING)
    return max(runs_in(out), default=0) * WINDOW_S


def runs_in(mask: npt.NDArray[np.bool_]) -> list[int]:
    """The length of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int8), [0]))))
    return [int(count) for count in edges[1::2] - edges[::2]]


def _mean(parts: Sequence[Trace], direction: str) -> float | None:
    return next((part.mean(direction) for part in parts if direction in part.recorded), None)
