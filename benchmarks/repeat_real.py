"""Frames a second of real processes, with the repeat exit and without in turn."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from spinn_traces.replay.machine import cores_for_pinning
from spinn_traces.replay.run.processes import started

READY_S, RUN_S = 240.0, 600.0
WHOLE = ("--split", "final", "--threshold", "1")
"""The whole network on the device: no early exit is part of it."""


def real_rates(
    bundle: Path, runtime: str, files: Sequence[Path], device_slowdown: float, rounds: int
) -> dict[str, Any]:
    """For each clip: answers a second alone, and with a server beside a slow device, by rounds.

    A fixed plan alone; with the server our policy and the default agreement.
    """
    shared = ("--bundle", str(bundle), "--runtime", runtime, "--threads", "1")
    cores = cores_for_pinning()
    found: dict[str, Any] = {"cores": cores, "device_slowdown": device_slowdown, "rounds": rounds}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(
            started("server", ("serve", "--port", "0", *shared), folder, None if cores is None else cores[1])
        )
        address = server.line("ready ", READY_S)

        def rate(file: Path, *options: str) -> float:
            results = folder / "results.jsonl"
            arguments = ("run", "--quiet", "--source", str(file), "--unpaced", "--deadline-ms", "60000",
                         "--jsonl", str(results), *options, *shared)  # fmt: skip
            with started("client", arguments, folder, None if cores is None else cores[0]) as client:
                client.finish(RUN_S)
            times = [line["at_s"] for line in map(json.loads, results.read_text().splitlines())]
            return (len(times) - 1) / (max(times) - min(times))

        served = ("--server", address, "--device-slowdown", repr(device_slowdown))
        for file in files:
            row: dict[str, Any] = {}
            for name, options in (("alone", WHOLE), ("served", served)):
                pairs = [(rate(file, *options, "--repeat"), rate(file, *options, "--no-repeat")) for _ in range(rounds)]
                row[name] = {
                    "fps": round(median(a for a, _ in pairs), 2), "without": round(median(b for _, b in pairs), 2),
                    "fps_ratio": round(median(a / b for a, b in pairs), 3),
                    "ratios": [round(a / b, 3) for a, b in pairs],
                }  # fmt: skip
            found[file.name] = row
    return found
