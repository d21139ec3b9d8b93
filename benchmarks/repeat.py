"""What does the repeat exit save, and what does it cost?

    python benchmarks/repeat.py --clips DIR [--json] [--bundle DIR] [--plot FILE] [--part clips|scenes|classes ...]
    python benchmarks/repeat.py --clips DIR --real [--device-slowdown 8] [--rounds 3] [--json]

clips    each clip with the exit, against the same run without it: every frame, as fast as the pipeline can. `alone`:
         the whole network on the device. `served`: a device that is 8 times as slow, a server, our policy and the
         default agreement. `paced`: the same at 30 frames a second, where the last answers are of newer frames.
         Client, codec, session and server are the real ones, in virtual time (docs/simulator.md), so these figures do
         not depend on how busy the machine is. Agreement is with the whole network on every frame; `clear` counts
         frames whose two likeliest classes are 0.1 apart.
scenes   what must not be missed: cuts between clips, a slow drift of brightness, an object that enters slowly, a camera
         that moves. The network is run on every frame, to compare.
classes  by how much a frame has changed: how often the whole network then gives another answer than that for the
         nearest of the last frames, and the accuracy that a repeat would lose. `PRIOR` of the exit is made of these.
--real   frames a second of real processes instead, client on one core, server on another, with the exit and without in
         turn. It needs a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from repeat_real import real_rates
from repeat_scenes import Truth, classes, look_macs, plot_scenes, scenes
from rich.console import Console
from rich.table import Table

from spinn_client import Result
from spinn_client.sources.base import pixels_of
from spinn_client.sources.registry import open_source
from spinn_client.steering.guide import Asked
from spinn_stream.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from spinn_stream.frame import Pixels, crop
from spinn_stream.plan import DEFAULT_SLA, Plan
from spinn_stream.runtime import Engine, ExitOutput, open_engine, stored_profile
from spinn_stream.runtime.engines.base import Activation
from spinn_stream.trace import Trace
from spinn_traces.simulator import Costs, MemoEngine, Outcome, Side, System, play
from spinn_traces.simulator.calibration import BATCHES

CLEAR = 0.1
SLOWDOWN, FPS = 8.0, 30.0
PATIENT_MS = 60_000.0
LINK = Trace(np.zeros(1), 1000.0, np.array([20.0]), np.array([20.0]), np.array([20.0])).filled()  # Mb/s, Mb/s, ms
SETTLED_FRAMES = 600
"""With a server, a shorter clip is played again until there are as many: in its first seconds a session settles its
plan, with the exit at another time than without it."""
PARTS = ("clips", "scenes", "classes")


class Counted:
    """An engine that counts the multiply-adds of what it runs, heads of exits included."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.name = engine.name
        self._cuts, self._heads = bundle.cut_points, {e.cut: e.macs for e in bundle.exits}
        self._engine = engine
        self.prepare, self.ready, self.drop = engine.prepare, engine.ready, engine.drop
        self.macs = 0

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> tuple[Activation, ExitOutput | None]:
        if x.any():  # not a warm-up
            head = self._heads.get(stop, 0) if exit else 0
            self.macs += len(x) * (self._cuts[stop].macs - self._cuts[start].macs + head)
        return self._engine.run(start, stop, x, exit=exit)


class Contest:
    """Clips with and without the exit."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.bundle = bundle
        self.engine = MemoEngine(engine)
        profile = stored_profile(bundle, engine, threads=1, batches=BATCHES)
        self.side = Side(profile, Costs(profile.preprocess.median_ms))
        self.look_macs = look_macs(bundle.input.size)

    def run(self, system: System, pictures: Sequence[Pixels], *, repeat: bool) -> tuple[Outcome, float]:
        """The outcome, and multiply-adds of all frames, comparison included."""
        counted = Counted(self.bundle, self.engine)
        outcome = play(replace(system, engine=counted, frames=len(pictures), repeat=repeat), pictures)
        return outcome, counted.macs + repeat * len(pictures) * self.look_macs

    def clip(self, pictures: Sequence[Pixels]) -> tuple[dict[str, Any], list[Result]]:
        """Figures, and the whole network's answers by frame."""
        bundle, side = self.bundle, self.side
        whole = Plan(1, bundle.last, bundle.thresholds[-1].threshold)  # of which no early exit is part
        assert not bundle.needed(whole.confidence_threshold)
        alone = System(bundle, self.engine, side, None, whole, fps=None, deadline_ms=PATIENT_MS)
        without, macs = self.run(alone, pictures, repeat=False)
        repeated, fewer = self.run(alone, pictures, repeat=True)
        truth = [r for _, r in sorted(without.results, key=lambda pair: pair[1].frame)]
        asked = Asked.of("spinn", DEFAULT_SLA)
        slow = replace(side, slowdown=SLOWDOWN)
        served = System(bundle, self.engine, slow, side, asked, LINK, fps=None, deadline_ms=1000.0)
        paced = replace(served, fps=FPS, deadline_ms=150.0)
        found = {
            "frames": len(pictures),
            "alone": {
                "macs_fraction": round(fewer / macs, 4), "fps_ratio": ratio(repeated, without),
                **agreement(repeated, truth), **counts(repeated),
            },
            "served": self.with_server(served, pictures, truth),
            "paced": self.with_server(paced, pictures, truth),
        }  # fmt: skip
        return found, truth

    def with_server(self, system: System, pictures: Sequence[Pixels], truth: Sequence[Result]) -> dict[str, Any]:
        """Server's time and bytes of an answered frame, and answers a second, over those without the exit."""
        turns = math.ceil(SETTLED_FRAMES / len(pictures))
        pictures, truth = list(pictures) * turns, list(truth) * turns
        without, _ = self.run(system, pictures, repeat=False)
        found, _ = self.run(system, pictures, repeat=True)
        answered = len(without.results) / len(found.results)
        return {
            "server_ms_fraction": fraction(answered * found.server_ms, without.server_ms),
            "bytes_fraction": fraction(answered * found.bytes_up, without.bytes_up),
            "fps_ratio": ratio(found, without), **agreement(found, truth), "without": agreement(without, truth),
            **counts(found), "plans": self.plans(found), "plans_without": self.plans(without),
        }  # fmt: skip

    def plans(self, outcome: Outcome) -> list[str]:
        cuts = self.bundle.cut_points
        return [f"{cuts[p.split].name} {p.confidence_threshold} {p.codec}" for _, p, _ in outcome.plans]


def ratio(one: Outcome, other: Outcome) -> float:
    """Answers a second over those of the other run."""
    rates = [len(o.results) / max(at for at, _ in o.results) for o in (one, other)]
    return round(rates[0] / rates[1], 3)


def fraction(one: float, other: float) -> float | None:
    """None: there was nothing to save."""
    return round(one / other, 4) if other else None


def margin(result: Result) -> float:
    return result.top[0][1] - result.top[1][1]


def agreement(outcome: Outcome, truth: Sequence[Result]) -> dict[str, float]:
    same = [(r.label == truth[r.frame].label, margin(truth[r.frame]) >= CLEAR) for _, r in outcome.results]
    clear = [equal for equal, sure in same if sure]
    return {
        "agreement": round(float(np.mean([equal for equal, _ in same])), 4),
        "agreement_clear": round(float(np.mean(clear)), 4),
    }


def counts(outcome: Outcome) -> dict[str, float]:
    repeated = np.mean([r.repeats is not None for _, r in outcome.results])
    return {"repeated": round(float(repeated), 4), "audits": outcome.audits, "disagreed": outcome.disagreed}


def pictures_of(path: Path, size: int) -> list[Pixels]:
    """Frames as the network sees them, BGR; cropping them again changes nothing."""
    source = open_source(str(path))
    try:
        return [np.ascontiguousarray(crop(frame, size)[..., ::-1]) for frame in pixels_of(source)]
    finally:
        source.close()


def measure(bundle: Bundle, engine: Engine, files: Sequence[Path], parts: Sequence[str]) -> dict[str, Any]:
    contest, found = Contest(bundle, engine), dict[str, Any]()
    clips = {path.name: pictures_of(path, bundle.input.size) for path in files}
    truths: dict[str, Truth] = {}
    rows = {}
    for name, pictures in clips.items():
        if "clips" in parts:
            rows[name], answers = contest.clip(pictures)
            truths[name] = Truth.of_results(bundle, pictures, answers)
        else:
            truths[name] = Truth.run(bundle, engine, pictures)
    if rows:
        found["clips"] = rows
        found["mean_macs_fraction"] = round(float(np.mean([r["alone"]["macs_fraction"] for r in rows.values()])), 4)
    if "scenes" in parts:
        found["scenes"] = scenes(bundle, engine, truths)
    if "classes" in parts:
        found["classes"] = classes(truths.values())
    return found


def show(found: dict[str, Any]) -> None:
    console = Console()
    for part, column in (("alone", "multiply-adds"), ("served", "server's time"), ("paced", "server's time")):
        table = Table(title=f"{part}: with the repeat exit, over the same without it", box=None)
        for name in ("clip", "repeated", column, "bytes", "frames/s", "agreement", "clear"):
            table.add_column(name, justify="left" if name == "clip" else "right")
        for name, both in found.get("clips", {}).items():
            row = both[part]
            saved = row.get("macs_fraction", row.get("server_ms_fraction"))
            cells = [row["repeated"], saved, row.get("bytes_fraction"), row["fps_ratio"], row["agreement"]]
            table.add_row(name, *("" if c is None else f"{c:.3f}" for c in (*cells, row["agreement_clear"])))
        console.print(table)
    for part in ("scenes", "classes"):
        if part in found:
            console.print_json(json.dumps({part: {k: v for k, v in found[part].items() if k != "course"}}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="folder of video files")
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--part", action="append", choices=PARTS, help="default: all")
    parser.add_argument("--plot", type=Path, help="a picture of drift and object")
    parser.add_argument("--real", action="store_true", help="frames a second of real processes")
    parser.add_argument("--device-slowdown", type=float, default=SLOWDOWN)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one object, for scripts")
    args = parser.parse_args()
    files = sorted(p for p in args.clips.iterdir() if p.is_file())
    bundle = load_bundle(args.bundle)
    if args.real:
        found = {"real": real_rates(args.bundle, args.runtime, files, args.device_slowdown, args.rounds)}
        print(json.dumps(found, indent=1))
        return
    engine = open_engine(bundle, args.runtime, threads=1)
    found = measure(bundle, engine, files, args.part or PARTS)
    if args.plot is not None and "scenes" in found:
        plot_scenes(args.plot, found["scenes"])
    for scene in found.get("scenes", {}).values():
        scene.pop("course", None)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    found = {
        "command": "python benchmarks/repeat.py --clips DIR --json", "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "bundle": bundle.name, "engine": engine.name, **found,
    }  # fmt: skip
    print(json.dumps(found, indent=1)) if args.json else show(found)


if __name__ == "__main__":
    main()
