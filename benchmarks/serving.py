"""What does our server cost beyond its engine, and what does it do under overload? Against LitServe and Ray Serve.

    python benchmarks/serving.py [--json] [--parts plain,overload,mixed,idle,default] [--contestants spinn,litserve,ray]
                                 [--others PYTHON] [--repeats N] [--into FILE]

The bundle of 200 classes, the tail from block11, payloads of transform:6 (key frames). Clients on core 0; each server
in a process of its own on core 1, in turn, one engine thread, ONNX Runtime. The interpreter `--others` runs LitServe
and Ray Serve. If a contestant is missing, it is left out, with the reason. `--into` adds what was measured to a file.
Without ours, `--parts overload --into FILE` offers the others the load that FILE says ours was offered.

plain     each server with 16 and 32 requests in flight from four sessions, and decoding and tail in a loop at the best
          batch (raw_engine_rps), in turn, ROUNDS times: medians of requests a second, of the CPU for each, and of what
          they are over the loop's just before and after; ours' mean batch; the loop at other batches
          (raw_rps_by_batch); p99 at 70 % of the lowest capacity
overload  open loop at 1, 1.5 and 3 times the capacity of ours, budgets of 150 ms: answers in time a second (goodput);
          ours with leaving early allowed, too. `late_there`: of the late answers of ours, those that left it late
mixed     four cut points, 80, 100 and 150 % load: batches per segment against batches that run to the end, in turn,
          `--repeats` times; medians, and from least to most
idle      500 sessions that say nothing and 100 with a request a second each, in one server
default   as plain, for the built-in bundle
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: the engine alone has one thread, as servers have

import argparse
import asyncio
import json
import socket
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from serving_clients import Ask, HttpSession, Session, SpinnSession, Tally, closed_loop, open_loop, percentile
from serving_servers import command_of, started
from serving_work import RawEngine, chosen_bundle, key_frames, split_of, tree_cpu_s, tree_memory_mb

from spinn_stream.bundle import Bundle
from spinn_stream.runtime import open_engine

CLIENTS, SERVER = 0, 1  # cores
SESSIONS = 4
OVERLOAD_SESSIONS = 6
BUDGET_MS = 150.0
CLOSED_S, OPEN_S, MIXED_S = 6.0, 8.0, 10.0
ROUNDS, ROUND_S, RAW_S = 8, 1.5, 0.7
MIXED_SPLITS = (5, 8, 11, 13)  # block3, block6, block9, block11
RUNTIME = os.environ.get("SERVING_RUNTIME", "onnxruntime")

Opener = Callable[[], Any]


@asynccontextmanager
async def opened(openers: Sequence[Opener]) -> AsyncIterator[list[Session]]:
    sessions: list[Session] = [await opener().open() for opener in openers]
    try:
        yield sessions
    finally:
        await asyncio.gather(*(session.close() for session in sessions))


class Contestant:
    """One kind of server. options: of `spinn serve`."""

    def __init__(self, name: str, bundle_name: str, python: str, options: Sequence[str] = ()) -> None:
        self.name = name
        self.bundle = chosen_bundle(bundle_name)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        if name == "spinn":
            folder = self.bundle.graph_path.parent
            self._command = [sys.executable, "-m", "spinn_stream", "serve", "--port", str(self.port), "--threads", "1",
                             "--runtime", RUNTIME, "--bundle", str(folder), *options]  # fmt: skip
        else:
            self._command = command_of(name, python, self.port, bundle_name)
        self.pid = 0

    def run(self, work: Callable[[Contestant], Any]) -> Any:
        """The result of the work with the running server; or a dict with the reason why it could not run."""
        try:
            with started(self._command, SERVER, "ready" if self.name == "spinn" else None, self.port) as process:
                self.pid = process.pid
                return asyncio.run(work(self))
        except (RuntimeError, OSError) as error:
            return {"left_out": str(error)}

    def opener(self) -> Opener:
        if self.name == "spinn":
            return lambda: SpinnSession(self.bundle, f"ws://127.0.0.1:{self.port}")
        return lambda: HttpSession(self.port, as_json=self.name == "litserve")

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
        return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    def our_metrics(self) -> dict[str, float]:
        """Nothing of the others."""
        return self.metrics() if self.name == "spinn" else {}

    def graphs(self) -> float:
        """How many our server has built beside the segments."""
        return sum(value for key, value in self.our_metrics().items() if key.startswith("spinn_fused_graphs"))


def asks_of(bundle: Bundle, splits: Sequence[int], **more: Any) -> list[Ask]:
    engine = open_engine(bundle, RUNTIME, threads=1)
    return [Ask(split, payload, **more) for split in splits for payload in key_frames(bundle, engine, split)]


async def warm(
    contestant: Contestant, sessions: Sequence[Session], asks: Sequence[Ask], in_flight: int, rate: float | None = None
) -> None:
    """Until the server builds no more graphs for these requests. rate: of the load that ours is to get, as other graphs
    are wanted under overload."""
    before = -1.0
    while (graphs := contestant.graphs()) != before:
        before = graphs
        if not (await closed_loop(sessions, asks, in_flight, 3.0)).answered:
            raise RuntimeError("it answers no request")
        if rate is not None and contestant.name == "spinn":
            await open_loop(sessions, asks, rate, 1.5, seed=0)


async def closed(contestant: Contestant, asks: Sequence[Ask], raw: RawEngine) -> dict[str, Any]:
    """In turn with the engine alone, since a machine's speed changes within seconds."""
    found: dict[str, Any] = {}
    async with opened([contestant.opener()] * SESSIONS) as sessions:
        await warm(contestant, sessions, asks, 16)
        for in_flight in (16, 32):
            rounds, alone, before = [], [raw.run(RAW_S)], contestant.our_metrics()
            for _ in range(ROUNDS):
                cpu, began = tree_cpu_s(contestant.pid), time.perf_counter()
                tally = await closed_loop(sessions, asks, in_flight, ROUND_S)
                passed = time.perf_counter() - began
                answered = max(1, len(tally.answered))
                alone.append(raw.run(RAW_S))
                rps, cpu_ms = ((alone[-2][key] + alone[-1][key]) / 2 for key in ("rps", "cpu_ms"))
                took_ms = 1000 * (tree_cpu_s(contestant.pid) - cpu) / answered
                rounds.append({
                    "rps": answered / passed, "cpu_ms": took_ms, "over_raw": answered / passed / rps,
                    "overhead_ms": took_ms - cpu_ms, "lost": tally.lost, "refused": len(tally.refused),
                })  # fmt: skip
            found[f"at_{in_flight}"] = {
                key: round(float(np.median([one[key] for one in rounds])), 3) for key in rounds[0]
            } | {"raw_rps": round(float(np.median([one["rps"] for one in alone])), 1)}
            grown = {key: value - before.get(key, 0.0) for key, value in contestant.our_metrics().items()}
            if grown:
                found[f"at_{in_flight}"]["mean_batch"] = round(mean_batch(grown, raw.bundle), 2)
    return found


async def at_rate(
    contestant: Contestant, asks: Sequence[Ask], rate: float, seconds: float, sessions: int
) -> dict[str, Any]:
    async with opened([contestant.opener()] * sessions) as open_sessions:
        await warm(contestant, open_sessions, asks, sessions, rate)
        before = tree_memory_mb(contestant.pid)
        began = time.perf_counter()
        tally = await open_loop(open_sessions, asks, rate, seconds, seed=1)
        passed = time.perf_counter() - began
        return summary(tally, rate, min(passed, seconds), asks[0].budget_ms) | {
            "memory_grew_mb": round(tree_memory_mb(contestant.pid) - before, 1)
        }


def summary(tally: Tally, rate: float, seconds: float, budget_ms: float) -> dict[str, Any]:
    in_time = tally.within(budget_ms)
    return {
        "rate": round(rate, 1),
        "goodput": round(in_time / seconds, 1),
        "sent": tally.sent,
        "late": len(tally.answered) - in_time,
        "late_there": sum(ms > budget_ms for ms in tally.there),
        "refused": len(tally.refused),
        "refused_late": sum(ms > budget_ms for ms in tally.refused),
        "lost": tally.lost,
        "shortened": tally.shortened,
        "p50_ms": percentile(tally.answered, 50),
        "p99_ms": percentile(tally.answered, 99),
    }


def plain(bundle_name: str, python: str, names: Sequence[str]) -> dict[str, Any]:
    bundle = chosen_bundle(bundle_name)
    asks = asks_of(bundle, [split_of(bundle)])
    raw = RawEngine(bundle, [ask.payload for ask in asks], SERVER)
    found: dict[str, Any] = {
        name: Contestant(name, bundle_name, python).run(partial(closed, asks=asks, raw=raw)) for name in names
    }
    there = [name for name in names if "at_32" in found[name]]
    lowest = min(found[name]["at_32"]["rps"] for name in there)
    for name in there:
        slow = Contestant(name, bundle_name, python)
        found[name]["at_70_percent"] = slow.run(lambda c: at_rate(c, asks, 0.7 * lowest, OPEN_S, SESSIONS))
    found["raw_batch"], found["raw_rps_by_batch"] = raw.batch, raw.by_batch(RAW_S, ROUNDS)
    found["raw_engine_rps"] = round(float(np.median([found[name]["at_32"]["raw_rps"] for name in there])), 1)
    if "spinn" in there:
        found["spinn_rps"] = found["spinn"]["at_32"]["rps"]
        found["overhead_ms"] = found["spinn"]["at_32"]["overhead_ms"]
    if "litserve" in there:
        found["litserve_overhead_ms"] = found["litserve"]["at_32"]["overhead_ms"]
    return found


def overload(python: str, names: Sequence[str], before: dict[str, Any]) -> dict[str, Any]:
    """before: what is known of this part already."""
    bundle = chosen_bundle("200")
    asks = asks_of(bundle, [split_of(bundle)], budget_ms=BUDGET_MS)
    shorten = [Ask(a.split, a.payload, a.budget_ms, None, may_shorten=True) for a in asks]

    async def capacity_of(c: Contestant) -> float:
        patient = [Ask(a.split, a.payload) for a in asks]
        async with opened([c.opener()] * SESSIONS) as sessions:
            await closed_loop(sessions, patient, 32, 2.0)
            return len((await closed_loop(sessions, patient, 32, CLOSED_S)).answered) / CLOSED_S

    def rates(name: str, some: Sequence[Ask], times: Sequence[float]) -> dict[str, Any]:
        """Each with a server of its own: those that refuse nobody still work on what came before."""

        def one(times: float) -> dict[str, Any]:
            work = partial(at_rate, asks=some, rate=times * capacity, seconds=OPEN_S, sessions=OVERLOAD_SESSIONS)
            row: dict[str, Any] = Contestant(name, "200", python).run(work)
            return row

        return {f"{k:g}": one(k) for k in times}

    found = dict(before)
    if "spinn" in names:  # of now: a machine's speed changes
        found["capacity"] = round(Contestant("spinn", "200", python).run(capacity_of), 1)
    capacity = found["capacity"]
    for name in names:
        found[name] = rates(name, asks, (1, 1.5, 3))
    if "spinn" in names:
        found["spinn_shortened"] = rates("spinn", shorten, (1.5,))
        ours = {k: v["goodput"] for k, v in found["spinn"].items()}
        peak = max(ours.values())
        found["goodput_over_peak"] = {k: round(v / peak, 3) for k, v in ours.items()}
        found["shortened_over_plain"] = round(found["spinn_shortened"]["1.5"]["goodput"] / ours["1.5"], 2)
    return found


POLICIES = ("segments", "run-to-end")


def mixed(python: str, repeats: int) -> dict[str, Any]:
    """The two policies in turn, at loads over what run-to-end answers just then: a machine's speed changes."""
    bundle = chosen_bundle("200")
    asks = asks_of(bundle, MIXED_SPLITS, budget_ms=BUDGET_MS)

    async def capacity(c: Contestant) -> float:
        async with opened([c.opener()] * SESSIONS) as sessions:
            await closed_loop(sessions, asks, 32, 2.0)
            tally = await closed_loop(sessions, [Ask(a.split, a.payload) for a in asks], 32, CLOSED_S)
            return len(tally.answered) / CLOSED_S

    async def load(c: Contestant, rate: float) -> dict[str, Any]:
        async with opened([c.opener()] * OVERLOAD_SESSIONS) as sessions:
            await closed_loop(sessions, [Ask(a.split, a.payload) for a in asks], 12, 3.0)  # pieces are built
            before = c.metrics()
            tally = await open_loop(sessions, asks, rate, MIXED_S, seed=2)
            after = c.metrics()
        grown = {key: after[key] - before.get(key, 0.0) for key in after}
        return summary(tally, rate, MIXED_S, BUDGET_MS) | {"mean_batch": round(mean_batch(grown, bundle), 2)}

    runs: dict[str, dict[str, list[Any]]] = {policy: {} for policy in POLICIES}
    capacities = []
    for repeat in range(repeats):
        full = Contestant("spinn", "200", python, ["--policy", "run-to-end"]).run(capacity)
        capacities.append(round(full, 1))
        for share in (0.8, 1.0, 1.5):
            for policy in POLICIES if repeat % 2 == 0 else POLICIES[::-1]:
                contestant = Contestant("spinn", "200", python, ["--policy", policy])
                runs[policy].setdefault(f"{share:g}", []).append(contestant.run(partial(load, rate=share * full)))
    return {
        "splits": [bundle.cut_points[s].name for s in MIXED_SPLITS], "capacity": capacities,
        **{policy: {share: medians(rows) for share, rows in by_load.items()} for policy, by_load in runs.items()},
        "goodput_over_run_to_end": {share: over(runs, share, "goodput") for share in runs[POLICIES[0]]},
        "batch_over_run_to_end": {share: over(runs, share, "mean_batch") for share in runs[POLICIES[0]]},
    }  # fmt: skip


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(float(np.median(values)), 2), "least": min(values), "most": max(values)}


def medians(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure its median; of goodput and mean batch also the least and the most."""
    found = {key: float(np.median([row[key] for row in rows])) for key in rows[0]}
    return found | {f"{key}_spread": spread([row[key] for row in rows]) for key in ("goodput", "mean_batch")}


def over(runs: dict[str, dict[str, list[Any]]], share: str, figure: str) -> dict[str, float]:
    """The first policy's figure over the second's, in each repeat."""
    pairs = zip(*(runs[policy][share] for policy in POLICIES), strict=True)
    return spread([round(one[figure] / other[figure], 2) for one, other in pairs])


def mean_batch(grown: dict[str, float], bundle: Bundle) -> float:
    """Over the segments of the network: how many requests went through it together, on average."""
    names = [cut.name for cut in bundle.cut_points]
    rows = runs = 0.0
    for key, value in grown.items():
        if key.startswith(("spinn_segment_seconds_count{", "spinn_segment_requests_total{")):
            segment = key.partition('segment="')[2].partition('"')[0]
            start, _, stop = segment.partition("-")
            length = names.index(stop) - names.index(start)
            if key.startswith("spinn_segment_seconds_count"):
                runs += value * length
            else:
                rows += value * length
    return rows / runs if runs else 0.0


def idle(python: str) -> dict[str, Any]:
    bundle = chosen_bundle("200")
    asks = asks_of(bundle, [split_of(bundle)], budget_ms=BUDGET_MS)

    async def work(c: Contestant) -> dict[str, Any]:
        async with opened([c.opener()] * 100) as busy:
            await closed_loop(busy, asks, 100, 2.0)
            before = tree_memory_mb(c.pid)
            async with opened([c.opener()] * 500):
                grown = tree_memory_mb(c.pid) - before
                first = c.metrics()
                tally = await open_loop(busy, asks, 100.0, OPEN_S * 2, seed=3)
                last = c.metrics()
        lag = {key: last[key] - first.get(key, 0.0) for key in last if key.startswith("spinn_loop_lag_seconds_bucket")}
        return summary(tally, 100.0, OPEN_S * 2, BUDGET_MS) | {
            "kb_for_an_idle_session": round(1000 * grown / 500, 1),
            "loop_lag_p99_ms_at_most": 1000 * quantile(lag, 0.99),
            "loop_lags": sum(value for key, value in lag.items() if '"+Inf"' in key),
        }

    result: dict[str, Any] = Contestant("spinn", "200", python, ["--max-sessions", "1000"]).run(work)
    return result


def quantile(buckets: dict[str, float], share: float) -> float:
    """The upper end of the bucket that it lies in, in seconds."""
    ends = sorted((float(key.partition('le="')[2].rstrip('"}')), value) for key, value in buckets.items())
    whole = ends[-1][1]
    return next(end for end, value in ends if value >= share * whole)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--parts", default="plain,overload,mixed,idle,default")
    parser.add_argument("--contestants", default="spinn,litserve,ray")
    parser.add_argument("--others", default=sys.executable, help="the interpreter that has LitServe and Ray Serve")
    parser.add_argument("--repeats", type=int, default=3, help="of the part mixed")
    parser.add_argument("--into", type=Path, help="a file of results that these parts are added to")
    args = parser.parse_args()
    os.sched_setaffinity(0, {CLIENTS})
    names = args.contestants.split(",")
    found: dict[str, Any] = json.loads(args.into.read_text()) if args.into and args.into.exists() else {}
    if "overload" in args.parts and "spinn" not in names and "capacity" not in found.get("overload", {}):
        parser.error("overload without spinn takes the load from --into FILE, which says none")
    for part in args.parts.split(","):
        if part in ("plain", "default"):
            found[part] = plain("200" if part == "plain" else "default", args.others, names)
        elif part == "overload":
            found[part] = overload(args.others, names, found.get(part, {}))
        elif part == "mixed":
            found[part] = mixed(args.others, args.repeats)
        else:
            found[part] = idle(args.others)
    if args.into:
        args.into.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found)) if args.json else Console().print_json(data=found)


if __name__ == "__main__":
    main()
