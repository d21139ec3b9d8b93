"""Traces as a picture."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spinn_stream.cli.options import save_figure
from spinn_stream.errors import ConfigError
from spinn_stream.trace import DIRECTIONS, Trace
from spinn_traces.figures import OUTAGE_MBPS
from spinn_traces.readers import Reading

COLOURS = {"up_mbps": "C1", "down_mbps": "C0"}
NAMES = {"up_mbps": "up", "down_mbps": "down"}
MOST_FILES = 20
MOST_WINDOWS = 200_000


def check_drawable(path: Path) -> None:
    """Raises ConfigError: matplotlib is missing, or there is no such folder."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("plots need matplotlib: pip install 'spinn-traces[plot]'")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"cannot draw {path}: there is no folder {path.absolute().parent}")


def draw(readings: Sequence[tuple[str, Reading]], path: Path, window_s: float) -> None:
    """One row for each trace: capacity above, outages marked, and the round trip below where it is recorded.

    Raises:
        ConfigError: it cannot be drawn; says why.
    """
    check_drawable(path)
    if len(readings) > MOST_FILES:
        raise ConfigError(f"{len(readings)} files, expected at most {MOST_FILES} in one picture")
    longest = max(reading.trace.duration_s for _, reading in readings)
    if not longest / MOST_WINDOWS <= window_s <= min(reading.trace.duration_s for _, reading in readings):
        raise ConfigError(
            f"--window-s is {window_s:g}, expected at most the length of the shortest trace "
            f"and at least {longest / MOST_WINDOWS:g}"
        )
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(
        len(readings), 1, figsize=(10, 2.6 * len(readings)), layout="constrained", squeeze=False
    )
    for axes, (name, reading) in zip(grid[:, 0], readings, strict=True):
        _capacity(axes, reading.trace, window_s)
        _round_trip(axes, reading.trace)
        assumed = f"; assumed: {', '.join(reading.trace.assumed)}" if reading.trace.assumed else ""
        axes.set_title(f"{name} ({reading.format}{assumed})", fontsize=9, loc="left")
        axes.set(xlabel="s", xlim=(0, reading.trace.duration_s))
    save_figure(figure, path)


def _capacity(axes: Any, trace: Trace, window_s: float) -> None:
    for direction in DIRECTIONS:
        if direction in trace.recorded:
            mbps = trace.windows(direction, window_s)
            edges = np.arange(len(mbps) + 1, dtype=np.float64) * window_s
            axes.stairs(mbps, edges, color=COLOURS[direction], label=f"{NAMES[direction]}, Mb/s")
            _mark_outages(axes, direction, mbps < OUTAGE_MBPS, edges)
    if any(direction in trace.recorded for direction in DIRECTIONS):
        axes.set(ylabel=f"Mb/s over {window_s:g} s", ylim=(0, None))
        axes.legend(loc="upper right", fontsize=8)
    else:
        axes.set_yticks([])


def _mark_outages(axes: Any, direction: str, out: npt.NDArray[np.bool_], edges: npt.NDArray[np.float64]) -> None:
    """A bar along the bottom, one for each direction."""
    bottom = 0.0 if direction == "up_mbps" else 0.04
    changes = np.flatnonzero(np.diff(np.concatenate(([0], out.astype(np.int8), [0]))))
    spans = [(edges[a], edges[b] - edges[a]) for a, b in zip(changes[::2], changes[1::2], strict=True)]
    place = axes.get_xaxis_transform()
    axes.broken_barh(spans, (bottom, 0.04), transform=place, color=COLOURS[direction], alpha=0.5, linewidth=0)


def _round_trip(axes: Any, trace: Trace) -> None:
    if trace.rtt_ms is None:
        return
    right = axes.twinx()
    line = "-" if "rtt_ms" in trace.measured else ":"
    right.step(
        np.append(trace.times_s, trace.duration_s), np.append(trace.rtt_ms, trace.rtt_ms[-1]), line, where="post",
        color="0.5", linewidth=0.8,
    )  # fmt: skip
    right.set(ylim=(0, 1.05 * math.ceil(trace.rtt_ms.max() + 1)))
    right.set_ylabel("round trip, ms" + ("" if line == "-" else " (assumed)"), color="0.4", fontsize=8)
