"""Does every frame get its answer, whatever fails? Runs tests/faults and writes its report.

    python benchmarks/faults.py [--virtual]

The report is benchmarks/results/faults.json, and a table in docs/faults.md. Each row is a fault: first those in virtual
time, then those with real processes, which --virtual leaves out. Tests without a row count for the exit code.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from spinn_traces.replay.machine import this_machine

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "faults.json"
PAGE = ROOT / "docs" / "faults.md"
BEGIN, END = "<!-- rows -->", "<!-- end of rows -->"
VIRTUAL = ("test_network.py", "test_servers.py", "test_two_servers.py", "test_device.py")


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| fault | frames | missed | duplicates | wrong | no answer | answers, device alone = 1 | recovery, s "
        "| memory, MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        shown = (number(row[name]) for name in ("answers_over_device_only", "recovery_s", "rss_growth_mb"))
        counts = (str(row[name]) for name in ("frames", "missed", "duplicates", "wrong", "no_answer"))
        lines.append(f"| {' | '.join((row['name'], *counts, *shown))} |")
    return "\n".join(lines)


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--virtual", action="store_true", help="the faults in virtual time alone")
    options = parser.parse_args()
    folder = ROOT / "tests" / "faults"
    tests = [str(folder / name) for name in VIRTUAL]
    if not options.virtual:
        tests += [str(path) for path in sorted(folder.glob("test_*.py")) if path.name not in VIRTUAL]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        report = Path(temporary) / "rows.jsonl"
        report.touch()
        command = [sys.executable, "-m", "pytest", "-q", "--durations=5", *tests]
        done = subprocess.run(command, env={**os.environ, "SPINN_FAULTS_REPORT": str(report)}, cwd=ROOT, check=False)
        rows = [json.loads(line) for line in report.read_text().splitlines()]
    machine = this_machine("onnxruntime", None)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    found = {
        "command": "python " + " ".join(["benchmarks/faults.py", *sys.argv[1:]]),
        "commit": commit.stdout.strip() or None,
        "machine": f"{machine.processor}, {machine.cores} cores, Python {machine.python}",
        "seconds": round(time.monotonic() - began),
        "passed": done.returncode == 0,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(rows)}\n\n{END}{rest.partition(END)[2]}")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
