"""Does splitting cost anything against the best engine on the whole network?

    python benchmarks/runtime.py [--json] [--seconds 30]

One thread pinned to one core, batch 1. For the default bundle and EfficientNet-Lite0 at 224 px, in float32 and, where
the processor computes in it, bfloat16, these run in turn, some runs in a row each (the first not counted), until every
median is known to within 0.5 % or the time is up; what is compared with each other is a group of its own.
All is built anew some times over, in an order that is drawn: where a graph's weights happen to lie in memory is worth a
few hundredths, and what is built first is often slower by two.

    eager torch, ONNX Runtime, OpenVINO   the whole network without exits (ONNX Runtime has no bfloat16 on CPUs)
    ours         head to the cut point nearest to half of the multiply-adds, then the tail from there, through our
                 interface, on the engine that `auto` found fastest of this precision
    halves by hand                        the same two pieces in the interface of either engine, the second one reading
                 where the first one writes: what a cut costs without our code
    OpenVINO, open batch                  its graph for any batch size, with a batch of 1
    ours, exits  every exit evaluated, its confidence computed and its answer ready, none firing

Times are medians over all runs, and ratios medians of each turn's own ratio, which a machine that changes its speed
between turns does not move. ratio_to_best is ours over the best whole graph of that precision, and
halves_by_hand_ratio_to_best the better engine's halves by hand over it. exits_macs_share: the heads' multiply-adds over
the backbone's. best_times_faster_than_eager: what the best whole graph reaches, which ours can hardly exceed.
preprocess_ms: crop, resize, normalise and layout of a 1280x720 frame for the default bundle.
"""

from __future__ import annotations

import argparse
import json
import os

if hasattr(os, "sched_setaffinity"):  # before any engine counts the cores
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import contestants
import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from spinn_stream.frame import crop, normalise
from spinn_stream.model.bundle import Bundle
from spinn_stream.runtime import Engine, answers, choose_engine
from spinn_stream.runtime.engines import open_one
from spinn_stream.runtime.measuring import halfway, run_halves
from spinn_stream.runtime.timing import StopRule, sample, summary

BUILDS = 12
"""Times that all graphs are built anew."""

STREAK = 20
"""Runs in a row, the first not counted: a device runs one thing again and again, and has it in its caches."""

ENGINES = {"f32": ("onnxruntime", "openvino-f32", "torch"), "bf16": ("openvino",)}


def exits_run(bundle: Bundle, engine: Engine, x: np.ndarray) -> object:
    for start, stop in bundle.pieces(0, bundle.last):
        x, output = engine.run(start, stop, x)
        if stop < bundle.last:  # whether to stop here; the final answer is not counted, here as in `split_run`
            assert output is not None
            reached = bundle.exit_at[stop]
            answers(reached.name, output, reached.temperature)
    return x


def has_bf16(bundle: Bundle) -> bool:
    return getattr(open_one(bundle, "openvino", threads=1), "precision", "") == "bf16"


def built(makers: Sequence[tuple[str, Callable[[], contestants.Run]]], draw: random.Random) -> contestants.Named:
    """What the makers make, built and run once in an order that is drawn, by name in the order given."""
    made = {}
    for name, make in draw.sample(makers, len(makers)):
        made[name] = make()
        made[name]()
    return {name: made[name] for name, _ in makers}


def groups(
    bundle: Bundle, module: torch.nn.Module, precision: str, engine: str
) -> list[list[tuple[str, Callable[[], contestants.Run]]]]:
    """What is run in turn with what: makers by the name of the time."""
    x = np.random.default_rng(0).standard_normal((1, *bundle.cut_points[0].shape), np.float32)
    cut = halfway(bundle)
    graph, head, tail = (contestants.graph(bundle, *ends) for ends in ((0, bundle.last), (0, cut), (cut, bundle.last)))

    def halves() -> contestants.Run:
        return partial(run_halves, bundle, open_one(bundle, engine, threads=1), x)

    def exits() -> contestants.Run:
        return partial(exits_run, bundle, open_one(bundle, engine, threads=1), x)

    openvino = partial(contestants.openvino, graph, x, precision)
    best = [("openvino_ms", openvino)]
    middle = bundle.cut_points[cut].shape
    by_hand = [("openvino_halves_ms", partial(contestants.openvino_halves, head, tail, x, middle, precision))]
    if precision == "f32":
        best.append(("ort_ms", partial(contestants.onnx_runtime, graph, x)))
        by_hand.append(("ort_halves_ms", partial(contestants.onnx_runtime_halves, head, tail, x)))
    return [
        [("ours_ms", halves), *best, *by_hand],
        [("ours_beside_exits_ms", halves), ("ours_exits_ms", exits)],
        [
            ("ours_beside_eager_ms", halves),
            ("eager_torch_ms", partial(contestants.eager_torch, module, x, precision)),
            ("openvino_open_batch_ms", partial(openvino, open_batch=True)),
            *((f"{name.removesuffix('_ms')}_beside_eager_ms", make) for name, make in best),
        ],
    ]


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Median over the turns of the ratio of their medians."""
    a, b = (np.median(np.reshape(t, (-1, STREAK - 1)), axis=1) for t in (times, others))
    return float(np.median(a / b))


def case(bundle: Bundle, module: torch.nn.Module, precision: str, rule: StopRule) -> dict[str, Any]:
    engine = next(n for n in choose_engine(bundle, threads=1).order if n in ENGINES[precision])
    times: dict[str, list[float]] = {}
    draw = random.Random(0)
    for _ in range(BUILDS):
        for makers in groups(bundle, module, precision, engine):
            group = built(makers, draw)
            for name, found in zip(group, sample(list(group.values()), rule, streak=STREAK), strict=True):
                times.setdefault(name, []).extend(found)
    medians = {name: round(summary(t).median_ms, 4) for name, t in times.items()}
    whole = [name for name in ("ort", "openvino") if f"{name}_ms" in medians]
    best = min(whole, key=lambda name: medians[f"{name}_ms"])
    share = sum(e.macs for e in bundle.exits) / bundle.cut_points[-1].macs
    extra = ratio(times["ours_exits_ms"], times["ours_beside_exits_ms"]) - 1
    return {
        "model": bundle.name,
        "precision": precision,
        "ort_ms": None,
        **medians,
        "ours_engine": engine,
        "split": bundle.cut_points[halfway(bundle)].name,
        "exits_macs_share": round(share, 4),
        "exits_time_share": round(extra, 4),
        "exits_time_over_macs": round(extra / share, 3),
        "ratio_to_best": round(ratio(times["ours_ms"], times[f"{best}_ms"]), 4),
        "halves_by_hand_ratio_to_best": min(
            round(ratio(times[f"{name}_halves_ms"], times[f"{best}_ms"]), 4) for name in whole
        ),
        "times_faster_than_eager": round(ratio(times["eager_torch_ms"], times["ours_beside_eager_ms"]), 2),
        "best_times_faster_than_eager": max(
            round(ratio(times["eager_torch_ms"], times[f"{name}_beside_eager_ms"]), 2) for name in whole
        ),
    }


def preprocess_ms(bundle: Bundle, rule: StopRule) -> float:
    frame = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8), (9, 9), 3)
    frame = np.asarray(frame, np.uint8)
    times = sample([lambda: normalise(crop(frame, bundle.input.size), bundle.input)], rule)[0]
    return round(summary(times).median_ms, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=30.0, help="for each of the three groups of a case, at most")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rule = StopRule(warm_up=5, least=100, spread=0.005, budget_s=args.seconds / BUILDS)
    models = [contestants.default_bundle(), contestants.lite0_224()]
    precisions = ["f32", "bf16"] if has_bf16(models[0][0]) else ["f32"]
    cases = [case(bundle, module, precision, rule) for bundle, module in models for precision in precisions]
    for path in Path(models[1][0].graph_path.parent).iterdir():
        path.unlink()
    models[1][0].graph_path.parent.rmdir()
    found = {
        "cases": cases,
        "ratio_to_best": max(c["ratio_to_best"] for c in cases),
        "preprocess_ms": preprocess_ms(models[0][0], StopRule(least=200, spread=0.005, budget_s=5)),
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
