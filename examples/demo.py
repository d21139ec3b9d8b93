"""`make demo`: a real server and a real client on this machine, a clip, and a server that dies and comes back.

Starts `spinn serve` and `spinn run` as a user would. The device is five times as slow as this machine, so that the
server helps. Kills the server with -9 in the middle, starts it again, and then prints what was seen, what the scheduler
changed and why, and what became of the frames meanwhile. Ends by itself, some seconds after the server is ready again:
`make demo ARGS="--seconds 3"` says how many.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

SPINN = Path(sys.executable).parent / "spinn"
FPS = 30
DEADLINE_MS = 150
SLOWDOWN = 5
SURE = 0.5


def start_server(port: int) -> tuple[subprocess.Popen[str], str]:
    """Start `spinn serve` on a port (0: any). Gives it, and the address that it prints."""
    command = [str(SPINN), "serve", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("ready "):
        sys.exit(f"demo: `spinn serve` did not start (exit code {process.wait()}); run it by hand to see why")
    return process, line.split()[1]


def frames_so_far(results: Path) -> int:
    """Frames that the camera has given up to the newest answer; some of them were dropped."""
    lines = results.read_text().splitlines(keepends=True) if results.exists() else []
    whole = [json.loads(line) for line in lines if line.endswith("\n")]
    return max((r["frame"] + 1 for r in whole if r["kind"] == "final"), default=0)


def wait_for_frames(count: int, results: Path, client: subprocess.Popen[Any]) -> None:
    while frames_so_far(results) < count and client.poll() is None:
        time.sleep(0.05)


def tell(results: Path, summary: Path, away: tuple[int, int], ready_at: int) -> None:
    """Print what was seen and planned, and what became of the frames while the server was away and afterwards."""
    finals = [r for r in map(json.loads, results.read_text().splitlines()) if r["kind"] == "final"]
    labels = Counter(r["label"] for r in finals if r["confidence"] is not None and r["confidence"] >= SURE)
    seen = ", ".join(f"{label} ({count} frames)" for label, count in labels.most_common(5))
    print(f"\nRecognised, {SURE:.0%} sure or more: {seen}.\nPlans of the scheduler, and why:")
    for plan in json.loads(summary.read_text())["plans"]:
        print(f"  plan {plan['id']} ({plan['frames']} frames): {plan['why']}")
    alone = [r for r in finals if away[0] <= r["frame"] < away[1]]
    by_device = sum(r["where"] == "device" for r in alone)
    afterwards = [r for r in finals if r["frame"] >= ready_at]
    helped = sum(r["where"] == "server" for r in afterwards)
    oldest = max(r["age_ms"] for r in finals)
    print(
        f"While the server was away (frames {away[0]} to {away[1] - 1}), "
        f"the device answered {by_device} of {len(alone)} frames.\n"
        f"Once it was ready again (from frame {ready_at} on), it answered {helped} of {len(afterwards)} frames.\n"
        f"The oldest answer of the whole run was {oldest:.0f} ms old; the deadline is {DEADLINE_MS} ms."
    )


def main() -> int:
    """Exit code 0 when every process ended well."""
    parser = argparse.ArgumentParser(description="a server, a device, and a server that dies and comes back")
    parser.add_argument("--seconds", type=int, default=6, help="with the server, without it, and with it again")
    seconds = parser.parse_args().seconds
    if seconds < 1:
        parser.error(f"--seconds is {seconds}, expected 1 or more")
    print(
        f"spinn-stream demo: photographs under a moving camera, {FPS} frames a second.\n"
        f"A device process, {SLOWDOWN} times as slow as this machine, lets a server process do what takes too long.\n"
        f"After {seconds} s the server is killed (kill -9); {seconds} s later it is started again. "
        f"{seconds} s after it is ready, the demo ends.\n"
    )
    print("starting the server ...", flush=True)
    server, address = start_server(0)
    print(f"the server is at {address}; starting the device ...\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        results, summary = Path(folder, "results.jsonl"), Path(folder, "summary.json")
        client = subprocess.Popen([
            str(SPINN), "run", "--source", "demo", "--loop", "--server", address,
            "--device-slowdown", str(SLOWDOWN),
            "--deadline-ms", str(DEADLINE_MS), "--jsonl", str(results), "--summary", str(summary),
        ])  # fmt: skip
        try:
            wait_for_frames(FPS * seconds, results, client)
            server.kill()
            server.wait()
            killed_at = frames_so_far(results)
            wait_for_frames(killed_at + FPS * seconds, results, client)
            back_at = frames_so_far(results)
            server, _ = start_server(int(address.rpartition(":")[2]))
            ready_at = frames_so_far(results)
            wait_for_frames(ready_at + FPS * seconds, results, client)
            client.terminate()
            code = client.wait(timeout=20)
            if code == 0:
                tell(results, summary, (killed_at, back_at), ready_at)
            return code
        except KeyboardInterrupt:
            return 130
        finally:
            client.kill()
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=20)


if __name__ == "__main__":
    if os.name != "posix":
        sys.exit("demo: needs Linux or macOS (the server's event loop, uvloop, does)")
    sys.exit(main())
