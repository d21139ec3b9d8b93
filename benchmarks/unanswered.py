"""How many frames end without an answer, and how old are the answers of the others?

    python benchmarks/unanswered.py --machine FILE [--json] [--out FILE] [--first-exit-ms 45 110] [--begin 0 60]
                                    [--trace FILE ...] [--seconds 20] [--jobs 2]

Virtual time (`spinn_traces.simulator`): the bundle of 200 classes, 30 pictures a second of the demo, a deadline of
150 ms. Each policy, and plans fixed to a split, on each network of traces/data, from some points of it on, with devices
whose first exit takes the given times. The figures of this machine are kept in --machine, so that another commit can be
measured with the same ones. `taken`: frames that the client took in; `no_answer_percent`: of them; `in_time`: answers
by the deadline; `age_ms`: mean age of all results.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from ablation import DATA, DEADLINE_MS, FPS, machine, pictures
from rich.console import Console
from rich.progress import track
from rich.table import Table

from spinn_client.steering.guide import Asked
from spinn_stream.plan import DEFAULT_SLA, Plan, parse_sla, policy
from spinn_traces.readers import read_trace
from spinn_traces.simulator import Side, System, play
from spinn_traces.simulator.measured import Machine

POLICIES = ("spinn", "server-only", "neurosurgeon", "edgent", "dyno")
SPLITS = ("input", "block3", "block7", "block11")
"""Of plans that never change; early exits answer at the bundle's own threshold."""

Job = tuple[str, str, float, float, float, Path]


def first_exit_ms(here: Machine) -> float:
    """From a picture to the answer of the first exit, at full speed."""
    cut = here.bundle.exits[0].cut
    profiled = here.profile.expected_ms(here.bundle.pieces(0, cut, {cut: 1.0}), {cut})
    return here.costs.preprocess_ms + here.costs.device_pace * profiled


def run(job: Job) -> dict[str, Any]:
    """One run. job: trace, policy or split, ms to the first exit, where in the trace it begins, seconds, machine."""
    network, name, exit_ms, begins_s, seconds, kept = job
    here, trace = machine(kept), read_trace(Path(network)).trace.filled()
    bundle = here.bundle
    slowdown = max(1.0, exit_ms / first_exit_ms(here))
    outcome = play(
        System(
            bundle=bundle,
            engine=here.engine,
            device=Side(here.profile, here.costs, here.costs.device_pace, here.costs.graph_ms, slowdown),
            server=Side(here.profile, here.costs, here.costs.server_pace),
            plan=(
                Plan(1, bundle.split_index(name), bundle.default_threshold)
                if name in SPLITS
                else Asked(policy(name), parse_sla(DEFAULT_SLA))
            ),
            trace=trace,
            trace_offset_s=begins_s % trace.duration_s,
            frames=round(FPS * seconds),
            fps=FPS,
            deadline_ms=DEADLINE_MS,
        ),
        pictures(bundle.input.size, 0),
    )
    results = [result for _, result in outcome.results]
    return {
        "network": Path(network).stem, "plan": name, "first_exit_ms": exit_ms, "begins_s": begins_s,
        "taken": outcome.taken, "no_answer": sum(result.label is None for result in results),
        "in_time": sum(result.label is not None and result.age_ms <= DEADLINE_MS for result in results),
        "age_ms": float(np.mean([result.age_ms for result in results])),
    }  # fmt: skip


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each network, plan and device, over the points at which runs began."""
    found = defaultdict(list)
    for one in runs:
        found[one["network"], one["plan"], one["first_exit_ms"]].append(one)
    return [
        {
            "network": network, "plan": plan, "first_exit_ms": exit_ms, "runs": len(some),
            "taken": sum(one["taken"] for one in some),
            "no_answer_percent": round(100 * sum(o["no_answer"] for o in some) / sum(o["taken"] for o in some), 2),
            "in_time": sum(one["in_time"] for one in some),
            "age_ms": round(float(np.mean([one["age_ms"] for one in some])), 1),
        }
        for (network, plan, exit_ms), some in found.items()
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machine", type=Path, required=True, help="file of this machine's figures, made if need be")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--out", type=Path, help="write it to this file, too")
    parser.add_argument("--first-exit-ms", type=float, nargs="+", default=[45.0, 110.0])
    parser.add_argument("--begin", type=float, nargs="+", default=[0.0, 60.0], metavar="S")
    parser.add_argument("--trace", nargs="+", default=[str(path) for path in sorted(DATA.glob("*.csv"))])
    parser.add_argument("--seconds", type=float, default=20.0, help="of a run")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    machine(args.machine)
    jobs = [
        (*job, args.seconds, args.machine)
        for job in itertools.product(args.trace, POLICIES + SPLITS, args.first_exit_ms, args.begin)
    ]
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        runs = list(track(pool.imap(run, jobs), total=len(jobs), console=Console(stderr=True)))
    found = {
        "command": "python benchmarks/unanswered.py --machine FILE",
        "seconds": args.seconds, "begins_s": args.begin, "rows": summary(runs),
    }  # fmt: skip
    if args.out is not None:
        args.out.write_text(json.dumps(found, indent=1) + "\n")
    if args.json:
        print(json.dumps(found))
        return
    table = Table("network", "plan", "first exit, ms", "taken", "no answer, %", "in time", "age, ms", box=None)
    for row in found["rows"]:
        table.add_row(*(str(value) for name, value in row.items() if name != "runs"))
    Console().print(table)


if __name__ == "__main__":
    main()
