"""Does splitting cost anything against the best engine on the whole network?

    python benchmarks/runtime.py [--json] [--seconds 30] [--huge-pages]

One thread pinned to one core, batch 1. For `lite2-200` and EfficientNet-Lite0 at 224 px, in float32 and, where
the processor computes in it, bfloat16, these run in turn, each in a process of its own, some runs in a row each (the
first not counted), until every median is known to within 0.5 % or the time is up. Contestants that are compared form a
group. All is built anew several times, since the place of a graph's weights in memory matters by a few percent.

    eager torch, ONNX Runtime, OpenVINO   the whole network without exits (ONNX Runtime has no bfloat16 on CPUs)
    ours         head to the cut point nearest to half of the multiply-adds, then the tail from there, through our
                 interface, on the engine that `auto` found fastest of this precision
    halves by hand                        the same two pieces in the interface of either engine, the second one reading
                 where the first one writes: what a cut costs without our code
    OpenVINO, open batch                  its graph for any batch size, with a batch of 1
    ours, exits  every exit evaluated, its confidence computed and its answer ready, none firing

Times are medians over all runs. Ratios are medians of each turn's own ratio, so changes of the machine's speed between
turns do not matter. ratio_to_best is ours over the best whole graph of that precision, and halves_by_hand_ratio_to_best
the better engine's halves by hand over it. exits_macs_share: the heads' multiply-adds over the backbone's.
best_times_faster_than_eager: what the best whole graph reaches, which ours can hardly exceed. preprocess_ms: crop,
resize, normalise and layout of a 1280x720 frame for `lite2-200`.

Our engines put their weights into huge pages if the system has them. The others run as their own interface runs them,
or, with --huge-pages, in huge pages, too: the difference is then the price of the cut alone.
"""

from __future__ import annotations

import argparse
import json
import os

if hasattr(os, "sched_setaffinity"):  # before any engine counts the cores
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import random
import shutil
from contextlib import ExitStack
from functools import partial
from typing import Any

import contestants
import cv2
import numpy as np
from contestants import Model
from in_turn import Contestant, Maker, turns
from rich.console import Console
from rich.table import Table

from spinn_stream.bundle import Bundle
from spinn_stream.frame import crop, normalise
from spinn_stream.runtime import choose_engine
from spinn_stream.runtime.engines.registry import open_one
from spinn_stream.runtime.measure.timing import StopRule, sample, summary
from spinn_stream.runtime.measure.worker import halfway

BUILDS = 12
"""Times that all graphs are built anew."""

STREAK = 20
"""Runs in a row, the first not counted: a device runs one thing again and again, and has it in its caches."""

ENGINES = {"f32": ("onnxruntime", "openvino-f32", "torch"), "bf16": ("openvino",)}


Streaks = list[list[float]]
"""Times in ms, those of each streak together."""


def has_bf16(bundle: Bundle) -> bool:
    return getattr(open_one(bundle, "openvino", threads=1), "precision", "") == "bf16"


def groups(model: Model, precision: str, engine: str, *, huge_pages: bool) -> list[dict[str, Maker]]:
    """What is run in turn with what, by the name of its time."""

    def other(maker: Maker) -> Maker:
        return partial(contestants.with_huge_pages, maker) if huge_pages else maker

    halves = partial(contestants.ours_halves, model, engine)
    best = {"openvino": other(partial(contestants.openvino, model, precision))}
    by_hand = {"openvino_halves": other(partial(contestants.openvino_halves, model, precision))}
    if precision == "f32":
        best["ort"] = other(partial(contestants.onnx_runtime, model))
        by_hand["ort_halves"] = other(partial(contestants.onnx_runtime_halves, model))
    return [
        {"ours": halves, **best, **by_hand},
        {"ours_beside_exits": halves, "ours_exits": partial(contestants.ours_exits, model, engine)},
        {
            "ours_beside_eager": halves,
            "eager_torch": partial(contestants.eager_torch, model, precision),
            "openvino_open_batch": other(partial(contestants.openvino, model, precision, open_batch=True)),
            **{f"{name}_beside_eager": maker for name, maker in best.items()},
        },
    ]


def measured(makers: dict[str, Maker], rule: StopRule) -> dict[str, Streaks]:
    """Streaks by name, as many for each."""
    found: dict[str, Streaks] = {name: [] for name in makers}
    draw = random.Random(0)
    with ExitStack() as stack:
        running = [stack.enter_context(Contestant(maker, warm_up=rule.warm_up)) for maker in makers.values()]
        for _ in range(BUILDS):
            for name, streaks in zip(makers, turns(running, rule, streak=STREAK, draw=draw), strict=True):
                found[name].extend(streaks)
    return found


def ratio(times: Streaks, others: Streaks) -> float:
    """Median over the turns of the ratio of their medians."""
    return float(np.median([np.median(a) / np.median(b) for a, b in zip(times, others, strict=True)]))


def case(model: Model, precision: str, rule: StopRule, *, huge_pages: bool) -> dict[str, Any]:
    bundle = model.bundle
    engine = next(n for n in choose_engine(bundle, threads=1).order if n in ENGINES[precision])
    times: dict[str, Streaks] = {}
    for makers in groups(model, precision, engine, huge_pages=huge_pages):
        times.update(measured(makers, rule))
    medians = {name: round(summary(np.concatenate(t).tolist()).median_ms, 4) for name, t in times.items()}
    whole = [name for name in ("ort", "openvino") if name in medians]
    best = min(whole, key=medians.__getitem__)
    share = sum(e.macs for e in bundle.exits) / bundle.cut_points[-1].macs
    extra = ratio(times["ours_exits"], times["ours_beside_exits"]) - 1
    return {
        "model": bundle.name,
        "precision": precision,
        "ort_ms": None,
        **{f"{name}_ms": ms for name, ms in medians.items()},
        "ours_engine": engine,
        "split": bundle.cut_points[halfway(bundle)].name,
        "exits_macs_share": round(share, 4),
        "exits_time_share": round(extra, 4),
        "exits_time_over_macs": round(extra / share, 3),
        "ratio_to_best": round(ratio(times["ours"], times[best]), 4),
        "halves_by_hand_ratio_to_best": min(round(ratio(times[f"{name}_halves"], times[best]), 4) for name in whole),
        "times_faster_than_eager": round(ratio(times["eager_torch"], times["ours_beside_eager"]), 2),
        "best_times_faster_than_eager": max(
            round(ratio(times["eager_torch"], times[f"{name}_beside_eager"]), 2) for name in whole
        ),
    }


def preprocess_ms(bundle: Bundle, rule: StopRule) -> float:
    frame = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8), (9, 9), 3)
    frame = np.asarray(frame, np.uint8)
    cv2.setNumThreads(1)
    times = sample([lambda: normalise(crop(frame, bundle.input.size), bundle.input)], rule)[0]
    return round(summary(times).median_ms, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=30.0, help="for each of the three groups of a case, at most")
    parser.add_argument("--huge-pages", action="store_true", help="give them to the others, too")
    args = parser.parse_args()
    rule = StopRule(warm_up=5, least=100, spread=0.005, budget_s=args.seconds / BUILDS)
    models = [contestants.lite2_128(), contestants.lite0_224()]
    precisions = ["f32", "bf16"] if has_bf16(models[0].bundle) else ["f32"]
    cases = [case(model, p, rule, huge_pages=args.huge_pages) for model in models for p in precisions]
    for model in models:
        if model.folder is not None:
            shutil.rmtree(model.folder)
    found = {
        "cases": cases,
        "ratio_to_best": max(c["ratio_to_best"] for c in cases),
        "preprocess_ms": preprocess_ms(models[0].bundle, StopRule(least=200, spread=0.005, budget_s=5)),
    }
    if args.json:
        print(json.dumps(found))
        return
    table = Table("median ms", *(f"{c['model']} {c['precision']}" for c in cases), title="one thread, batch 1")
    for name in cases[0]:
        if name not in ("model", "precision"):
            table.add_row(name, *("-" if c[name] is None else str(c[name]) for c in cases))
    Console().print(table, f"preprocessing of a 1280x720 frame: {found['preprocess_ms']} ms")


if __name__ == "__main__":
    main()
