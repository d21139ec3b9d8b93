"""Is the scheduler worse than a baseline on some trace, by more than the spread between runs of one policy?

    python benchmarks/policies.py --trace FILE ... [--json] [--source S] [--device-slowdown 8 20] [--repeats 2]
                                  [--policy P ...] [--duration-s 15]

Real runs, pinned as those of `spinn replay`: for each slowdown, repeat and trace all policies one after the other. Of
each policy the mean age of its answers in every run, and the share that is right. The spread is the standard deviation
between runs of a policy, pooled over policies. If a policy has fewer right answers than spinn, by more than the allowed
points, it is listed but not compared, since its answers may be young because it gives up. `worse_ms`: spinn's mean age
less that of the best comparable baseline; `beyond`: this is more than two standard errors of such a difference. Each
run's figures are printed on standard error when it ends.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lite2_200 import LITE2_200
from replays import play
from rich.console import Console
from rich.table import Table

from spinn_stream.bundle import load_bundle
from spinn_stream.plan import POLICIES
from spinn_stream.runtime import open_engine
from spinn_traces.replay.policy import parse_policies
from spinn_traces.replay.record import RunRecord
from spinn_traces.replay.run.conduct import ReplayConfig

OURS = "spinn"
ALLOWED_POINTS = 2.0
"""A baseline is comparable if its share of right answers is below spinn's by at most this: some hundred answers leave
about that open."""


def run_figures(record: RunRecord) -> dict[str, Any]:
    ages = np.array(record.finals.age_ms)
    correct = [c for c in record.finals.correct if c is not None]
    return {
        "age_mean_ms": round(float(ages.mean()), 2),
        "age_p95_ms": round(float(np.percentile(ages, 95)), 2),
        "answered": round(len(ages) / record.captured, 4),
        "right": round(float(np.mean(correct)), 4) if correct else None,
        "plans": len(record.plans),
    }


def summary(slowdown: float, trace: str, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """One slowdown and trace. Args: runs: of each policy."""
    ages = {policy: np.array([run["age_mean_ms"] for run in found]) for policy, found in runs.items()}
    rights = {policy: [run["right"] for run in found] for policy, found in runs.items()}
    row: dict[str, Any] = {"device_slowdown": slowdown, "trace": trace, "policies": runs}
    row["age_ms"] = {policy: round(float(a.mean()), 1) for policy, a in ages.items()}
    row["right"] = {p: None if None in r else round(float(np.mean(r)), 3) for p, r in rights.items()}
    repeats = len(next(iter(ages.values())))
    if repeats > 1:
        row["spread_ms"] = round(float(np.sqrt(np.mean([a.var(ddof=1) for a in ages.values()]))), 2)
    if OURS in ages and len(ages) > 1:
        comparable = [
            p for p in ages
            if p != OURS and (row["right"][p] is None or row["right"][p] >= row["right"][OURS] - ALLOWED_POINTS / 100)
        ]  # fmt: skip
        best = min(comparable, key=lambda p: row["age_ms"][p], default=None)
        row["best_baseline"] = best
        if best is not None:
            row["worse_ms"] = round(row["age_ms"][OURS] - row["age_ms"][best], 1)
            if repeats > 1:
                row["beyond"] = bool(row["worse_ms"] > 2 * row["spread_ms"] * np.sqrt(2 / repeats))
    return row


def show(rows: list[dict[str, Any]]) -> None:
    policies = list(rows[0]["age_ms"])
    table = Table(title="mean age in ms, and right", box=None)
    for name in ("slowdown", "trace", *policies, "spread", "worse by"):
        table.add_column(name, justify="left" if name == "trace" else "right")
    for row in rows:
        cells = [
            f"{row['age_ms'][p]:.0f}" + ("" if row["right"][p] is None else f", {100 * row['right'][p]:.0f} %")
            for p in policies
        ]
        table.add_row(
            f"{row['device_slowdown']:g}", row["trace"], *cells, str(row.get("spread_ms", "")),
            f"{row.get('worse_ms', '')}{' (!)' if row.get('beyond') else ''}",
        )  # fmt: skip
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one object, for scripts")
    parser.add_argument("--trace", type=Path, nargs="+", required=True, help="recorded networks")
    parser.add_argument("--policy", nargs="+", default=list(POLICIES), help="as spinn replay takes them")
    parser.add_argument("--source", default="demo", help="as spinn replay takes it; labelled, for the share right")
    parser.add_argument("--duration-s", type=float, default=15.0, help="of each run")
    parser.add_argument("--device-slowdown", type=float, nargs="+", default=[8.0, 20.0])
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    bundle = load_bundle(LITE2_200)
    engine = open_engine(bundle, "auto", threads=1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        config = ReplayConfig(
            source=options.source, traces=tuple(options.trace), policies=tuple(parse_policies(options.policy, bundle)),
            out=Path(folder), duration_s=options.duration_s, fps=30.0,
        )  # fmt: skip
        for slowdown in options.device_slowdown:
            found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
            for repeat in range(options.repeats):
                for trace in options.trace:
                    one = replace(config, traces=(trace,), device_slowdown=slowdown, seed=repeat)
                    for record in play(one, bundle, engine)[0]:
                        figures = run_figures(record)
                        found[trace.name][record.spec.policy].append(figures)
                        run = {"device_slowdown": slowdown, "trace": trace.name, "policy": record.spec.policy}
                        print(json.dumps(run | figures), file=sys.stderr, flush=True)
            rows += [summary(slowdown, trace, dict(runs)) for trace, runs in found.items()]
    if options.json:
        print(json.dumps({"duration_s": options.duration_s, "repeats": options.repeats, "rows": rows}))
    else:
        show(rows)


if __name__ == "__main__":
    main()
