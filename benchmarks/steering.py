"""How soon is the right plan in force if link, device or server change? And does it stay if they only waver?

    python benchmarks/steering.py [--json] [--plot FILE] [--seconds 14] [--noise-s 180] [--noise 0.2]
                                  [--device-slowdown 8] [--server-slowdown 2]

Real processes: a client (core 0) under `--policy spinn` and the default agreement, the shaper and a server (core 1).
One thing after the other is changed and changed back: the link's capacity (20 to 0.5 Mb/s), its round trip (20 to
300 ms), the device (4 times slower), the server (4 times slower), the link (cut). For each: seconds from the change to
the first frame under another plan, and how many plans there were until the next one. Then a link whose capacity and
round trip waver by 20 %: changes of plan a minute.

The server starts at half of its speed. From full speed, on a processor that takes 9 ms for a picture, a server that is
4 times slower could just do the 30 pictures a second that are sent, or just not, as the machine's own speed changes.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvloop
from lite2_200 import LITE2_200
from pinned import change, cores, finals, follow, role, serve, shaper, slow_down, wait_for_results
from rich.console import Console
from rich.table import Table

from spinn_client import DeviceConfig, FeedConfig, PlanChanged, Stream, tune_process
from spinn_client.sinks.jsonl import ResultLog
from spinn_stream.bundle import load_bundle
from spinn_stream.cli.options import save_figure

FPS, DEADLINE_MS = 30.0, 150.0
LINK: dict[str, Any] = {"up_mbps": 20.0, "down_mbps": 50.0, "rtt_ms": 20.0}
STEPS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    # name, who, what
    ("capacity 20 -> 0.5 Mb/s", "link", {"up_mbps": 0.5}),
    ("capacity 0.5 -> 20 Mb/s", "link", {"up_mbps": 20.0}),
    ("round trip 20 -> 300 ms", "link", {"rtt_ms": 300.0}),
    ("round trip 300 -> 20 ms", "link", {"rtt_ms": 20.0}),
    ("device 4 times slower", "device", {"factor": 4.0}),
    ("device as before", "device", {"factor": 1.0}),
    ("server 4 times slower", "server", {"factor": 4.0}),
    ("server as before", "server", {"factor": 1.0}),
    ("link cut", "link", {"stall": True, "refuse": True}),
    ("link restored", "link", {"stall": False, "refuse": False}),
)
NOISE_EVERY_S = 0.5


async def drive(address: str, results: Path, base: float) -> None:
    plans: list[PlanChanged] = []
    stream = Stream(
        "demo", server=address, deadline_ms=DEADLINE_MS, feed=FeedConfig(fps=FPS, loop=True),
        device=DeviceConfig(bundle=LITE2_200, slowdown=base), sinks=[ResultLog(results)],
        on_event=lambda event: plans.append(event) if isinstance(event, PlanChanged) else None,
    )  # fmt: skip
    async with stream:
        tune_process()
        await follow(stream.slow_down, base)  # until the parent ends it
    names = [cut.name for cut in stream.bundle.cut_points]
    print(json.dumps([
        {"id": e.plan.id, "split": names[e.plan.split], "threshold": e.plan.confidence_threshold,
         "codec": None if e.plan.codec is None else str(e.plan.codec), "why": e.reason}
        for e in plans
    ]), flush=True)  # fmt: skip


def play(seconds: float, noise_s: float, noise: float, slowdown: float, server_slowdown: float) -> dict[str, Any]:
    client_core, server_core = cores()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        results = folder / "results.jsonl"
        server = stack.enter_context(role(__file__, "server", server_core, "--server-slowdown", str(server_slowdown)))
        assert server.stdout is not None
        address = server.stdout.readline().strip().removeprefix("ws://")
        listening, control = stack.enter_context(shaper(address, server_core, LINK))
        client = stack.enter_context(
            role(__file__, "client", client_core, "--address", f"ws://{listening}", "--results", str(results),
                 "--device-slowdown", str(slowdown))
        )  # fmt: skip
        wait_for_results(results, client)
        began = time.monotonic()
        time.sleep(2 * seconds)
        changes = []
        for name, who, what in STEPS:
            at = (
                change(control, what) if who == "link"
                else slow_down((client if who == "device" else server).stdin, what["factor"])
            )  # fmt: skip
            changes.append((name, at))
            time.sleep(seconds)
        steps_end = time.monotonic()
        rng = random.Random(0)
        while time.monotonic() < steps_end + noise_s:
            wavering = {k: LINK[k] * math.exp(noise * rng.gauss(0, 1)) for k in ("up_mbps", "rtt_ms")}
            change(control, wavering)
            time.sleep(NOISE_EVERY_S)
        ended = time.monotonic()
        assert client.stdin is not None and client.stdout is not None
        client.stdin.close()
        plans = {plan["id"]: plan for plan in json.loads(client.stdout.readline())}
        frames = finals(results)
    return found(frames, plans, changes, began, steps_end, ended)


def found(
    frames: list[dict[str, Any]], plans: dict[int, Any], changes: list[tuple[str, float]], began: float,
    steps_end: float, ended: float,
) -> dict[str, Any]:  # fmt: skip
    captured = [f["at_s"] - f["age_ms"] / 1000 for f in frames]
    switches = [
        (captured[i], frames[i]["plan"]) for i in range(1, len(frames)) if frames[i]["plan"] != frames[i - 1]["plan"]
    ]
    rows = []
    ends = [at for _, at in changes[1:]] + [steps_end]
    for (name, at), end in zip(changes, ends, strict=True):
        within = [(when, plan) for when, plan in switches if at <= when < end]
        rows.append({
            "step": name,
            "first_new_plan_s": round(within[0][0] - at, 2) if within else None,
            "last_new_plan_s": round(within[-1][0] - at, 2) if within else None,
            "plan_changes": len(within),
            "plans": [_shown(plans[plan]) for _, plan in within],
            "why": [plans[plan]["why"] for _, plan in within],
        })  # fmt: skip
    wavered = [(when, plan) for when, plan in switches if steps_end <= when <= ended]
    minutes = (ended - steps_end) / 60
    late = sum(f["age_ms"] > DEADLINE_MS + 20 for f in frames)
    return {
        "steps": rows,
        "worst_first_s": max((r["first_new_plan_s"] or 0.0) for r in rows),
        "most_changes": max(r["plan_changes"] for r in rows),
        "noise_changes_a_minute": round(len(wavered) / minutes, 2) if minutes > 0 else None,
        "noise_changes": [
            {"at_s": round(when - steps_end, 2), "plan": _shown(plans[plan]), "why": plans[plan]["why"]}
            for when, plan in wavered
        ],
        "frames": len(frames),
        "later_than_deadline_and_20_ms": late,
        "timeline": {
            "captured_s": [round(c - began, 3) for c in captured],
            "age_ms": [f["age_ms"] for f in frames],
            "where": [f["where"] for f in frames],
            "plan": [f["plan"] for f in frames],
            "changes": [(name, round(at - began, 2)) for name, at in changes],
            "plans": {str(k): _shown(v) for k, v in plans.items()},
        },
    }


def _shown(plan: dict[str, Any]) -> str:
    threshold = "no exit" if plan["threshold"] is None else f"{plan['threshold']:g}"
    return f"{plan['split']}, {threshold}" + (f", {plan['codec']}" if plan["codec"] else "")


def draw(measured: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    line = measured["timeline"]
    figure, (ages, splits) = plt.subplots(
        2, 1, figsize=(11, 6), sharex=True, layout="constrained", height_ratios=(2, 1)
    )
    for where, colour, marker in (("device", "C0", "."), ("server", "C1", "x")):
        chosen = [i for i, w in enumerate(line["where"]) if w == where]
        ages.plot([line["captured_s"][i] for i in chosen], [line["age_ms"][i] for i in chosen], marker, ms=3,
                  color=colour, label=f"answered by the {where}")  # fmt: skip
    ages.axhline(DEADLINE_MS, color="0.5", linewidth=0.8, linestyle="--", label="deadline")
    ages.set(ylabel="age of the answer, ms", ylim=(0, DEADLINE_MS * 1.25))
    ages.legend(loc="upper left", ncols=3, fontsize=8)
    names = [line["plans"][str(plan)].partition(",")[0] for plan in line["plan"]]
    order = sorted(set(names), key=[c.name for c in load_bundle(LITE2_200).cut_points].index)
    splits.step(line["captured_s"], [order.index(name) for name in names], where="post", color="C2")
    splits.set(yticks=range(len(order)), yticklabels=order, ylabel="the device stops at", xlabel="s")
    for name, at in line["changes"]:
        for axes in (ages, splits):
            axes.axvline(at, color="0.4", linewidth=0.7)
        ages.text(at, DEADLINE_MS * 1.22, " " + name, rotation=90, va="top", fontsize=7, color="0.3")
    save_figure(figure, path)


def show(measured: dict[str, Any]) -> None:
    table = Table(title="from a change to a plan", box=None)
    for name in ("step", "first frame after", "changes", "plans"):
        table.add_column(name, justify="left" if name in ("step", "plans") else "right")
    for row in measured["steps"]:
        first = "-" if row["first_new_plan_s"] is None else f"{row['first_new_plan_s']:.2f} s"
        table.add_row(row["step"], first, str(row["plan_changes"]), "; ".join(row["plans"]))
    Console().print(table)
    print(
        f"a link that wavers by 20 %: {measured['noise_changes_a_minute']} changes a minute; "
        f"{measured['later_than_deadline_and_20_ms']} of {measured['frames']} answers were later than promised"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one object, for scripts")
    parser.add_argument("--plot", type=Path, help="draw it")
    parser.add_argument("--seconds", type=float, default=14.0, help="between two changes")
    parser.add_argument("--noise-s", type=float, default=180.0)
    parser.add_argument("--noise", type=float, default=0.2, help="share; 0 shows what the machine's own noise does")
    parser.add_argument("--device-slowdown", type=float, default=8.0)
    parser.add_argument("--server-slowdown", type=float, default=2.0)
    parser.add_argument("--role", choices=("server", "client"), help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "server":
        uvloop.run(serve(options.server_slowdown))
    elif options.role == "client":
        uvloop.run(drive(options.address, options.results, options.device_slowdown))
    else:
        measured = play(
            options.seconds, options.noise_s, options.noise, options.device_slowdown, options.server_slowdown
        )
        if options.plot is not None:
            draw(measured, options.plot)
        if options.json:
            del measured["timeline"]
            print(json.dumps(measured))
        else:
            show(measured)


if __name__ == "__main__":
    main()
