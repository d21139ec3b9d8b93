"""Does anything that a stranger can send harm either end? A million messages to each session, and to the port.

    python benchmarks/fuzz.py [--messages 1000000] [--port-messages 200000] [--seed 0] [--json] [--into FILE]

server, client  the sessions of spinn.v1, without sockets: valid messages, messages with other fields, other bytes and
                other lengths, and noise, while the session itself sends and answers
port            HTTP requests and WebSocket frames to a whole server, through memory

A fault is an exception that is not the declared one, a second of CPU time for a message, more memory than a message of
its size may take, and a session that keeps another count than what it was told. Game N of a seed is always the same.
The first messages of each target run once more, to count the lines of spinn_stream/wire that run; counting takes ten
times as long. Exit code 1: there was a fault, or too few lines ran.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
LEAST_COVERED = 95.0  # % of the lines of spinn_stream/wire
SOURCE = "spinn_stream.wire"
COUNTED = 10_000  # messages to each target under which lines are counted

TARGETS = {
    "server": ("benchmarks.fuzzing.ends", "server"),
    "client": ("benchmarks.fuzzing.ends", "client"),
    "port": ("benchmarks.fuzzing.port",),
}
"""The module that fuzzes each, and its arguments."""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def one(target: str, arguments: tuple[str, ...], messages: int, seed: int) -> dict[str, Any]:
    """Fuzz one target in a process of its own."""
    began = time.monotonic()
    done = python(*arguments, "--messages", str(messages), "--seed", str(seed))
    found: dict[str, Any] = {"messages": 0, "faults": [f"it ended with {done.returncode}: {done.stderr[-3000:]}"]}
    if done.returncode == 0:
        found = json.loads(done.stdout.splitlines()[-1])
    return {"target": target, "seconds": round(time.monotonic() - began), **found}


def covered(seed: int) -> tuple[float, dict[str, list[int]]]:
    """Share of the lines that ran, in %, and those that did not, for each file."""
    with tempfile.TemporaryDirectory() as folder:
        parts = [f"{folder}/{target}" for target in TARGETS]
        for part, arguments in zip(parts, TARGETS.values(), strict=True):
            run = ("run", f"--data-file={part}", f"--source={SOURCE}", "-m", *arguments)
            python("coverage", *run, "--messages", str(COUNTED), "--seed", str(seed)).check_returncode()
        data = f"--data-file={folder}/all"
        python("coverage", "combine", data, *parts).check_returncode()
        done = python("coverage", "json", data, "-o", "-")
        done.check_returncode()
    report = json.loads(done.stdout[done.stdout.index("{") :])
    missing = {name: file["missing_lines"] for name, file in report["files"].items() if file["missing_lines"]}
    return report["totals"]["percent_covered"], missing


def measure(messages: int, port_messages: int, seed: int) -> dict[str, Any]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = [
            pool.submit(one, target, arguments, port_messages if target == "port" else messages, seed)
            for target, arguments in TARGETS.items()
        ]
        rows = [run.result() for run in runs]
    percent, missing = covered(seed)
    return {
        "seed": seed, "targets": rows, "counted_messages": COUNTED,
        "wire_covered_percent": round(percent, 1), "wire_lines_missing": missing,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000, help="to each session")
    parser.add_argument("--port-messages", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--into", type=Path, help="write it to this file, too")
    args = parser.parse_args()
    result = measure(args.messages, args.port_messages, args.seed)
    result = {"command": "python " + " ".join(["benchmarks/fuzz.py", *sys.argv[1:]]), **result}
    if args.into is not None:
        args.into.write_text(json.dumps(result, indent=1) + "\n")
    if args.json:
        print(json.dumps(result))
    else:
        table = Table("target", "messages", "seconds", "slowest, ms of CPU", "allocated of allowed", "faults", box=None)
        for row in result["targets"]:
            figures = (row.get("slowest_cpu_ms"), row.get("most_allocated_of_allowed"))
            table.add_row(row["target"], *map(str, (row["messages"], row["seconds"], *figures, len(row["faults"]))))
        Console().print(table)
        for row in result["targets"]:
            for fault in row["faults"]:
                print(f"{row['target']}: {fault}")
        print(f"{result['wire_covered_percent']} % of the lines of {SOURCE} ran; not: {result['wire_lines_missing']}")
    faults = any(row["faults"] for row in result["targets"])
    sys.exit(1 if faults or result["wire_covered_percent"] < LEAST_COVERED else 0)


if __name__ == "__main__":
    main()
