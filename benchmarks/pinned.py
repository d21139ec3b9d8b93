"""Real processes on cores of their own, for benchmarks that change conditions while they run."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from lite2_200 import LITE2_200

from spinn_server.admin.metrics import Metrics
from spinn_server.server import Server, ServerConfig
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import load_bundle
from spinn_stream.runtime import open_engine, stored_profile
from spinn_stream.runtime.machine.host import Host, Slowed
from spinn_traces.replay.run.processes import get, started
from spinn_traces.simulator.calibration import BATCHES

READY_S = 120.0


def cores() -> tuple[int, int]:
    """The client's core, and that of server and shaper; the same if there is only one."""
    free = sorted(os.sched_getaffinity(0))
    return free[0], free[1 % len(free)]


async def follow(slow_down: Callable[[float], object], base: float) -> None:
    """Set a slowdown of `base` times each number on standard input, one a line, until its end."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        slow_down(base * float(line))


async def serve(slowdown: float = 1.0) -> None:
    """A server that takes `slowdown` times as long. It prints its address, and runs until its standard input ends."""
    bundle, slowed = load_bundle(LITE2_200), Slowed(1.0)
    engine = open_engine(bundle, "auto", threads=1)
    profile = stored_profile(bundle, engine, threads=1, batches=BATCHES)
    config, metrics = ServerConfig(port=0), Metrics()
    tail = TailEngine(bundle, engine, config.batch, metrics, profile, host=Host(pace=slowed))
    await asyncio.to_thread(tail.prepare, lambda done, total: None)
    async with Server([tail], metrics, config).listen() as address:
        slowed.factor = slowdown
        print(address, flush=True)
        await follow(lambda factor: setattr(slowed, "factor", factor), slowdown)


def slow_down(stream: TextIO | None, factor: float) -> float:
    """Tell a process that follows; gives the time on the machine's monotonic clock."""
    assert stream is not None
    stream.write(f"{factor}\n")
    stream.flush()
    return time.monotonic()


@contextmanager
def role(script: str, name: str, core: int, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """This script again, in another role, until the block ends."""
    command = [sys.executable, script, "--role", name, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(process.pid, {core})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def shaper(to: str, core: int, settings: Mapping[str, float]) -> Iterator[tuple[str, int]]:
    """`spinn shape`; gives where it listens and the port it is controlled at."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    arguments = ["shape", "--listen", "127.0.0.1:0", "--to", to, "--control", "127.0.0.1:0", *options]
    with tempfile.TemporaryDirectory() as folder, started("shaper", arguments, Path(folder), core) as running:
        listening, control = (running.line(start, READY_S) for start in ("ready ", "control "))
        yield listening, int(control.rpartition(":")[2])


def change(control: int, settings: dict[str, Any]) -> float:
    """Other settings of the shaper; gives the time of the change on the machine's monotonic clock."""
    return float(json.loads(get(control, "/", settings))["at_s"])


def wait_for_results(results: Path, client: subprocess.Popen[str]) -> None:
    """Wait until there is a result."""
    began = time.monotonic()
    while not (results.exists() and results.stat().st_size):
        if client.poll() is not None or time.monotonic() - began > READY_S:
            sys.exit("the client gave no result; run it by hand to see why")
        time.sleep(0.05)


def finals(results: Path) -> list[dict[str, Any]]:
    """Final results, as `--jsonl` has them, in the order of the frames."""
    found = [json.loads(line) for line in results.read_text().splitlines() if '"final"' in line]
    return sorted(found, key=lambda line: line["frame"])
