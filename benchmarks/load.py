"""How soon does the device see that its core is shared? The load factor while a second process spins on the core.

    python benchmarks/load.py [--json] [--runtime auto] [--fps 0]

This process is pinned to one core and runs the default plan's head on a frame again and again (or --fps times a
second), as `spinn run` does. Two seconds alone, four with a process that spins on the same core, three alone again. The
factor should reach 2 (half of the core is left) within two seconds, and come back. really_shared_by: time of a frame in
the second of these seconds over its time alone, by the clock. It is not always 2, and the factor should be equal to it.

At a camera's rate the device rests between frames, and a fair scheduler lets it run at once when it wakes. The factor
then rightly says that frames are hardly slower.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from typing import Any

import cv2
import numpy as np
from lite2_200 import LITE2_200
from rich.console import Console
from rich.table import Table

from spinn_client.device.device import Device
from spinn_client.steering.guide import default_split
from spinn_stream.bundle import load_bundle
from spinn_stream.plan import Plan
from spinn_stream.runtime import measure_profile, open_engine

CORE = min(os.sched_getaffinity(0))
PHASES = (("alone", 2.0), ("shared", 4.0), ("alone again", 3.0))
EVERY_S = 0.25
SPIN = f"import os; os.sched_setaffinity(0, {{{CORE}}})\nwhile True: pass"


async def run(runtime: str, fps: float) -> dict[str, Any]:
    bundle = load_bundle(LITE2_200)
    engine = open_engine(bundle, runtime)
    device = Device(bundle, engine, measure_profile(bundle, engine))
    plan = Plan(1, default_split(bundle, bundle.default_threshold), None)
    await asyncio.to_thread(device.prepare, plan)
    frame = np.asarray(
        cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8), (9, 9), 3), np.uint8
    )
    curve: list[dict[str, Any]] = []
    taken: list[tuple[str, float, float]] = []  # phase, s since its begin, s for one frame
    for name, seconds in PHASES:
        spinner = await asyncio.create_subprocess_exec(sys.executable, "-c", SPIN) if name == "shared" else None
        began, shown, due = time.monotonic(), 0.0, time.monotonic()
        try:
            while (passed := time.monotonic() - began) < seconds:
                await device.head(0, frame, plan, lambda answer: None)
                taken.append((name, passed, time.monotonic() - began - passed))
                if passed - shown >= EVERY_S:
                    shown = passed
                    factor = round(device.clock.load_factor(time.monotonic()), 3)
                    curve.append({"phase": name, "s": round(passed, 2), "factor": factor})
                if fps:
                    due = max(due + 1 / fps, time.monotonic())
                    await asyncio.sleep(due - time.monotonic())
        finally:
            if spinner is not None:
                spinner.kill()
                await spinner.wait()
    device.close()

    def at(phase: str, s: float) -> float:
        """The first figure from then on."""
        return float(next(c["factor"] for c in curve if c["phase"] == phase and c["s"] >= s))

    def mean(phase: str, start: float, stop: float) -> float:
        return float(np.mean([s for name, passed, s in taken if name == phase and start <= passed < stop]))

    return {
        "engine": engine.name,
        "fps": fps or None,
        "alone": at("alone", 1.5),
        "shared_after_2_s": at("shared", 2.0),
        "really_shared_by": round(mean("shared", 1.0, 2.0) / mean("alone", 0.5, 2.0), 3),
        "alone_again_after_2_s": at("alone again", 2.0),
        "curve": curve,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--fps", type=float, default=0.0, help="frames per second; 0: one after the other")
    args = parser.parse_args()
    os.sched_setaffinity(0, {CORE})  # before any engine counts the cores
    cv2.setNumThreads(1)
    found = asyncio.run(run(args.runtime, args.fps))
    if args.json:
        print(json.dumps(found))
        return
    table = Table("phase", "s", "load factor", title=f"{found['engine']}, one core")
    for row in found["curve"]:
        table.add_row(row["phase"], str(row["s"]), f"{row['factor']:.2f}")
    Console().print(table)
    Console().print({k: v for k, v in found.items() if k != "curve"})


if __name__ == "__main__":
    main()
