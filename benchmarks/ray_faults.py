"""Does the server on Ray Serve keep its promises when its parts come and go? With two replicas on this machine.

    PYTHON benchmarks/ray_faults.py [--part NAME ...] [--minutes 10] [--into FILE]

PYTHON has this project and Ray. The bundle of 200 classes, the tail from block11, key frames of transform:6.

cancels   requests of six sessions, most of them cancelled at random moments: those without any outcome, and how many of
          200 requests after that are answered
ingress   the only ingress gets SIGKILL while a client (`spinn_client.Stream`) has its frames answered: how many results
          came after their deadline, and how long after the ingress was ready again the server answered the next one
ingresses one of two ingresses gets SIGKILL under CLIENTS such clients
update    a second `spinn serve --ray` on the same cluster, with another option, under CLIENTS such clients: the parts
          of the first one (two ingresses, two replicas) are replaced, and the first command ends by itself
churn     sessions come and go under load, and every 15 s a replica gets SIGKILL: answered in time, refused and lost;
          memory, files and threads of the ingress after each minute

Of clients: `lost` their connections, why, and after how long the last of them was answered by the server again.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ray_serving import free_port, options, processes_of
from serving import asks_of, opened
from serving_clients import Ask, SpinnSession, Tally, open_loop
from serving_servers import started
from serving_work import SETTING, chosen_bundle, split_of

from spinn_client import DeviceConfig, Event, FeedConfig, FixedPlan, ServerLost, Stream
from spinn_stream.bundle import Bundle

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.ray_head import ray_head

CANCELS = 10_000
DEADLINE_MS, SLACK_MS = 300.0, 20.0
"""Of the client's frames, and what the contract allows beyond."""

BUDGET_MS = 500.0
KILL_EVERY_S = 15.0
CLIENTS, FPS = 6, 5.0
START_S, SETTLE_S, RESTART_S = 120.0, 8.0, 15.0
PARTS = ("cancels", "ingress", "ingresses", "update", "churn")


class Cancelling(SpinnSession):
    """Cancels most of its requests, each at a random moment."""

    rng = random.Random(1)
    cancelled = 0

    async def ask(self, ask: Ask, tally: Tally) -> None:
        number = self._next
        asking = asyncio.create_task(super().ask(ask, tally))
        if self.rng.random() < 0.8:
            await asyncio.sleep(self.rng.uniform(0.0, 0.05))
            message = self._session.cancel(number)
            if message is not None:  # it is not answered yet; the server acknowledges this as a refusal
                type(self).cancelled += 1
                await self._websocket.send(message)
        await asyncio.wait([asking])


async def cancels(bundle: Bundle, address: str) -> dict[str, Any]:
    asks = asks_of(bundle, [split_of(bundle)], budget_ms=60_000.0)
    stormy, after = Tally(), Tally()
    async with opened([lambda: Cancelling(bundle, address)] * 6) as sessions:
        while Cancelling.cancelled < CANCELS:
            await open_loop(sessions, asks, 400.0, 5.0, seed=Cancelling.cancelled, tally=stormy)
    async with opened([lambda: SpinnSession(bundle, address)] * 4) as sessions:
        await open_loop(sessions, asks, 50.0, 4.0, seed=1, tally=after)
    return {
        "sent": stormy.sent, "cancelled": Cancelling.cancelled, "answered": len(stormy.answered),
        "refused": len(stormy.refused), "without_outcome": stormy.lost,
        "after": {"sent": after.sent, "answered": len(after.answered), "lost": after.lost},
    }  # fmt: skip


@dataclass
class Seen:
    """What a client saw: its final results, as (time, where it was answered, age in ms), and what happened to it."""

    results: list[tuple[float, str | None, float]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


async def watch(address: str, seen: Seen, fps: float | None, until: asyncio.Event) -> None:
    stream = Stream(
        "demo", server=address, deadline_ms=DEADLINE_MS, plan=FixedPlan("block11", "none"), on_event=seen.events.append,
        device=DeviceConfig(chosen_bundle("200"), threads=1), feed=FeedConfig(fps=fps, loop=True),
    )  # fmt: skip
    async with stream:
        async for result in stream:
            if result.kind == "final":
                seen.results.append((time.monotonic(), result.where, result.age_ms))
            if until.is_set():
                return


@asynccontextmanager
async def watching(address: str, clients: int, fps: float | None) -> AsyncIterator[list[Seen]]:
    """Clients that are answered until the block ends, and for SETTLE_S before and after it. Their start is not counted.

    Raises:
        TimeoutError: the server answers one of them nothing.
    """
    seen, until = [Seen() for _ in range(clients)], asyncio.Event()
    tasks = [asyncio.create_task(watch(address, each, fps, until)) for each in seen]
    try:
        async with asyncio.timeout(START_S):
            while not all(any(where == "server" for _, where, _ in each.results) for each in seen):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        for each in seen:
            each.results.clear()
        await asyncio.sleep(SETTLE_S)
        yield seen
        await asyncio.sleep(SETTLE_S)
    finally:
        until.set()
        await asyncio.gather(*tasks)


def figures(seen: Sequence[Seen], since: float) -> dict[str, Any]:
    """since: when it began, on the clock of `time.monotonic`."""
    results = [result for each in seen for result in each.results]
    back: list[float | None] = []
    why: set[str] = set()
    for each in seen:
        lost = [event for event in each.events if isinstance(event, ServerLost) and event.at > since]
        why.update(event.why for event in lost)
        back += [
            next((at - event.at for at, where, _ in each.results if where == "server" and at > event.at), None)
            for event in lost
        ]
    return {
        "clients": len(seen),
        "frames": len(results),
        "by_server_before": sum(where == "server" for at, where, _ in results if at < since),
        "by_server_after": sum(where == "server" for at, where, _ in results if at > since),
        "frames_after": sum(at > since for at, _, _ in results),
        "late": sum(age > DEADLINE_MS + SLACK_MS for _, _, age in results),
        "without_answer": sum(where is None for _, where, _ in results),
        "lost": len(back),
        "why": sorted(why),
        "back_after_s": None if not back or None in back else round(max(at for at in back if at is not None), 2),
    }


async def ingress_killed(address: str, root: int) -> dict[str, Any]:
    port = int(address.rpartition(":")[2])
    async with watching(address, 1, None) as seen:
        os.kill(processes_of(root, "ingress")[0], signal.SIGKILL)
        killed = time.monotonic()
        await asyncio.sleep(0.5)
        while not await asyncio.to_thread(is_ready, port):  # noqa: ASYNC110  # it cannot tell us
            await asyncio.sleep(0.05)
        ready = time.monotonic()
    found = figures(seen, killed)
    back = min((at for at, where, _ in seen[0].results if where == "server" and at > ready), default=None)
    return found | {
        "ready_after_s": round(ready - killed, 2),
        "back_after_s": None if back is None else round(back - ready, 2),
    }


async def one_ingress_killed(address: str, root: int) -> dict[str, Any]:
    async with watching(address, CLIENTS, FPS) as seen:
        os.kill(processes_of(root, "ingress")[0], signal.SIGKILL)
        killed = time.monotonic()
        await asyncio.sleep(RESTART_S)
    return figures(seen, killed)


async def updated(address: str, first: subprocess.Popen[str], again: Callable[[], Any]) -> dict[str, Any]:
    """again: a context manager that runs the second command once it is ready."""
    async with watching(address, CLIENTS, FPS) as seen:
        began = time.monotonic()
        second = again()
        await asyncio.to_thread(second.__enter__)
        took = time.monotonic() - began
        ended = await asyncio.to_thread(first.wait, RESTART_S)
    try:
        return figures(seen, began) | {"took_s": round(took, 1), "exit_code_of_the_first": ended}
    finally:
        await asyncio.to_thread(second.__exit__, None, None, None)


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


async def churn(bundle: Bundle, address: str, root: int, minutes: float) -> dict[str, Any]:
    asks = asks_of(bundle, [split_of(bundle)], budget_ms=BUDGET_MS)
    tally, kills, visits = Tally(), 0, 0
    (ingress,) = processes_of(root, "ingress")
    usage: list[dict[str, float]] = []
    end = time.monotonic() + 60 * minutes

    async def kill() -> None:
        nonlocal kills
        rng = random.Random(2)
        while True:
            await asyncio.sleep(KILL_EVERY_S)
            replicas = processes_of(root, "replica")
            if len(replicas) > 1:
                os.kill(rng.choice(replicas), signal.SIGKILL)
                kills += 1

    async def watch() -> None:
        for minute in itertools.count(1):
            await asyncio.sleep(60.0)
            usage.append({"minute": minute, **usage_of(ingress)})

    helpers = [asyncio.create_task(kill()), asyncio.create_task(watch())]
    try:
        while time.monotonic() < end:
            async with opened([lambda: SpinnSession(bundle, address)] * 6) as sessions:
                await open_loop(sessions, asks, 60.0, 5.0, seed=visits, tally=tally)
            visits += 1
    finally:
        for helper in helpers:
            helper.cancel()
        await asyncio.wait(helpers)
    return {
        "minutes": minutes, "kills": kills, "sessions": 6 * visits, "sent": tally.sent,
        "in_time": tally.within(BUDGET_MS), "refused": len(tally.refused), "lost": tally.lost, "ingress": usage,
    }  # fmt: skip


def usage_of(pid: int) -> dict[str, float]:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return {
        "memory_mb": round(int(status["VmRSS"].split()[0]) / 1000, 1),
        "files": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "threads": int(status["Threads"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="several times; all by default")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the coming and going")
    parser.add_argument("--into", type=Path, help="a file for the results")
    args = parser.parse_args()
    bundle, port = chosen_bundle("200"), free_port()
    address = f"ws://127.0.0.1:{port}"
    found: dict[str, Any] = {
        "codec": str(SETTING),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    command_line = " ".join(["python", "benchmarks/ray_faults.py", *sys.argv[1:]])
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    command = [*options(port, bundle.graph_path.parent), "--ray", "--replicas", "2"]
    two = [*command, "--ingresses", "2"]

    def note(part: str, figures: dict[str, Any]) -> None:
        found[part] = figures | {"command": command_line, "commit": commit.stdout.strip()}
        print(part, json.dumps(figures), file=sys.stderr, flush=True)
        if args.into:
            before = json.loads(args.into.read_text()) if args.into.exists() else {}
            args.into.write_text(json.dumps(before | found, indent=1) + "\n")

    parts = args.part or PARTS
    if {"cancels", "ingress", "churn"} & set(parts):
        with started(command, "0-1", "ready", port) as server:
            if "cancels" in parts:
                note("cancels", asyncio.run(cancels(bundle, address)))
            if "ingress" in parts:
                note("ingress", asyncio.run(ingress_killed(address, server.pid)))
            if "churn" in parts:
                note("churn", asyncio.run(churn(bundle, address, server.pid, args.minutes)))
    if "ingresses" in parts:
        with started(two, "0-1", "ready", port) as server:
            note("ingresses", asyncio.run(one_ingress_killed(address, server.pid)))
    if "update" in parts:
        with ray_head(processors=2), started(two, "0-1", "ready", port) as first:
            again = partial(started, [*two, "--max-queue", "128"], "0-1", "ready", port)
            note("update", asyncio.run(updated(address, first, again)))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
