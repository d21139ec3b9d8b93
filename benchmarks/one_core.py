"""Does a device of one core, without a server, keep up with a camera?

    python benchmarks/one_core.py [--bundle DIR] [--json]

Everything runs on one core, one engine thread. Figures in turn, ROUNDS times, the median of each:

engine_ms   the engine alone: the whole network, a frame after the other (median of TIMES runs)
paced_ms    the same 30 times a second: after each pause its caches are cold
age_ms      `spinn run --source demo --fps 30`: median and 99th percentile of age, share of frames taken
whole_ms    the same median with `--threshold none`: the whole network runs, as in engine_ms
fps         `spinn run --source demo --unpaced`: frames answered a second, from the first answer to the last
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console

from spinn_stream.bundle import DEFAULT_BUNDLE, load_bundle
from spinn_stream.runtime import open_engine

SPINN = Path(sys.executable).parent / "spinn"
ROUNDS, TIMES, FRAMES = 3, 200, 300


def engine_ms(folder: Path, pause_s: float) -> tuple[str, float]:
    """Name of the engine that `spinn run` takes, and its time, with a pause before each run."""
    bundle = load_bundle(folder)
    engine = open_engine(bundle, "auto", threads=1)
    x = np.random.default_rng(0).standard_normal((1, *bundle.cut_points[0].shape), np.float32)
    times = []
    for _ in range(TIMES):
        time.sleep(pause_s)
        began = time.perf_counter()
        engine.run(0, bundle.last, x)
        times.append((time.perf_counter() - began) * 1000)
    return engine.name, median(times)


def run(folder: Path, *options: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Summary and final results."""
    with tempfile.TemporaryDirectory() as out:
        summary, results = Path(out, "summary.json"), Path(out, "results.jsonl")
        subprocess.run(
            [str(SPINN), "run", "--source", "demo", "--loop", "--frames", str(FRAMES), "--bundle", str(folder),
             "--threads", "1", "--quiet", "--summary", str(summary), "--jsonl", str(results), *options],
            check=True, timeout=120,
        )  # fmt: skip
        finals = [r for r in map(json.loads, results.read_text().splitlines()) if r["kind"] == "final"]
        return json.loads(summary.read_text()), finals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="folder of the bundle")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # children too
    rows = []
    name = ""
    for _ in range(ROUNDS):
        name, alone = engine_ms(args.bundle, 0)
        _, cold = engine_ms(args.bundle, 1 / 30 - alone / 1000)
        paced, _ = run(args.bundle, "--fps", "30")
        whole, _ = run(args.bundle, "--fps", "30", "--threshold", "none")
        _, finals = run(args.bundle, "--unpaced", "--deadline-ms", "10000")
        at = [r["at_s"] for r in finals]
        rows.append({
            "engine_ms": alone, "paced_ms": cold, "whole_ms": whole["age_ms"]["p50"],
            "age_ms_p50": paced["age_ms"]["p50"], "age_ms_p99": paced["age_ms"]["p99"],
            "taken": paced["taken"] / paced["captured"], "fps": (len(at) - 1) / (at[-1] - at[0]),
        })  # fmt: skip
    found = {key: round(median(row[key] for row in rows), 3) for key in rows[0]}
    found |= {"engine": name, "bundle": load_bundle(args.bundle).name}
    found["age_to_engine"] = round(found["age_ms_p50"] / found["engine_ms"], 3)
    found["age_to_paced"] = round(found["age_ms_p50"] / found["paced_ms"], 3)
    if args.json:
        print(json.dumps(found))
    else:
        Console().print(found)


if __name__ == "__main__":
    main()
