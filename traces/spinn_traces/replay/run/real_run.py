"""One run with real processes: client -> shaper, which plays the trace -> server.

    core 0   spinn run ──►┐
    core 1                spinn shape ──► spinn serve

The link is open while the client connects and builds its network. After its first result, the trace is set to its
beginning: this is the run's time 0. Frames that were captured before it, or after the run's end, do not count.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from spinn_stream.bundle import Bundle
from spinn_stream.trace import FIELDS, Trace
from spinn_traces.replay.policy import client_arguments, parse_policy
from spinn_traces.replay.record import Finals, Machine, PlanUse, RunRecord, RunSpec, link_series

from .processes import RunFailed, Running, get, metric, started

READY_TIMEOUT_S = 240.0  # at the first start on a machine every engine is measured
END_TIMEOUT_S = 60.0
LEAD_S = 1.0
"""The source has frames for this time beyond the run and a deadline, for the time before time 0 and after the end."""

OPEN_LINK = ("--up-mbps", "1000", "--down-mbps", "1000", "--rtt-ms", "0", "--loss", "0")
COMPUTE = "spinn_batch_compute_seconds_sum"

Progress = Callable[[float], None]
"""Told the part of the run that is done, 0 to 1."""


def frames_to_play(duration_s: float, deadline_ms: float, fps: float) -> int:
    """The most frames that the client takes from its source."""
    return math.ceil((duration_s + deadline_ms / 1000 + LEAD_S) * fps)


def run_real(
    spec: RunSpec, trace: Trace, bundle: Bundle, fps: float, machine: Machine, progress: Progress
) -> RunRecord:
    """Do one run, in real time.

    fps: of the source, if the spec names none.

    Raises:
        RunFailed: a process failed; names it and its reason. No process is left.
    """
    with tempfile.TemporaryDirectory(prefix="spinn-replay-") as name, ExitStack() as stack:
        folder = Path(name)

        def start(process: str, arguments: Sequence[str], core: int | None) -> Running:
            return stack.enter_context(started(process, arguments, folder, core))

        shared = ("--bundle", spec.bundle, "--runtime", spec.runtime, "--threads", "1")
        server = start("server", ("serve", "--port", "0", *shared), machine.server_core)
        server_port = _port(server.line("ready ", READY_TIMEOUT_S))
        get(server_port, "/readyz")
        shaper = start("shaper", _shaper_arguments(spec, server_port), machine.server_core)
        shaper_port = _port(shaper.line("ready ", END_TIMEOUT_S))
        control_port = _port(shaper.line("control ", END_TIMEOUT_S))
        results, summary = folder / "results.jsonl", folder / "summary.json"
        arguments = _client_arguments(spec, bundle, shaper_port, spec.fps or fps)
        client = start("client", (*arguments, "--jsonl", str(results), "--summary", str(summary), *shared),
                       machine.client_core)  # fmt: skip
        client.wait(lambda: (results.exists() and results.stat().st_size) or None, READY_TIMEOUT_S, "gave no result")
        began = json.loads(get(control_port, "/", dict.fromkeys(FIELDS, "trace") | {"position_s": spec.offset_s}))
        computed_s = metric(server_port, COMPUTE)
        _wait_until(began["at_s"] + spec.duration_s, spec.duration_s, (server, shaper, client), progress)
        ended, computed_s = json.loads(get(control_port)), metric(server_port, COMPUTE) - computed_s
        client.interrupt()
        client.finish(END_TIMEOUT_S)
        figures = json.loads(summary.read_text())
        finals = _finals(results, began["at_s"], spec.duration_s)
    return RunRecord(
        spec=spec,
        machine=machine,
        finals=finals,
        captured=finals.frame[-1] - finals.frame[0] + 1,
        dropped_by={why: count for why, count in figures["dropped_by"].items() if why != "stopped"},
        plans=_plans(finals, figures["plans"]),
        bytes_up=ended["up"]["delivered_bytes"] - began["up"]["delivered_bytes"],
        bytes_down=ended["down"]["delivered_bytes"] - began["down"]["delivered_bytes"],
        server_compute_ms=1000 * computed_s,
        link=link_series(trace, spec.offset_s, spec.duration_s),
    )


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _shaper_arguments(spec: RunSpec, server_port: int) -> list[str]:
    return [
        "shape", "--listen", "127.0.0.1:0", "--to", f"127.0.0.1:{server_port}", "--control", "127.0.0.1:0",
        "--trace", spec.trace.file, "--format", spec.trace.format, "--seed", str(spec.seed + spec.repeat), *OPEN_LINK,
    ]  # fmt: skip


def _client_arguments(spec: RunSpec, bundle: Bundle, port: int, fps: float) -> list[str]:
    frames = frames_to_play(spec.duration_s, spec.deadline_ms, fps)
    arguments = [
        "run", "--quiet", "--source", spec.source, "--loop", "--frames", str(frames), "--deadline-ms",
        repr(spec.deadline_ms), "--server", f"ws://127.0.0.1:{port}",
        *client_arguments(parse_policy(spec.policy, bundle), bundle),
    ]  # fmt: skip
    if spec.fps is not None:
        arguments += ["--fps", repr(spec.fps)]
    if spec.device_slowdown != 1:
        arguments += ["--device-slowdown", repr(spec.device_slowdown)]
    return arguments


def _wait_until(end_s: float, duration_s: float, running: Sequence[Running], progress: Progress) -> None:
    """Until then on the monotonic clock, as long as all go on."""
    while (left := end_s - time.monotonic()) > 0:
        for one in running:
            one.check()
        progress(1 - left / duration_s)
        time.sleep(min(left, 0.2))


def _lines(results: Path) -> Iterator[dict[str, Any]]:
    with results.open() as lines:
        for line in lines:
            yield json.loads(line)


def _finals(results: Path, zero_s: float, duration_s: float) -> Finals:
    """Final results of the frames captured in the run, in the order of the frames. zero_s: time 0, monotonic."""
    kept = []
    for line in _lines(results):
        captured_s = line["at_s"] - line["age_ms"] / 1000 - zero_s
        if line["kind"] == "final" and 0 <= captured_s < duration_s:
            kept.append({**line, "captured_s": round(captured_s, 5), "correct": None})
    if not kept:
        raise RunFailed("the client answered no frame that was captured during the run")
    kept.sort(key=lambda line: line["frame"])
    names = Finals.__dataclass_fields__
    return Finals(**{name: tuple(line[name] for line in kept) for name in names})


def _plans(finals: Finals, used: list[dict[str, Any]]) -> tuple[PlanUse, ...]:
    """The plans, each with its first frame in the run."""
    by_id = {plan["id"]: plan for plan in used}
    plan = np.array(finals.plan)
    changes = np.flatnonzero(np.diff(plan, prepend=plan[0] - 1))
    uses = []
    for at in changes.tolist():
        said = by_id[finals.plan[at]]
        uses.append(
            PlanUse(finals.captured_s[at], said["id"], said["split"], said["threshold"], said["codec"], said.get("why"))
        )
    return tuple(uses)
