"""Does anything that a stranger can send harm either end? A million messages to each session, and to the port.

    python benchmarks/fuzz.py [--messages 1000000] [--port-messages 200000] [--seed 0] [--json] [--into FILE]

server, client  the sessions of spinn.v1, without sockets: valid messages, messages with other fields, other bytes and
                other lengths, and noise, while the session itself sends and answers
port            HTTP requests and WebSocket frames to a whole server, through memory

A fault is an exception that is not the declared one, a second of CPU time for a message, more memory than a message of
its size may take, and a session that keeps another count than what it was told. The lines of spinn_stream/wire that ran
are counted. Game N of a seed is always the same one. Exit code 1: there was a fault, or too few lines ran.
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


def coverage(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "coverage", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def one(target: str, module: str, arguments: list[str], messages: int, seed: int, folder: Path) -> dict[str, Any]:
    """Fuzz one target in a process of its own."""
    began = time.monotonic()
    done = coverage(
        "run", f"--data-file={folder / target}", f"--source={SOURCE}", "-m", module, *arguments,
        "--messages", str(messages), "--seed", str(seed),
    )  # fmt: skip
    found: dict[str, Any] = {"messages": 0, "faults": [f"it ended with {done.returncode}: {done.stderr[-3000:]}"]}
    if done.returncode == 0:
        found = json.loads(done.stdout.splitlines()[-1])
    return {"target": target, "seconds": round(time.monotonic() - began), **found}


def covered(folder: Path) -> tuple[float, dict[str, list[int]]]:
    """Share of the lines that ran, in %, and those that did not, for each file."""
    data = f"--data-file={folder / 'all'}"
    coverage("combine", data, *(str(path) for path in folder.iterdir()))
    done = coverage("json", data, "-o", "-")
    report = json.loads(done.stdout[done.stdout.index("{") :])
    missing = {name: file["missing_lines"] for name, file in report["files"].items() if file["missing_lines"]}
    return report["totals"]["percent_covered"], missing


def measure(messages: int, port_messages: int, seed: int) -> dict[str, Any]:
    targets = [
        ("server", "benchmarks.fuzzing.ends", ["server"], messages),
        ("client", "benchmarks.fuzzing.ends", ["client"], messages),
        ("port", "benchmarks.fuzzing.port", [], port_messages),
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            runs = [pool.submit(one, *target, seed, folder) for target in targets]
            rows = [run.result() for run in runs]
        percent, missing = covered(folder)
    return {"seed": seed, "targets": rows, "wire_covered_percent": round(percent, 1), "wire_lines_missing": missing}


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
