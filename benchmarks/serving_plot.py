"""Draws docs/serving.svg from benchmarks/results/serving.json: what overload does to answers in time, and to batches.

python benchmarks/serving_plot.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "serving.json"
PICTURE = ROOT / "docs" / "serving.svg"


def points(rows: dict[str, Any], figure: str) -> tuple[list[float], list[float]]:
    there = {float(load): row for load, row in rows.items() if isinstance(row, dict) and figure in row}
    return list(there), [float(row[figure]) for row in there.values()]


def main() -> None:
    found = json.loads(RESULTS.read_text())
    plt.rcParams["svg.hashsalt"] = "serving"
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    overload = found["overload"]
    for name, label in (("spinn", "ours"), ("litserve", "LitServe"), ("ray", "Ray Serve")):
        if name in overload:
            left.plot(*points(overload[name], "goodput"), marker="o", label=label)
    left.plot(*points(overload["spinn_shortened"], "goodput"), marker="s", linestyle="", label="ours, may be shortened")
    left.set(
        title="One cut point", xlabel="load over capacity", ylabel="answers within 150 ms, a second", ylim=(0, None)
    )
    mixed = found["mixed"]
    for policy, label in (("segments", "per segment"), ("run-to-end", "run to the end")):
        middle.plot(*points(mixed[policy], "goodput"), marker="o", label=label)
        right.plot(*points(mixed[policy], "mean_batch"), marker="o", label=label)
    middle.set(
        title="Four cut points", xlabel="load over capacity", ylabel="answers within 150 ms, a second", ylim=(0, None)
    )
    right.set(title="Four cut points", xlabel="load over capacity", ylabel="mean batch, over segments", ylim=(0, None))
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
