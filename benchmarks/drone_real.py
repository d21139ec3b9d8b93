"""Does virtual time agree with real time? The same forests with real processes, and in lock-step.

    python benchmarks/drone_real.py --state FILE [--flights 20] [--json]

--state is that of benchmarks/drone.py, whose machine is used. The real flights are kept beside it, so the same command
continues. A real flight takes some 15 s. For each cell: crashes with their 95 % interval, and the median age of the
used answers, real and virtual.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from spinn_drone.experiment.cells import NO_NETWORK, Cell, Setting, cell_of, offset_s, trace_of
from spinn_drone.experiment.episode import fly as fly_virtually
from spinn_drone.experiment.machine import RUNTIME, machine
from spinn_drone.experiment.statistics import wilson
from spinn_drone.experiment.store import Row, Store
from spinn_drone.flight.realtime import BUNDLE, LinkShape, RealFlight, Watcher, fly
from spinn_drone.world.scene import Scene
from spinn_traces.simulator.measured import Machine

TRACES = Path(__file__).parent.parent / "traces" / "data"
CELLS = (cell_of("spinn", "wifi"), cell_of("device-only", "wifi"), cell_of("server-only", "lte-walking"))


def really(setting: Setting, cell: Cell, seed: int) -> Row:
    if cell.network in (NO_NETWORK, "wifi"):
        link = LinkShape(20.0, 20.0, 10.0)
    else:
        trace = trace_of(cell.network, TRACES)
        link = LinkShape(trace=TRACES / f"{cell.network}.csv", offset_s=offset_s(seed, trace))
    wanted = RealFlight(
        Scene(seed, setting.course), cell.policy, server=cell.network != NO_NETWORK, link=link, goal=setting.goal,
        deadline_ms=setting.deadline_ms, device_slowdown=setting.slowdown, runtime=RUNTIME, pilot=setting.pilot,
    )  # fmt: skip
    return Row.of(cell, fly(wanted, Watcher(lambda text: None)))


def flown(name: str, path: Path, setting: Setting, flights: int, here: Machine) -> Store:
    store = Store(path, setting.key, lambda text: print(text, file=sys.stderr))
    for seed in range(flights):
        for cell in CELLS:
            if (cell, seed) not in store.rows:
                row = (
                    really(setting, cell, seed)
                    if name == "real"
                    else Row.of(cell, fly_virtually(setting, cell, seed, here, TRACES))
                )
                store.add(row)
                print(f"{name}: forest {seed}, {cell.policy}, {cell.network}: {row.ending}", file=sys.stderr)
    return store


def figures(store: Store, cell: Cell, flights: int) -> dict[str, Any]:
    rows = [store.rows[cell, seed] for seed in range(flights)]
    crashes = sum(row.crashed for row in rows)
    ages = sorted(row.age_p50_ms for row in rows)
    return {
        "crashes": crashes,
        "interval": [round(x, 3) for x in wilson(crashes, flights)],
        "age_p50_ms": round(ages[len(ages) // 2], 1),
        "mean_speed": round(sum(row.metres for row in rows) / sum(row.seconds for row in rows), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--state", type=Path, required=True, help="file of benchmarks/drone.py's flights")
    parser.add_argument("--flights", type=int, default=20, help="of each cell, real and virtual")
    parser.add_argument("--slowdown", type=float, default=Setting.slowdown, help="of the device")
    parser.add_argument("--json", action="store_true", help="print one object, for scripts")
    options = parser.parse_args()
    here = machine(BUNDLE, options.state.with_suffix(".machine.json"))
    setting = Setting(options.slowdown, bundle=here.bundle.hash, machine=here.key)
    paths = {"real": options.state.with_suffix(".real.jsonl"), "virtual": options.state}
    stores = {name: flown(name, path, setting, options.flights, here) for name, path in paths.items()}
    cells = [
        {"policy": cell.policy, "network": cell.network}
        | {name: figures(store, cell, options.flights) for name, store in stores.items()}
        for cell in CELLS
    ]
    if options.json:
        print(json.dumps({"flights": options.flights, "device_slowdown": options.slowdown, "cells": cells}))
        return
    table = Table(box=None, title=f"{options.flights} flights of each cell")
    for name in ("policy", "network", "", "crashes", "95 %", "age p50", "m/s"):
        table.add_column(name)
    for cell in cells:
        for name in stores:
            row = cell[name]
            low, high = row["interval"]
            table.add_row(
                cell["policy"], cell["network"], name, str(row["crashes"]), f"{100 * low:.0f} to {100 * high:.0f} %",
                f"{row['age_p50_ms']:.0f} ms", f"{row['mean_speed']:.2f}",
            )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
