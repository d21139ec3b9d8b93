"""Does the simulator agree with real runs? The same traces and policies with real processes, and in virtual time.

    python benchmarks/simulator.py [--json] [--trace FILE ...] [--source S] [--policy P ...] [--duration-s 40]
                                   [--device-slowdown K] [--out DIR]

For each trace and policy: median age of the answers and share answered on the device, real and simulated. The simulated
figure is the mean of a run before and one after the real one, each with the machine's costs measured anew, since
machines change from minute to minute. The aim is within 10 % and 5 points. The real runs are pinned, client on one
core, server and shaper on another, and need a quiet machine. With --out the runs are kept, and only missing ones are
run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lite2_200 import LITE2_200
from replays import play
from rich.console import Console
from rich.table import Table

from spinn_stream.bundle import load_bundle
from spinn_stream.runtime import open_engine
from spinn_traces.replay.policy import parse_policies
from spinn_traces.replay.record import RunRecord
from spinn_traces.replay.run.conduct import ReplayConfig
from spinn_traces.simulator import forget

DATA = Path(__file__).parent.parent / "traces" / "data"
TRACES = tuple(DATA / f"{name}.csv" for name in ("3g-driving", "lte-driving", "lte-walking", "wifi-walking"))
POLICIES = (
    "split at block7, no exits=fixed:split=block7,threshold=none,codec=transform:6",
    "split at block11, exits=fixed:split=block11,threshold=0.6,codec=transform:6",
    "device-only",
    "server-only",
    "neurosurgeon",
    "edgent",
    "dyno",
    "spinn",
)
ASKED_RATIO, ASKED_POINTS = 0.10, 5.0


def figures(record: RunRecord) -> dict[str, float]:
    finals = record.finals
    return {
        "frames": len(finals),
        "age_p50_ms": round(float(np.median(finals.age_ms)), 2),
        "age_p95_ms": round(float(np.percentile(finals.age_ms, 95)), 2),
        "on_device_percent": round(100 * sum(where == "device" for where in finals.where) / len(finals), 1),
        "bytes_up": record.bytes_up,
        "server_ms_per_frame": round(record.server_compute_ms / len(finals), 3),
    }


def compare(real: RunRecord, simulated: list[RunRecord]) -> dict[str, Any]:
    a, each = figures(real), [figures(record) for record in simulated]
    b = {name: round(float(np.mean([found[name] for found in each])), 3) for name in a}
    return {
        "trace": real.spec.trace.name,
        "policy": real.spec.policy.partition("=fixed")[0],
        "real": a,
        "simulated": b,
        "simulated_age_p50_ms": [found["age_p50_ms"] for found in each],
        "median_off": round(b["age_p50_ms"] / a["age_p50_ms"] - 1, 3),
        "points_off": round(b["on_device_percent"] - a["on_device_percent"], 1),
    }


def show(found: dict[str, Any]) -> None:
    table = Table(title="real and simulated", box=None)
    for name in ("trace", "policy", "real ms", "sim. ms", "off", "real on device", "sim.", "off"):
        table.add_column(name, justify="left" if name in ("trace", "policy") else "right")
    for row in found["runs"]:
        a, b = row["real"], row["simulated"]
        table.add_row(
            row["trace"], row["policy"], f"{a['age_p50_ms']:.1f}", f"{b['age_p50_ms']:.1f}",
            f"{100 * row['median_off']:+.1f} %", f"{a['on_device_percent']:.1f} %", f"{b['on_device_percent']:.1f} %",
            f"{row['points_off']:+.1f}",
        )  # fmt: skip
    Console().print(table)
    print(
        f"worst: median {100 * found['worst_median_off']:.1f} %, share {found['worst_points_off']:.1f} points; "
        f"{found['real_s']:.0f} s in reality, {found['simulated_s']:.0f} s simulated"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one object, for scripts")
    parser.add_argument("--trace", type=Path, action="append", help="recorded network; several times")
    parser.add_argument("--policy", action="append", help="as spinn replay takes them; several times")
    parser.add_argument("--source", default="demo", help="as spinn replay takes it")
    parser.add_argument("--duration-s", type=float, default=40.0, help="of each run")
    parser.add_argument("--device-slowdown", type=float, default=1.0)
    parser.add_argument("--out", type=Path, help="keep the runs here")
    options = parser.parse_args()
    bundle = load_bundle(LITE2_200)
    engine = open_engine(bundle, "auto", threads=1)
    with tempfile.TemporaryDirectory() as name:
        config = ReplayConfig(
            source=options.source,
            traces=tuple(options.trace or TRACES),
            policies=tuple(parse_policies(options.policy or POLICIES, bundle)),
            out=options.out or Path(name),
            duration_s=options.duration_s,
            device_slowdown=options.device_slowdown,
        )
        config.out.mkdir(parents=True, exist_ok=True)
        rows, real_s, simulated_s = [], 0.0, 0.0
        for trace in config.traces:
            for policy in config.policies:  # one after the other, since machines change from minute to minute
                one = replace(config, traces=(trace,), policies=(policy,))
                simulated = []
                for when in ("before", "after"):
                    forget()
                    virtual = replace(one, simulate=True, out=config.out / when)
                    virtual.out.mkdir(exist_ok=True)
                    (record,), seconds = play(virtual, bundle, engine)
                    simulated.append(record)
                    simulated_s += seconds
                    if when == "before":
                        (real,), seconds = play(one, bundle, engine)
                        real_s += seconds
                rows.append(compare(real, simulated))
    found = {
        "runs": rows,
        "worst_median_off": max(abs(row["median_off"]) for row in rows),
        "worst_points_off": max(abs(row["points_off"]) for row in rows),
        "within": sum(abs(row["median_off"]) <= ASKED_RATIO and abs(row["points_off"]) <= ASKED_POINTS for row in rows),
        "source": options.source,
        "duration_s": options.duration_s,
        "device_slowdown": options.device_slowdown,
        "real_s": round(real_s, 1),
        "simulated_s": round(simulated_s, 1),
    }
    if options.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
