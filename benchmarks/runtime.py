"""Does splitting cost anything against the best engine on the whole network?

    python benchmarks/runtime.py [--json] [--seconds 30]

One thread pinned to one core, batch 1. For the default bundle and EfficientNet-Lite0 at 224 px, in float32 and, where
the processor computes in it, bfloat16, these run in turn, some runs in a row each (the first not counted), until every
median is known to within 0.5 % or the time is up; first those that are compared as whole networks, then the others:

    eager torch, ONNX Runtime, OpenVINO   the whole network without exits (ONNX Runtime has no bfloat16 on CPUs)
    ours         head to the cut point nearest to half of the multiply-adds, then the tail from there, through our
                 interface, on the engine that `auto` found fastest of this precision
    OpenVINO, open batch                  its graph for any batch size, with a batch of 1
    ours, exits  every exit evaluated, its confidence computed and its answer ready, none firing

ratio_to_best is ours over the best whole graph of that precision. exits_macs_share: the heads' multiply-adds over the
backbone's. preprocess_ms: crop, resize, normalise and layout of a 1280x720 frame for the default bundle.
"""

from __future__ import annotations

import argparse
import json
import os

if hasattr(os, "sched_setaffinity"):  # before any engine counts the cores
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

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
from spinn_stream.runtime.timing import StopRule, sample, summary

STREAK = 20
"""Runs in a row, the first not counted: a device runs one thing again and again, and has it in its caches."""

ENGINES = {"f32": ("onnxruntime", "openvino-f32", "torch"), "bf16": ("openvino",)}


def middle(bundle: Bundle) -> int:
    """The cut point nearest to half of the multiply-adds."""
    half = bundle.cut_points[-1].macs / 2
    return min(range(1, bundle.last), key=lambda cut: abs(bundle.cut_points[cut].macs - half))


def split_run(bundle: Bundle, engine: Engine, x: np.ndarray, cut: int) -> object:
    y, _ = engine.run(0, cut, x, exit=False)
    return engine.run(cut, bundle.last, y, exit=False)


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


def case(bundle: Bundle, module: torch.nn.Module, precision: str, rule: StopRule) -> dict[str, Any]:
    x = np.random.default_rng(0).standard_normal((1, *bundle.cut_points[0].shape), np.float32)
    graph = contestants.whole_graph(bundle)
    choice = choose_engine(bundle, threads=1)
    ours = open_one(bundle, next(n for n in choice.order if n in ENGINES[precision]), threads=1)
    cut = middle(bundle)
    found: dict[str, Any] = {"model": bundle.name, "precision": precision, "ort_ms": None}
    whole: dict[str, contestants.Run] = {
        "openvino_ms": contestants.openvino(graph, x, precision),
        "ours_ms": partial(split_run, bundle, ours, x, cut),
    }
    if precision == "f32":
        whole["ort_ms"] = contestants.onnx_runtime(graph, x)
    others: dict[str, contestants.Run] = {
        "eager_torch_ms": contestants.eager_torch(module, x, precision),
        "openvino_open_batch_ms": contestants.openvino(graph, x, precision, open_batch=True),
        "ours_beside_exits_ms": whole["ours_ms"],
        "ours_exits_ms": partial(exits_run, bundle, ours, x),
    }
    for group in (whole, others):
        samples = sample(list(group.values()), rule, streak=STREAK)
        found |= {name: round(summary(s).median_ms, 4) for name, s in zip(group, samples, strict=True)}
    best = min(t for t in (found["ort_ms"], found["openvino_ms"]) if t is not None)
    share = sum(e.macs for e in bundle.exits) / bundle.cut_points[-1].macs
    extra = found["ours_exits_ms"] / found["ours_beside_exits_ms"] - 1
    return found | {
        "ours_engine": ours.name,
        "split": bundle.cut_points[cut].name,
        "exits_macs_share": round(share, 4),
        "exits_time_share": round(extra, 4),
        "exits_time_over_macs": round(extra / share, 3),
        "ratio_to_best": round(found["ours_ms"] / best, 4),
        "times_faster_than_eager": round(found["eager_torch_ms"] / found["ours_ms"], 2),
    }


def preprocess_ms(bundle: Bundle, rule: StopRule) -> float:
    frame = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8), (9, 9), 3)
    frame = np.asarray(frame, np.uint8)
    times = sample([lambda: normalise(crop(frame, bundle.input.size), bundle.input)], rule)[0]
    return round(summary(times).median_ms, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=30.0, help="for each of the two turns of a case, at most")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rule = StopRule(warm_up=5, least=100, spread=0.005, budget_s=args.seconds)
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
