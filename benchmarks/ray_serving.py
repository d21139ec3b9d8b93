"""What does the server cost on Ray Serve, and does it keep its promises there? With two replicas on this machine.

    PYTHON benchmarks/ray_serving.py [--json] [--seconds S] [--into FILE]

PYTHON has this project and Ray. The bundle of 200 classes, the tail from block11, payloads of transform:6 (key frames),
one engine thread for each replica. Clients, ingress, replicas and Ray's own processes share all cores.

raw        decoding and tail in a loop in one thread, at the best batch: requests a second, and CPU for each
capacity   32 requests in flight from four sessions: answers a second, and CPU for each, of all Ray processes
overhead   CPU a request beyond raw, ms
embedded   capacity and overhead of the same server without Ray
plain      the same of Ray Serve as its documentation has it (@serve.batch, one replica, the payload as a POST's body)
at_80      open loop at 0.8 of the capacity, budgets of 150 ms: the share that was answered in time, and CPU for each
killed     (--killed) one replica of two gets SIGKILL under 0.4 of the capacity: requests sent, answered in time and
           refused in each second after it, and those without any outcome
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving import BUDGET_MS, OVERLOAD_SESSIONS, SERVER, SESSIONS, asks_of, opened, summary
from serving_clients import Ask, HttpSession, SpinnSession, Tally, closed_loop, open_loop
from serving_servers import command_of, started
from serving_work import RawEngine, chosen_bundle, split_of, tree, tree_cpu_s

WARM_S = 6.0
KILLED_S = 25.0


def options(port: int, folder: Path) -> list[str]:
    return [sys.executable, "-m", "spinn_stream", "serve", "--port", str(port), "--threads", "1", "--runtime",
            "onnxruntime", "--bundle", str(folder)]  # fmt: skip


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def measured(command: Sequence[str], port: int, seconds: float, *, killed: bool = False) -> dict[str, Any]:
    bundle = chosen_bundle("200")
    asks = asks_of(bundle, [split_of(bundle)], budget_ms=BUDGET_MS)
    patient = [Ask(a.split, a.payload) for a in asks]

    def opener() -> SpinnSession:
        return SpinnSession(bundle, f"ws://127.0.0.1:{port}")

    async def work(pid: int) -> dict[str, Any]:
        async with opened([opener] * SESSIONS) as sessions:
            await closed_loop(sessions, patient, 32, WARM_S)
            cpu = tree_cpu_s(pid)
            began = time.perf_counter()
            tally = await closed_loop(sessions, patient, 32, seconds)
            passed = time.perf_counter() - began
            cpu_ms = 1000 * (tree_cpu_s(pid) - cpu) / max(1, len(tally.answered))
            capacity = len(tally.answered) / passed
        cpu = tree_cpu_s(pid)
        async with opened([opener] * OVERLOAD_SESSIONS) as sessions:
            load = await open_loop(sessions, asks, 0.8 * capacity, seconds, seed=1)
        at_80 = summary(load, 0.8 * capacity, seconds, BUDGET_MS)
        more = {"killed": await kill_one(pid, port, 0.4 * capacity, BUDGET_MS)} if killed else {}
        return more | {
            "capacity": round(capacity, 1),
            "cpu_ms": round(cpu_ms, 3),
            "at_80": at_80
            | {
                "goodput_share": round(load.within(BUDGET_MS) / max(1, load.sent), 3),
                "cpu_ms": round(1000 * (tree_cpu_s(pid) - cpu) / max(1, load.sent), 3),
            },
        }

    with started(list(command), "0-1", "ready", port) as process:
        return asyncio.run(work(process.pid))


def plain(port: int, seconds: float) -> dict[str, Any]:
    bundle = chosen_bundle("200")
    asks = [Ask(a.split, a.payload) for a in asks_of(bundle, [split_of(bundle)], budget_ms=BUDGET_MS)]

    async def work(pid: int) -> dict[str, Any]:
        async with opened([lambda: HttpSession(port, as_json=False)] * SESSIONS) as sessions:
            await closed_loop(sessions, asks, 32, WARM_S)
            cpu, began = tree_cpu_s(pid), time.perf_counter()
            tally = await closed_loop(sessions, asks, 32, seconds)
            answered, passed = len(tally.answered), time.perf_counter() - began
        cpu_ms = 1000 * (tree_cpu_s(pid) - cpu) / max(1, answered)
        return {"capacity": round(answered / passed, 1), "cpu_ms": round(cpu_ms, 3)}

    with started(command_of("ray", sys.executable, port, "200"), "0-1", None, port) as process:
        return asyncio.run(work(process.pid))


async def kill_one(pid: int, port: int, rate: float, budget_ms: float) -> dict[str, Any]:
    bundle = chosen_bundle("200")
    asks = asks_of(bundle, [split_of(bundle)], budget_ms=budget_ms)
    seconds: list[dict[str, int]] = []
    tally = Tally()

    async def watch() -> None:
        sent = answered = refused = 0
        while True:
            await asyncio.sleep(1.0)
            now = tally.sent, tally.within(budget_ms), len(tally.refused)
            seconds.append({"sent": now[0] - sent, "in_time": now[1] - answered, "refused": now[2] - refused})
            sent, answered, refused = now

    async with opened([lambda: SpinnSession(bundle, f"ws://127.0.0.1:{port}")] * OVERLOAD_SESSIONS) as sessions:
        watching = asyncio.create_task(watch())
        loading = asyncio.create_task(open_loop(sessions, asks, rate, KILLED_S, seed=2, tally=tally))
        await asyncio.sleep(3.0)
        os.kill(processes_of(pid, "replica")[0], signal.SIGKILL)
        await loading
        watching.cancel()
    return {"rate": round(rate, 1), "seconds": seconds[3:], "lost": tally.lost}


def processes_of(root: int, part: str) -> list[int]:
    """Of a deployment, as Ray has named them."""
    title, found = f"ray::ServeReplica:spinn:{part}".encode(), []
    for pid in tree(root):
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(title):
                found.append(pid)
        except OSError:  # it has ended
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--killed", action="store_true", help="kill a replica, too")
    parser.add_argument("--into", type=Path, help="a file for the results")
    args = parser.parse_args()
    bundle = chosen_bundle("200")
    payloads = [ask.payload for ask in asks_of(bundle, [split_of(bundle)])]
    folder = bundle.graph_path.parent
    found: dict[str, Any] = {"raw": RawEngine(bundle, payloads, SERVER).run(args.seconds)}
    port = free_port()
    found["embedded"] = measured(options(port, folder), port, args.seconds)
    port = free_port()
    found["ray"] = measured(
        [*options(port, folder), "--ray", "--replicas", "2"], port, args.seconds, killed=args.killed
    )
    port = free_port()
    found["plain"] = plain(port, args.seconds)
    for name in ("embedded", "ray", "plain"):
        found[name]["overhead_ms"] = round(found[name]["cpu_ms"] - found["raw"]["cpu_ms"], 3)
    if args.into:
        args.into.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found) if args.json else json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
