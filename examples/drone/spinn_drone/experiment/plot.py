"""The experiment as one picture: crash rates with their intervals, by network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spinn_stream.errors import ConfigError

from .cells import NETWORKS, POLICIES, Cell, cell_of


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write it as SVG. Raises ConfigError: matplotlib is missing."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ConfigError("the plot needs matplotlib: pip install matplotlib") from error
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "spinn"
    import matplotlib.pyplot as plt

    of = {Cell(row["policy"], row["network"]): row for row in rows}
    figure, axes = plt.subplots(1, len(NETWORKS), figsize=(11, 3.4), sharey=True, layout="constrained")
    for axis, network in zip(axes, NETWORKS, strict=True):
        axis.set_title(network, fontsize=10)
        oracle = of.get(cell_of("oracle", network))
        if oracle is not None:
            axis.axhline(100 * oracle["crash_rate"], color="0.5", linestyle="--", linewidth=1)
        for at, policy in enumerate(POLICIES):
            row = of.get(cell_of(policy, network))
            if row is None:
                continue
            rate, (low, high) = row["crash_rate"], row["crash_rate_interval"]
            axis.errorbar(
                at, 100 * rate, [[100 * max(0.0, rate - low)], [100 * max(0.0, high - rate)]], fmt="o", capsize=3,
                color="C3" if policy == "spinn" else "C0",
            )  # fmt: skip
        axis.set_xticks(range(len(POLICIES)), POLICIES, rotation=60, ha="right", fontsize=8)
    axes[0].set_ylim(bottom=0)  # of all, as they share it
    axes[0].set_ylabel("flights that crash, %\n(dashed: without delay)")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
