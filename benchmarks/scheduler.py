"""How long does planning take? All plans of a bundle, under conditions that change every time. One thread.

    python benchmarks/scheduler.py [--json] [--bundle DIR]

- plans: those of the table: every cut point, threshold and planned setting.
- replan_ms: predict all of them and choose. Conditions are random, with a deadline, and the SLA has constraints on the
  95 % quantile and the accuracy, and two targets. Figures that the SLA does not mention are not computed, as in a
  client.
- replan_all_ms: the same with an agreement that mentions every metric.
- replan_cpu_ms: the same in processor time, for a machine that others use, too.
- decide_ms: `Scheduler.decide` as a client calls it, with conditions that change by more than it overlooks; a change of
  plan, with its reason and runner-up, included.
- keep_ms: the same if nothing moved.
- setup_ms: the table of a bundle, once. belief_ms: one answer, and the state to plan with.

The profile is made up, in proportion to multiply-adds, so that every machine plans the same. ROUNDS rounds; each
percentile is the median over the rounds.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: one thread

import argparse
import json
import platform
import random
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from typing import Any

import numpy as np
from lite2_200 import LITE2_200
from rich.console import Console
from rich.table import Table

from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.plan import Conditions, LinkBelief, LinkState, Scheduler, build_table, parse_sla, predict
from spinn_stream.plan.change.choice import choose
from spinn_stream.profile import BatchProfile, Profile, Timing

SLA = "latency_ms.p95 <= 100, accuracy_drop <= 1%; minimize latency_ms, then server_cost"
ALL = (
    "latency_ms.p95 <= 100, accuracy_drop <= 1%, accuracy >= 50%, uplink <= 1 MB/s, throughput_fps >= 5 fps; "
    "minimize latency_ms, then server_cost, then device_energy"
)
ROUNDS = 5
TIMES = 1000
WARM_UP = 100
BACKBONE_MS = 5.2
FIGURES = ("replan_ms", "replan_cpu_ms", "replan_all_ms", "decide_ms", "keep_ms", "belief_ms", "setup_ms")


def profile(bundle: Bundle) -> Profile:
    """In proportion to multiply-adds; the 95th percentile a tenth above the median."""

    def timing(macs: int) -> Timing:
        ms = BACKBONE_MS * macs / bundle.cut_points[-1].macs
        return Timing(ms, 1.1 * ms)

    segments = tuple(timing(b.macs - a.macs) for a, b in pairwise(bundle.cut_points))
    exits = tuple(timing(e.macs) for e in bundle.exits[:-1])
    row = BatchProfile(1, segments, exits, 0.03)
    return Profile("made", tuple(e.cut for e in bundle.exits[:-1]), (row,), Timing(1.0, 1.1))


def conditions(rng: random.Random) -> Conditions:
    """Any link from 3G to a local network, and any load."""
    return Conditions(
        LinkState(10 ** rng.uniform(-0.5, 2), 10 ** rng.uniform(0.5, 2.5), jitter_ms=rng.uniform(0, 5)),
        device_load=10 ** rng.uniform(0, 1.3),
        server_load=10 ** rng.uniform(0, 0.7),
        server_queue_ms=rng.uniform(0, 20),
        deadline_ms=150.0,
        payload_factors={"transform": rng.uniform(0.3, 1.0), "jpeg": rng.uniform(0.5, 2.0)},
    )


def timed(function: Callable[[int], object], clock: Callable[[], float] = perf_counter) -> list[float]:
    """ms of every call; the first ones are not counted."""
    found = []
    for n in range(WARM_UP + TIMES):
        began = clock()
        function(n)
        found.append(1000 * (clock() - began))
    return found[WARM_UP:]


def one_round(bundle: Bundle, seed: int) -> dict[str, list[float]]:
    rng = random.Random(seed)
    made, sla = profile(bundle), parse_sla(SLA)
    began = perf_counter()
    table = build_table(bundle, made, made)
    found = {"setup_ms": [1000 * (perf_counter() - began)]}
    changing = [conditions(rng) for _ in range(WARM_UP + TIMES)]

    def replan(n: int) -> None:
        choose(predict(table, changing[n]), sla)

    found["replan_ms"] = timed(replan)
    found["replan_cpu_ms"] = timed(replan, thread_time)
    everything = parse_sla(ALL)
    found["replan_all_ms"] = timed(lambda n: choose(predict(table, changing[n]), everything))
    scheduler = Scheduler(bundle, table, sla)
    found["decide_ms"] = timed(lambda n: scheduler.decide(float(n), changing[n]))
    last = changing[-1]
    found["keep_ms"] = timed(lambda n: scheduler.decide(2000.0 + 1e-3 * n, last))
    belief = LinkBelief(0.0)

    def answer(n: int) -> None:
        belief.sent(n, 3000, n / 30)
        belief.answered(n, n / 30 + 0.03, arrived_ms=0.0, left_ms=5.0)
        belief.state(n / 30 + 0.03)

    found["belief_ms"] = timed(answer)
    found["plans"] = [float(len(table))]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--bundle", type=Path, default=LITE2_200, help="folder of the bundle")
    args = parser.parse_args()
    bundle = load_bundle(args.bundle)
    rounds = [one_round(bundle, seed) for seed in range(ROUNDS)]
    figures: dict[str, Any] = {"plans": int(rounds[0].pop("plans")[0])}
    for name in FIGURES:
        for level in (50, 99):
            each = [float(np.percentile(found[name], level)) for found in rounds]
            figures[f"{name}_p{level}"] = round(median(each), 4)
    if args.json:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        about = {
            "command": "python benchmarks/scheduler.py --json",
            "commit": commit.stdout.strip(),
            "machine": f"{platform.machine()}, {platform.system()}, {os.cpu_count()} cores, one used",
            "sla": SLA,
            "rounds": ROUNDS,
            "times": TIMES,
        }
        print(json.dumps({**about, **figures}, indent=1))
        return
    table = Table("", "median", "99 %", title=f"{figures['plans']} plans, ms")
    for name in FIGURES:
        table.add_row(name, f"{figures[f'{name}_p50']:.3f}", f"{figures[f'{name}_p99']:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
