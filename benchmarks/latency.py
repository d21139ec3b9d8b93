"""How old is an answer? Real processes on one machine, by split: age of final results, bytes up, server's share.

    python benchmarks/latency.py [--json]

Client pinned to core 0, server to core 1, one engine thread each; loopback, so what is measured is our own work.
The splits run in turn, ROUNDS times; figures are medians over the rounds. No exit fires (threshold none).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from lite2_200 import LITE2_200
from rich.console import Console
from rich.table import Table

SPINN = Path(sys.executable).parent / "spinn"
SPLITS = ("input", "block4", "block7", "block13", "final")
ROUNDS = 3
FRAMES = 240
FPS = 30


def pinned(core: int, *command: str) -> list[str]:
    return ["taskset", "-c", str(core), str(SPINN), *command]


def one_run(address: str, split: str, folder: Path) -> dict[str, Any]:
    """The summary of one `spinn run`."""
    summary = folder / "summary.json"
    subprocess.run(
        pinned(0, "run", "--bundle", str(LITE2_200), "--quiet", "--source", "demo", "--frames", str(FRAMES),
               "--fps", str(FPS), "--server", address, "--split", split, "--threshold", "none", "--deadline-ms", "500",
               "--summary", str(summary)),
        check=True, timeout=120,
    )  # fmt: skip
    loaded: dict[str, Any] = json.loads(summary.read_text())
    return loaded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    console = Console(stderr=True)
    server = subprocess.Popen(
        pinned(1, "serve", "--bundle", str(LITE2_200), "--port", "0"), stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[1]
        with tempfile.TemporaryDirectory() as folder:
            for round_ in range(ROUNDS):
                for split in SPLITS:
                    console.print(f"round {round_ + 1} of {ROUNDS}, split {split} ...")
                    runs[split].append(one_run(address, split, Path(folder)))
    finally:
        server.terminate()
        server.wait(timeout=20)
    rows = {
        split: {
            "age_ms_p50": median(s["age_ms"]["p50"] for s in summaries),
            "age_ms_p99": median(s["age_ms"]["p99"] for s in summaries),
            "taken_share": median(s["taken"] / s["captured"] for s in summaries),
            "server_share": median(s["server"] / s["final"] for s in summaries),
            "bytes_up_per_frame": round(median(s["bytes_up"] / s["final"] for s in summaries)),
        }
        for split, summaries in runs.items()
    }
    if args.json:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        about = {
            "command": "python benchmarks/latency.py --json",
            "commit": commit.stdout.strip(),
            "machine": f"{platform.machine()}, {platform.system()}, {os.cpu_count()} cores",
            "frames": FRAMES,
            "fps": FPS,
            "rounds": ROUNDS,
        }
        print(json.dumps({**about, "splits": rows}, indent=1))
        return
    table = Table("split", "age p50", "age p99", "taken", "by the server", "bytes up a frame")
    for split, r in rows.items():
        shares = (f"{100 * r['taken_share']:.0f} %", f"{100 * r['server_share']:.0f} %")
        ages = (f"{r['age_ms_p50']:.1f} ms", f"{r['age_ms_p99']:.1f} ms")
        table.add_row(split, *ages, *shares, str(r["bytes_up_per_frame"]))
    Console().print(table)


if __name__ == "__main__":
    main()
