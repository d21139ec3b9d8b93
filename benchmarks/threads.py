"""What do more threads gain: for one frame on a device, and for a batch on a server?

    python benchmarks/threads.py [--json] [--seconds 60] [--most N]

`lite2-200` in float32 on each engine, with 1, 2, 4, ... threads up to the cores that this process may use, all
in turn, each in a process of its own: the network in two halves for one frame, and the tail from the middle for eight.
Milliseconds are medians; times_faster: median over the turns of the ratio to the same engine with one thread.
`spinn run` and `spinn serve` take `auto` threads unless told otherwise (docs/decisions/0022-threads.md).
"""

from __future__ import annotations

import argparse
import json
import random
from contextlib import ExitStack
from functools import partial
from typing import Any

import contestants
import numpy as np
from in_turn import Contestant, Maker, turns
from rich.console import Console
from rich.table import Table

from spinn_stream.runtime.machine.cores import default_threads, usable_cores
from spinn_stream.runtime.measure.timing import StopRule

BATCH = 8
BUILDS, STREAK = 4, 10
ENGINES = ("onnxruntime", "openvino-f32")


def counts(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    return sorted({1, most, *(2**n for n in range(most.bit_length()) if 2**n <= most)})


def measure(threads: list[int], seconds: float) -> list[dict[str, Any]]:
    model = contestants.lite2_128()
    makers: dict[tuple[str, str, int], Maker] = {}
    for engine in ENGINES:
        for n in threads:
            makers["one frame", engine, n] = partial(contestants.ours_halves, model, engine, threads=n)
            makers[f"tail, {BATCH} frames", engine, n] = partial(contestants.ours_tail, model, engine, BATCH, threads=n)
    rule = StopRule(warm_up=3, least=40, spread=0.01, budget_s=seconds / BUILDS)
    found: dict[tuple[str, str, int], list[float]] = {key: [] for key in makers}
    draw = random.Random(0)
    with ExitStack() as stack:
        running = [stack.enter_context(Contestant(maker, warm_up=rule.warm_up)) for maker in makers.values()]
        for _ in range(BUILDS):
            for key, streaks in zip(makers, turns(running, rule, streak=STREAK, draw=draw), strict=True):
                found[key] += [float(np.median(streak)) for streak in streaks]
    rows = []
    for (work, engine, n), times in found.items():
        gain = np.median(np.array(found[work, engine, 1]) / np.array(times))
        row = {"work": work, "engine": engine, "threads": n}
        rows.append({**row, "ms": round(float(np.median(times)), 3), "times_faster": round(float(gain), 2)})
    return sorted(rows, key=lambda row: (row["work"], row["engine"], row["threads"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all of it")
    parser.add_argument("--most", type=int, default=usable_cores(), help="threads")
    args = parser.parse_args()
    found = {"cores": usable_cores(), "auto": default_threads(), "cases": measure(counts(args.most), args.seconds)}
    if args.json:
        print(json.dumps(found))
        return
    table = Table("work", "engine", "threads", "median ms", "times faster")
    for row in found["cases"]:
        table.add_row(row["work"], row["engine"], str(row["threads"]), f"{row['ms']:.2f}", f"{row['times_faster']:.2f}")
    Console().print(table, f"{found['cores']} cores; auto takes {found['auto']}")


if __name__ == "__main__":
    main()
