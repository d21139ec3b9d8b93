"""Does a device of one core, without a server, keep up with a camera?

    python benchmarks/one_core.py [--bundle DIR] [--json]

Everything runs on one core, one engine thread. Figures in turn, ROUNDS times, the median of each:

engine_ms   the engine alone: the whole network, a frame after the other (median of TIMES runs)
paced_ms    the same 30 times a second: after each pause its caches are cold
age_ms      `spinn run --source demo --fps 30`: median and 99th percentile of age, share of frames taken
fps         `spinn run --source demo --unpaced`: frames answered a second, from the first answer to the last
there_ms    the engine's time for the whole network inside a stream at 30 frames a second, and the median age;
            both are of the same frames, so a drift of the machine's speed meets both
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import numpy as np
import uvloop
from rich.console import Console

import spinn_client as spinn
from spinn_stream.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from spinn_stream.runtime import Engine, ExitOutput, open_engine
from spinn_stream.runtime.engines.base import Activation
from spinn_stream.runtime.engines.registry import EngineKind, register

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


class Watched:
    """The engine that `auto` takes, and how long each run of the whole network took, in ms."""

    took: ClassVar[list[float]] = []

    def __init__(self, bundle: Bundle, *, threads: int) -> None:
        self._engine: Engine = open_engine(bundle, "auto", threads=threads)
        self._last = bundle.last
        self.name = self._engine.name
        self.prepare, self.ready, self.drop = self._engine.prepare, self._engine.ready, self._engine.drop

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> tuple[Activation, ExitOutput | None]:
        began = time.perf_counter()
        result = self._engine.run(start, stop, x, exit=exit)
        if (start, stop) == (0, self._last):
            Watched.took.append((time.perf_counter() - began) * 1000)
        return result


async def streamed(folder: Path) -> tuple[float, float]:
    """Median age in a stream with a camera's rate, and of the engine's time in it for the whole network; ms."""
    ages = []
    Watched.took.clear()
    async with spinn.Stream(
        "demo", device=spinn.DeviceConfig(folder, runtime="watched", threads=1),
        feed=spinn.FeedConfig(fps=30.0, loop=True, max_frames=FRAMES),
    ) as stream:  # fmt: skip
        spinn.tune_process()
        async for result in stream:
            ages.append(result.age_ms)
    return median(ages), median(Watched.took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="folder of the bundle")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # children too
    register(EngineKind("watched", f"{__name__}:Watched", "numpy", ""))
    rows = []
    name = ""
    for _ in range(ROUNDS):
        name, alone = engine_ms(args.bundle, 0)
        _, cold = engine_ms(args.bundle, 1 / 30 - alone / 1000)
        paced, _ = run(args.bundle, "--fps", "30")
        _, finals = run(args.bundle, "--unpaced", "--deadline-ms", "10000")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            age, there = runner.run(streamed(args.bundle))
        at = [r["at_s"] for r in finals]
        rows.append({
            "engine_ms": alone, "paced_ms": cold, "there_ms": there, "age_to_there": age / there,
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
