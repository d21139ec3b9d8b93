"""What each part of the steering is worth: every row is the system without one of them.

    python benchmarks/ablation.py --state FILE [--json] [--out FILE] [--quick] [--jobs 2] [--minutes M]
                                  [--variant NAME ...] [--trace FILE ...]

Virtual time (`spinn_traces.simulator`): the real client, steering and server on recorded and made-up networks, the
bundle of 200 classes, 30 pictures a second for a minute, a deadline of 150 ms. Cells are networks, slowdowns of the
device, two goals, and repeats: the second one begins elsewhere in the network, and its pictures are dim and noisy, so
that exits and codec do with them what no table says. --state keeps every run; the same command goes on where it was.
What was measured of this machine lies beside it.

For each variant and goal, against the system as it is, over the same seconds of the same networks: `times`, the
geometric mean over cells of the figure that the goal minimises; `labelled`, points of the share of pictures that got a
label in time; `kept`, points of the share of answers within the goal's bound; `changes`, plans a minute. Intervals of
95 %, from resampled blocks of 5 s and repeats.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ablation_variants import VARIANTS
from lite2_200 import LITE2_200
from rich.console import Console
from rich.progress import track
from rich.table import Table

from spinn_client.sources.base import pixels_of
from spinn_client.sources.registry import open_source
from spinn_client.steering.guide import Asked
from spinn_stream.bundle import Bundle
from spinn_stream.codec import default_setting
from spinn_stream.frame import Pixels, crop
from spinn_stream.plan import DEFAULT_SLA, POLICIES, Plan, parse_sla
from spinn_stream.trace import Trace
from spinn_traces.readers import read_trace
from spinn_traces.simulator import Costs, MemoEngine, Outcome, Side, System, play
from spinn_traces.simulator.calibration import measure_apart
from spinn_traces.simulator.measured import Machine, measured

DATA = Path(__file__).parent.parent / "traces" / "data"
FPS, DEADLINE_MS, SECONDS, BLOCK_S = 30.0, 150.0, 60.0, 5.0
BOUND_MS = 120.0
GOALS = {
    "default": DEFAULT_SLA,
    "hard p95": f"latency_ms.p95 <= {BOUND_MS:g} ms, accuracy_drop <= 2%; minimize server_cost",
}
MINIMISED = {"default": "age_ms", "hard p95": "server_ms"}
STEPS = "steps and outages"
NETWORKS = (STEPS, *(str(DATA / f"{n}.csv") for n in ("3g-driving", "5g-driving", "lte-driving", "lte-walking",
                                                       "wifi-walking")))  # fmt: skip
SLOWDOWNS, REPEATS = (8.0, 20.0), 2
DIMMED, NOISE = 0.4, 8.0
ROUNDS = 1000
AS_IT_IS = "as it is"
RUNTIME = "onnxruntime"


@dataclass(frozen=True)
class Cell:
    """network: a trace's file, or STEPS."""

    network: str
    slowdown: float
    goal: str
    repeat: int
    seconds: float = SECONDS


def steps() -> Trace:
    """A link that is changed at one blow every 10 s, with two outages of 5 s."""
    at = np.array([0, 10, 20, 30, 40, 45, 55, 65, 75, 80], float)
    up = np.array([20, 0.5, 8, 2, 0, 20, 20, 1, 0, 8], float)
    rtt = np.array([20, 20, 20, 60, 60, 20, 200, 60, 60, 20], float)
    return Trace(at, 90.0, up, np.maximum(up, 0) * 2, rtt).filled()


def trace_of(network: str) -> Trace:
    return steps() if network == STEPS else read_trace(Path(network)).trace.filled()


@cache
def machine(kept: Path) -> Machine:
    """This machine. kept: file of its figures."""

    def costs(bundle: Bundle) -> Costs:
        split = bundle.exits[0].cut
        plan = Plan(1, split, None, default_setting(bundle, split))
        return measure_apart(str(LITE2_200), RUNTIME, "demo", plan, FPS, slowdown=1.0, core=None)

    found = measured(LITE2_200, RUNTIME, kept, costs)
    return replace(found, engine=MemoEngine(found.engine))


@cache
def pictures(size: int, repeat: int) -> list[Pixels]:
    """The demo's, as the network sees them; those of the second repeat are dim and noisy."""
    source = open_source("demo")
    try:
        found = [
            np.ascontiguousarray(crop(picture, size)[..., ::-1])
            for picture in itertools.islice(pixels_of(source), round(FPS * SECONDS))
        ]
    finally:
        source.close()
    if not repeat:
        return found
    noise = np.random.default_rng(0).normal(0, NOISE, found[0].shape)
    return [np.clip(picture * DIMMED + noise, 0, 255).astype(np.uint8) for picture in found]


def run(job: tuple[str, Cell, Path]) -> dict[str, Any]:
    """One run's sums, by block of 5 s: [pictures, labelled in time, answers, their ages, those within the bound, those
    from the server]."""
    name, cell, kept = job
    here, variant, trace = machine(kept), VARIANTS[name], trace_of(cell.network)
    ours = replace(POLICIES["spinn"], plans=variant.plans)
    with variant.applied():
        outcome = play(
            System(
                bundle=here.bundle,
                engine=here.engine,
                device=Side(here.profile, here.costs, here.costs.device_pace, here.costs.graph_ms, cell.slowdown),
                server=Side(here.profile, here.costs, here.costs.server_pace),
                plan=Asked(ours, parse_sla(GOALS[cell.goal])),
                trace=trace,
                trace_offset_s=cell.repeat * 97.0 % trace.duration_s,
                frames=round(FPS * cell.seconds),
                fps=FPS,
                deadline_ms=DEADLINE_MS,
                seed=cell.repeat,
            ),
            pictures(here.bundle.input.size, cell.repeat),
        )
    return {"variant": name, "cell": asdict(cell), "blocks": blocks(outcome, cell.seconds).tolist(),
            "server_ms": outcome.server_ms, "plans": len(outcome.plans)}  # fmt: skip


def blocks(outcome: Outcome, seconds: float) -> npt.NDArray[np.float64]:
    found = np.zeros((max(1, round(seconds / BLOCK_S)), 6))
    found[:, 0] = FPS * seconds / len(found)
    for at, result in outcome.results:
        row = found[min(int(max(at, 0.0) / BLOCK_S), len(found) - 1)]
        row[1] += result.label is not None and result.age_ms <= DEADLINE_MS
        row[2:] += 1, result.age_ms, result.age_ms <= BOUND_MS, result.where == "server"
    return found


class Store:
    """Finished runs, a line each in a file; those of another machine stay where they are."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self.runs: dict[tuple[str, Cell], dict[str, Any]] = {}
        for line in path.read_text("utf-8").splitlines() if path.exists() else []:
            try:
                said = json.loads(line)
                if said["key"] == key:
                    self._keep(said)
            except (ValueError, KeyError, TypeError):
                continue  # a killed process's last line

    def add(self, found: dict[str, Any]) -> None:
        self._keep(found)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": self._key, **found}) + "\n")

    def _keep(self, found: dict[str, Any]) -> None:
        self.runs[found["variant"], Cell(**found["cell"])] = found


def figures(store: Store, cells: Sequence[Cell], names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each variant and goal, of the cells that it and the system as it is have both."""
    rows = []
    for name, goal in itertools.product(names, GOALS):
        both = [
            (store.runs[AS_IT_IS, cell], store.runs[name, cell]) for cell in cells
            if cell.goal == goal and (AS_IT_IS, cell) in store.runs and (name, cell) in store.runs
        ]  # fmt: skip
        if both:
            rows.append({"variant": name, "goal": goal, "runs": len(both), **compared(both, goal)})
    return rows


def compared(both: Sequence[tuple[dict[str, Any], dict[str, Any]]], goal: str) -> dict[str, Any]:
    """The figures of one row, with intervals. Repeats of a cell are drawn first, then blocks of each."""
    rng = np.random.default_rng(0)
    cells: dict[tuple[Any, ...], list[tuple[dict[str, Any], dict[str, Any]]]] = defaultdict(list)
    for pair in both:
        cell = pair[0]["cell"]
        cells[cell["network"], cell["slowdown"]].append(pair)
    drawn = np.array([[_cell(pairs, goal, rng if n else None) for pairs in cells.values()] for n in range(ROUNDS + 1)])
    mean = drawn.mean(axis=1)  # (rounds, 3)
    mean[:, 0] = np.exp(mean[:, 0])
    low, high = np.percentile(mean[1:], (2.5, 97.5), axis=0)
    said = {
        name: {"value": round(float(mean[0, k]), 4), "from": round(float(low[k]), 4), "to": round(float(high[k]), 4)}
        for k, name in enumerate(("times", "labelled", "kept"))
    }
    minutes = sum(one["cell"]["seconds"] for _, one in both) / 60
    return {
        **said,
        "changes": round((sum(one["plans"] for _, one in both) - len(both)) / minutes, 2),
        "changes_as_it_is": round((sum(one["plans"] for one, _ in both) - len(both)) / minutes, 2),
        "cells": {
            f"{Path(network).stem} / {slowdown:g}": round(float(np.exp(drawn[0, k, 0])), 3)
            for k, (network, slowdown) in enumerate(cells)
        },
    }


def _cell(
    pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], goal: str, rng: np.random.Generator | None
) -> tuple[float, float, float]:
    """(logarithm of the ratio, points labelled, points kept). rng: None: all there is, once."""
    chosen = range(len(pairs)) if rng is None else rng.integers(0, len(pairs), len(pairs))
    sums = np.zeros((2, 7))
    for k in chosen:
        a, b = (np.array(run["blocks"]) for run in pairs[k])
        which = np.arange(len(a)) if rng is None else rng.integers(0, len(a), len(a))
        for n, (rows, run) in enumerate(((a, pairs[k][0]), (b, pairs[k][1]))):
            picked = rows[which].sum(axis=0)
            server = rows[:, 5].sum()
            sums[n, :6] += picked
            sums[n, 6] += run["server_ms"] * (picked[5] / server if server else 0.0)
    captured, labelled, answers, ages, kept, _, server_ms = sums.T
    # ms an answer, or a picture; a tenth of a ms counts as nothing, so that no server at all is no infinity
    value = ages / np.maximum(answers, 1) if MINIMISED[goal] == "age_ms" else server_ms / captured + 0.1
    ratio = float(np.log(max(value[1], 1e-9) / max(value[0], 1e-9)))
    share = 100 * labelled / captured
    bound = 100 * kept / np.maximum(answers, 1)
    return ratio, float(share[1] - share[0]), float(bound[1] - bound[0])


def show(rows: Sequence[dict[str, Any]]) -> None:
    console = Console(width=130) if not sys.stdout.isatty() else Console()
    for goal, text in GOALS.items():
        table = Table(title=f"{goal}: {text}", box=None)
        for name in ("variant", "runs", f"{MINIMISED[goal]}, times", "labelled in time", "within the bound", "changes"):
            table.add_column(name, justify="left" if name == "variant" else "right")
        for row in rows:
            if row["goal"] != goal:
                continue
            parts = [
                f"{row[name]['value']:{form}} ({row[name]['from']:{form}} to {row[name]['to']:{form}})"
                for name, form in (("times", ".3f"), ("labelled", "+.2f"), ("kept", "+.2f"))
            ]
            table.add_row(row["variant"], str(row["runs"]), *parts, f"{row['changes']:.2f}")
        console.print(table)


def todo(options: argparse.Namespace) -> Iterator[Cell]:
    networks = [str(path) for path in options.trace] if options.trace else list(NETWORKS)
    if options.quick:
        for network in networks[::2]:
            yield Cell(network, SLOWDOWNS[0], "default", 0, SECONDS / 2)
        return
    for repeat, network, slowdown, goal in itertools.product(range(REPEATS), networks, SLOWDOWNS, GOALS):
        yield Cell(network, slowdown, goal, repeat)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--state", type=Path, required=True, help="file of the runs; goes on where it was")
    parser.add_argument("--quick", action="store_true", help="three networks, one slowdown, one goal, half a minute")
    parser.add_argument("--variant", action="append", choices=list(VARIANTS), help="these alone; several times")
    parser.add_argument("--trace", type=Path, action="append", help="other networks; several times")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--minutes", type=float, default=1e9, help="no new run after this time")
    parser.add_argument("--json", action="store_true", help="print one object, for scripts")
    parser.add_argument("--out", type=Path, help="write the object here, too")
    options = parser.parse_args()
    names = list(dict.fromkeys([AS_IT_IS, *(options.variant or VARIANTS)]))
    kept = options.state.with_suffix(".machine.json")
    store = Store(options.state, machine(kept).key)
    cells = list(todo(options))
    jobs = [(n, c, kept) for c in cells for n in names if (n, c) not in store.runs]
    end = time.monotonic() + 60 * options.minutes
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for found in track(
            pool.imap_unordered(run, jobs), total=len(jobs), description="runs", console=Console(stderr=True)
        ):
            store.add(found)
            if time.monotonic() > end:
                pool.terminate()
                break
    found = {"goals": GOALS, "rows": figures(store, cells, names)}
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if options.json:
        print(json.dumps(found))
    else:
        show(found["rows"])


if __name__ == "__main__":
    main()
