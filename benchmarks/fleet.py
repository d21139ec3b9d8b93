"""Which replica should get a request, and how far may it be away? Many replicas and devices, in virtual time.

    python benchmarks/fleet.py [--json] [--quick] [--jobs N]

Ingresses and replicas are the server's own code (`RemoteEngine`, `Replica`, `TailEngine` and its scheduler) on a loop
whose time is a number. Steps take what the profile of the bundle of 200 classes says: one batch in twenty its 95th
percentile, the others the median. Networks and payloads are not computed. A link between ingress and replica has a
round trip, and its capacity has no limit. The processor time of ingresses is not counted.

A device asks RATE times a second on average, at random, for the tail from one of SPLITS. Each fifth device asks in
bursts. Half of the devices have budgets of 100 ms, the others of 150 ms; the round trip to the region is taken from
that. There is one ingress for EACH_INGRESS replicas; devices are dealt out to ingresses in turn. A load of 1 is what
one replica answers of IN_FLIGHT requests that are always open.

choices   by replicas, load and who gets a request:
          stuck     the replica that the device was dealt, as behind a TCP balancer
          shortest  the shortest line (what the server does)
          two       the shorter line of two replicas that are drawn
          slack     where it would be done first, and so keeps the most of its budget: the delay that was reported, less
                    the time since, plus the work sent there since
kinds     the same for requests that are alike, for replicas that are not (each fourth takes twice as long), for as many
          ingresses as replicas, and for ingresses that know a quarter of the replicas
ingress   shortest, by the round trip between ingress and replica
region    shortest, by the round trip between device and region

in_time: share of the requests that were answered within the budget, by budget, too. p50_ms, p99_ms: time of the
answered ones at the server. batch: mean number of requests in a step. Means over the seeds, and `spread`: least and
most of in_time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from bundle_200 import bundle_200
from fleet_parts import CHOICES, SPLITS, Fleet, capacity, played
from rich.console import Console
from rich.table import Table

from spinn_stream.bundle import Bundle
from spinn_stream.profile import Profile
from spinn_stream.runtime import open_engine, stored_profile
from spinn_traces.simulator.calibration import BATCHES

SIZES, LOADS, SEEDS = (1, 2, 8, 32), (0.7, 0.8, 0.95), (1, 2, 3)
LASTS_S = {1: 10.0, 2: 4.0, 8: 2.0, 32: 1.0}  # by the number of replicas; counted after WARM_S
QUICK, QUICK_S = (1, 2), 1.0
FIGURES = ("devices", "sent", "in_time", "in_time_100", "in_time_150", "p50_ms", "p99_ms", "batch", "spread")
INGRESSES_MS, REGIONS_MS = (0.0, 0.5, 2.0, 10.0), (10.0, 40.0, 80.0, 150.0)


@cache
def _bundle() -> Bundle:
    return bundle_200()


def _played(profile: Profile, fleet: Fleet, each: float) -> dict[str, float]:
    """See `played`. In a process of its own."""
    return played(_bundle(), profile, fleet, each)


def fleets(quick: bool) -> dict[str, list[dict[str, Any]]]:
    """What is simulated: parts, and for each row the fields of its `Fleet`."""
    sizes = QUICK if quick else SIZES
    some = max(QUICK) if quick else 8
    choices = [
        {"replicas": size, "load": load, "choice": choice}
        for size in sizes
        for load in (LOADS[1:2] if quick else LOADS if size < 8 else LOADS[1:] if size < 32 else LOADS[2:])
        for choice in CHOICES
        if (size > 1 or choice == "shortest") and (size < 32 or choice != "stuck")  # what is left is known
    ]
    kinds: list[dict[str, Any]] = [
        {"replicas": some, "splits": SPLITS[-1:]},
        {"replicas": some, "slow": 4},
        {"replicas": some, "ingresses": some},
        {"replicas": some, "ingresses": some, "knows": max(1, some // 4)},
    ]
    return {
        "choices": choices,
        "kinds": [
            {**kind, "load": LOADS[2 if "ingresses" in kind else 1], "choice": choice}
            for kind in kinds
            for choice in CHOICES
            if choice != "stuck"
        ],
        "ingress": [{"replicas": some, "load": LOADS[1], "ingress_ms": ms} for ms in INGRESSES_MS],
        "region": [{"replicas": some, "load": LOADS[1], "region_ms": ms} for ms in REGIONS_MS],
    }


def measure(bundle: Bundle, profile: Profile, *, quick: bool, jobs: int) -> dict[str, Any]:
    each = {splits: capacity(bundle, profile, splits) for splits in (SPLITS, SPLITS[-1:])}
    found: dict[str, Any] = {"capacity": {" ".join(splits): round(rate, 1) for splits, rate in each.items()}}
    rows = [(part, row) for part, rows in fleets(quick).items() for row in rows]
    outcomes: list[list[dict[str, float]]] = [[] for _ in rows]
    with ProcessPoolExecutor(jobs) as pool:
        runs = []
        for seed in SEEDS[:1] if quick else SEEDS:
            for number, (_, row) in enumerate(rows):
                fleet = Fleet(**row, seed=seed, lasts_s=QUICK_S if quick else LASTS_S[row["replicas"]])
                runs.append((number, pool.submit(_played, profile, fleet, each[fleet.splits])))
        for number, run in runs:
            outcomes[number].append(run.result())
            print(json.dumps([*rows[number], run.result()]), file=sys.stderr, flush=True)
    for (part, row), played_ones in zip(rows, outcomes, strict=True):
        found.setdefault(part, []).append(row | together(played_ones))
    return found


def together(outcomes: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Means over the seeds, and the least and the most of in_time."""
    shares = [outcome["in_time"] for outcome in outcomes]
    means = {name: float(np.mean([outcome[name] for outcome in outcomes])) for name in outcomes[0]}
    figures = {name: round(value, 5 if name.startswith("in_time") else 2) for name, value in means.items()}
    return figures | {"spread": [round(min(shares), 5), round(max(shares), 5)]}


def show(found: dict[str, Any]) -> None:
    Console().print(f"a replica answers {found['capacity']} requests a second")
    for part in ("choices", "kinds", "ingress", "region"):
        asked = [name for name in dict.fromkeys(key for row in found[part] for key in row) if name not in FIGURES]
        table = Table(*asked, *FIGURES, title=part)
        for row in found[part]:
            shares = [" to ".join(f"{100 * share:.2f}" for share in row["spread"])]
            cells = [*(row.get(name, "") for name in asked), *(row[name] for name in FIGURES[:-1]), *shares]
            table.add_row(*map(str, cells))
        Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="few replicas, one seed, and seconds")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    args = parser.parse_args()
    bundle = _bundle()
    engine = open_engine(bundle, "onnxruntime", threads=1)
    profile = stored_profile(bundle, engine, threads=1, batches=BATCHES)
    found = measure(bundle, profile, quick=args.quick, jobs=args.jobs)
    if not args.json:
        show(found)
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    about = {
        "command": " ".join(["python", "benchmarks/fleet.py", *sys.argv[1:]]), "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {engine.name}; virtual time, the profile is of it",
    }  # fmt: skip
    print(json.dumps(about | found, indent=1))


if __name__ == "__main__":
    main()
