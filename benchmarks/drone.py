"""What is a young answer worth? Every policy flies a drone through the same forests, on every network.

    python benchmarks/drone.py --state FILE [--episodes 300] [--minutes M] [--jobs 2]
                               [--json] [--out FILE] [--plot FILE]

In virtual time (`spinn_traces.simulator`): device, link and server are simulated, and the network runs on the camera's
rendered pictures. --state keeps every flight, so the same command continues; this machine's costs are kept beside it.
All policies fly the same forests over the same seconds of a network. The oracle has the network's final exit without
delay, and `rays` know the forest; both also fly 150 ms late, which shows how hard the forest is.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: each process has a core, and threads would spin

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from spinn_drone.experiment.cells import CELLS, Cell, Setting, todo
from spinn_drone.experiment.episode import fly
from spinn_drone.experiment.machine import machine
from spinn_drone.experiment.plot import plot
from spinn_drone.experiment.statistics import falanga_speed
from spinn_drone.experiment.store import Row, Store
from spinn_drone.experiment.table import beyond_oracle, cell_rows, comparisons
from spinn_drone.flight.realtime import BUNDLE
from spinn_drone.perception.classes import SIGHT_M
from spinn_drone.world.body import Limits
from spinn_traces.simulator.measured import Machine

TRACES = Path(__file__).parent.parent / "traces" / "data"

FLIGHTS = 250
"""Of a process, before another takes its place: PyBullet keeps about a megabyte for each."""


@cache
def opened(bundle: Path, kept: Path) -> Machine:
    """Once in each process."""
    return machine(bundle, kept)


def episode(job: tuple[Setting, Cell, int, Path, Path]) -> Row:
    setting, cell, seed, bundle, kept = job
    return Row.of(cell, fly(setting, cell, seed, opened(bundle, kept), TRACES))


def flown(jobs: list[tuple[Setting, Cell, int, Path, Path]], processes: int) -> Iterator[Row]:
    if processes == 1:
        yield from map(episode, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=FLIGHTS) as pool:
        yield from pool.imap_unordered(episode, jobs)


def figures(setting: Setting, store: Store) -> dict[str, Any]:
    rows = cell_rows(store.rows)
    course, limits = setting.course, Limits()
    aside = limits.radius + sum(course.radius) / 2
    for row in rows:
        row["falanga_speed"] = round(falanga_speed(row["age_p50_ms"] / 1000, SIGHT_M, aside, limits.acceleration), 2)
    return {
        "rows": rows,
        "comparisons": comparisons(store.rows),
        "beyond_oracle_points": beyond_oracle(store.rows),
        "device_slowdown": setting.slowdown,
        "deadline_ms": setting.deadline_ms,
        "trees_per_m2": course.density,
        "course_m": course.length,
        "cruise_m_s": setting.pilot.cruise,
    }


def show(found: dict[str, Any]) -> None:
    table = Table(box=None, title=f"flights through a forest, device slowed down {found['device_slowdown']:g} times")
    heads = ("policy", "network", "flights", "crash", "95 %", "/100 m", "m/s", "Falanga", "clearance", "age p50", "p95")
    for name in heads:
        table.add_column(name, justify="left" if name in ("policy", "network") else "right")
    for row in found["rows"]:
        low, high = row["crash_rate_interval"]
        table.add_row(
            row["policy"], row["network"], str(row["episodes"]), f"{100 * row['crash_rate']:.1f} %",
            f"{100 * low:.1f} to {100 * high:.1f}", f"{row['crashes_per_100m']:.2f}", f"{row['mean_speed']:.2f}",
            f"{row['falanga_speed']:.1f}", f"{row['clearance_m']:.2f} m", f"{row['age_p50_ms']:.0f} ms",
            f"{row['age_p95_ms']:.0f} ms",
        )  # fmt: skip
    Console().print(table)
    for one in found["comparisons"]:
        print(
            f"ours and {one['policy']}: {one['crashes_of_ours']} and {one['crashes']} crashes of {one['pairs']}; "
            f"ours alone {one['ours_alone']}, the other alone {one['other_alone']}, p = {one['p']:.4f}"
        )
    for network, points in found["beyond_oracle_points"].items():
        print(f"ours less the oracle, {network}: {points:+.1f} points")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--state", type=Path, required=True, help="file of the flights; goes on where it was")
    parser.add_argument("--episodes", type=int, default=300, help="of each cell")
    parser.add_argument("--minutes", type=float, help="no new flight after this time")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--slowdown", type=float, default=Setting.slowdown, help="of the device")
    parser.add_argument("--policy", action="append", help="these alone; several times")
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="folder of the network")
    parser.add_argument("--json", action="store_true", help="print one object, for scripts")
    parser.add_argument("--out", type=Path, help="write the object here, too")
    parser.add_argument("--plot", type=Path, help="write a picture here, SVG")
    options = parser.parse_args()
    kept = options.state.with_suffix(".machine.json")
    here = opened(options.bundle, kept)
    setting = Setting(options.slowdown, bundle=here.bundle.hash, machine=here.key)
    store = Store(options.state, setting.key, lambda text: print(text, file=sys.stderr))
    cells = [cell for cell in CELLS if not options.policy or cell.policy in options.policy]
    wanted = [(cell, seed) for seed, cell in todo(options.episodes) if cell in cells]
    jobs = [(setting, cell, seed, options.bundle, kept) for cell, seed in wanted if (cell, seed) not in store.rows]
    began = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("flights", total=len(wanted), completed=len(wanted) - len(jobs))
        for row in flown(jobs, options.jobs):
            store.add(row)
            bar.advance(task)
            if options.minutes is not None and time.monotonic() - began > 60 * options.minutes:
                break
    found = figures(setting, store)
    if options.plot:
        plot(found["rows"], options.plot)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    if options.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
