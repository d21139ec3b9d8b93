"""The picture of `spinn plan --plot`: every plan by latency and accuracy, and the front. matplotlib is optional."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy.typing as npt

from spinn_stream.bundle import Bundle
from spinn_stream.errors import ConfigError
from spinn_stream.plan import Decision, Prediction

from .options import save_figure

INK = "#808890"
"""Reads on white and on black alike; the background is left out."""


def check_drawable(path: Path) -> None:
    """Raises ConfigError: matplotlib or the folder is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib: pip install 'spinn-stream[train]'")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"cannot draw {path}: there is no folder {path.absolute().parent}")


def draw_plans(bundle: Bundle, everything: Prediction, front: npt.NDArray[Any], decision: Decision, path: Path) -> None:
    """Grey dots: plans. Coloured dots: the front, by the server's cost. A ring: the choice."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    latency, accuracy = everything.of("latency_ms"), 100 * everything.of("accuracy")
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    axes.scatter(latency, accuracy, s=3, color=INK, alpha=0.25, linewidths=0, label="plans")
    dots = axes.scatter(
        latency[front],
        accuracy[front],
        s=24,
        c=everything.of("server_cost")[front],
        cmap="viridis",
        label="Pareto front",
    )
    figures = decision.figures
    axes.scatter(
        [figures.latency_ms], [100 * figures.accuracy], s=140, facecolors="none", edgecolors="#d62728",
        linewidths=2, label=f"chosen: {bundle.cut_points[decision.plan.split].name}",
    )  # fmt: skip
    bar = figure.colorbar(dots, ax=axes)
    bar.set_label("server, ms a frame", color=INK)
    bar.ax.tick_params(colors=INK)
    axes.set_xscale("log")
    axes.set_xlabel("mean latency, ms", color=INK)
    axes.set_ylabel("accuracy, %", color=INK)
    axes.tick_params(which="both", colors=INK)
    for spine in axes.spines.values():
        spine.set_color(INK)
    axes.grid(alpha=0.2, color=INK)
    axes.legend(labelcolor=INK, framealpha=0)
    save_figure(figure, path)
