"""One client of benchmarks/soak.py: a stream of the public API that watches its own answers and its own process.

    python benchmarks/soak_client.py SPLIT SERVER [SERVER ...]

SPLIT: a name, or `plan` for a policy that plans. Its device is then four times as slow, so that it plans to use the
servers. Prints a JSON object a second: memory, files, tasks, threads, and counts of its final results. The last one,
after Ctrl-C, has "ended". Ends with 1 if a frame had no final result, or two.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import spinn_client as spinn
from spinn_client.steering.guide import FixedPlan

BUNDLE = Path(__file__).parent / "bundles" / "lite2-200"
DEADLINE_MS, ALLOWED_MS = 150.0, 20.0
FPS = 10.0  # three clients and two servers share the machine: faults are the point, not load
REMEMBERED = 1000  # finals that a duplicate is looked for among; the frames of a minute and more


def process_figures() -> dict[str, float]:
    """Of this process, from /proc."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "memory_mb": int(status["VmRSS"].split()[0]) / 1024,
        "files": len(list(Path("/proc/self/fd").iterdir())) - 1,  # without the one that looks
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
    }


@dataclass
class Watched:
    """What came of the frames."""

    finals: int = 0
    duplicates: int = 0
    no_answer: int = 0
    server: int = 0
    late: list[tuple[float, float]] = field(default_factory=list)  # when, and age in ms; since it was last told
    recent: dict[int, None] = field(default_factory=dict)

    def result(self, result: spinn.Result) -> None:
        if result.kind != "final":
            return
        self.finals += 1
        self.duplicates += result.frame in self.recent
        self.recent[result.frame] = None
        if len(self.recent) > REMEMBERED:
            del self.recent[next(iter(self.recent))]
        self.no_answer += result.label is None
        self.server += result.where == "server"
        if result.age_ms > DEADLINE_MS + ALLOWED_MS:
            self.late.append((time.monotonic(), result.age_ms))

    def told(self, taken: int) -> dict[str, Any]:
        late, self.late = self.late, []
        return {
            "taken": taken, "finals": self.finals, "duplicates": self.duplicates, "no_answer": self.no_answer,
            "server": self.server, "late": late,
        }  # fmt: skip


async def main(split: str, servers: list[str]) -> int:
    stop, watched = asyncio.Event(), Watched()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stream = spinn.Stream(
        "demo",
        server=[spinn.LinkConfig(url, allow_offline=True, warm=n == 1) for n, url in enumerate(servers)],
        deadline_ms=DEADLINE_MS,
        plan=None if split == "plan" else FixedPlan(split),
        feed=spinn.FeedConfig(fps=FPS, loop=True),
        device=spinn.DeviceConfig(BUNDLE, runtime="onnxruntime", slowdown=4.0 if split == "plan" else 1.0),
        on_result=watched.result,
    )
    async with stream:
        while not stop.is_set():
            try:
                async with asyncio.timeout(1.0):
                    await stop.wait()
            except TimeoutError:
                print(json.dumps({**process_figures(), **watched.told(stream.state.taken)}), flush=True)
    taken = stream.state.taken
    print(json.dumps({"ended": True, **process_figures(), **watched.told(taken)}), flush=True)
    return int(taken != watched.finals or watched.duplicates > 0)


if __name__ == "__main__":
    if os.getppid() == 1:
        sys.exit("soak_client: benchmarks/soak.py starts this")
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2:])))
