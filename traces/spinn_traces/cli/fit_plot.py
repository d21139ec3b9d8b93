"""A picture of how well a model fits: the measured traces, and over them the model's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spinn_stream.cli.options import save_figure
from spinn_traces.generator import Compared, Model

from .trace_plot import check_drawable

REAL, MADE = "C0", "C1"


def draw_fit(model: Model, compared: Sequence[Compared], names: Sequence[str], path: Path) -> None:
    """One row for each direction: distribution, autocorrelation, lengths of outages.

    Raises:
        ConfigError: it cannot be drawn; says why.
    """
    check_drawable(path)
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = len(compared)
    figure, grid = plt.subplots(rows, 3, figsize=(12, 3.4 * rows), layout="constrained", squeeze=False)
    for (left, middle, right), found in zip(grid, compared, strict=True):
        _distribution(left, found)
        _correlation(middle, found)
        _outages(right, found)
    figure.suptitle(f"{model.name}: {', '.join(names)}, and what the model makes", fontsize=10)
    save_figure(figure, path)


def _distribution(axes: Any, found: Compared) -> None:
    for values, colour, label in ((found.values, REAL, "measured"), (found.made_values, MADE, "generated")):
        axes.step(values, np.arange(1, len(values) + 1) / len(values), where="post", color=colour, label=label)
    axes.set(
        xlabel=f"{found.direction.removesuffix('_mbps')}, Mb/s in a second", ylabel="part of the seconds", ylim=(0, 1),
        title=f"distribution; differ by at most {found.distance:.1%}",
    )  # fmt: skip
    axes.legend(loc="lower right", fontsize=8)
    axes.title.set_fontsize(9)


def _correlation(axes: Any, found: Compared) -> None:
    lags = np.arange(len(found.correlation))
    made = found.made_correlation
    axes.fill_between(lags, made.min(axis=0), made.max(axis=0), color=MADE, alpha=0.2, linewidth=0)
    axes.plot(lags, made.mean(axis=0), color=MADE, label=f"generated, mean and range of {len(made)}")
    axes.plot(lags, found.correlation, color=REAL, label="measured")
    axes.axhline(0, color="0.7", linewidth=0.8)
    axes.set(xlabel="lag, s", xlim=(0, lags[-1]), title="autocorrelation")
    axes.legend(loc="upper right", fontsize=8)
    axes.title.set_fontsize(9)


def _outages(axes: Any, found: Compared) -> None:
    """Outages an hour of at least each length."""
    for lengths, seconds, colour, label in (
        (found.outages_s, found.seconds, REAL, "measured"),
        (found.made_outages_s, len(found.made_values), MADE, "generated"),
    ):
        ordered = np.sort(np.array(lengths, np.float64))[::-1]
        if len(ordered):
            axes.step(ordered, np.arange(1, len(ordered) + 1) / seconds * 3600, where="pre", color=colour, label=label)
            axes.plot(ordered[:1], [3600 / seconds], ".", color=colour)
    axes.set(xlabel="outage, s", ylabel="at least as long, an hour", title="outages")
    axes.title.set_fontsize(9)
    if found.outages_s or found.made_outages_s:
        axes.set(xscale="log", yscale="log")
        axes.legend(loc="upper right", fontsize=8)
