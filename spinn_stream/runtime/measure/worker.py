"""One engine in a process of its own, measured on request: python -m spinn_stream.runtime.measure.worker.

Prints `{"ready": true, "precision": ...}` once the network is built and has run. Then, for every line on its standard
input, it prints the median ms of a streak of runs of its two halves: networks are mostly split, and the price of a cut
differs between engines. If the line is `NEW`, the halves are built anew first, since the place of their weights in
memory matters by a few percent. An error is printed as `{"error": text}`, unless the process dies of it.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np

from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.runtime.engines.base import Activation, Engine
from spinn_stream.runtime.engines.registry import open_one

from .timing import StopRule, sample, summary

NEW = "new"
STREAK = StopRule(warm_up=1, least=19, most=19, budget_s=5.0)


def halfway(bundle: Bundle) -> int:
    """The cut point nearest to half of the multiply-adds, but not an end, if there is another one."""
    half = bundle.cut_points[-1].macs / 2
    inner = range(1, bundle.last)
    return min(inner, key=lambda cut: abs(bundle.cut_points[cut].macs - half), default=bundle.last)


def run_halves(bundle: Bundle, engine: Engine, x: Activation) -> object:
    """The network without its exits, cut halfway."""
    cut = halfway(bundle)
    y, _ = engine.run(0, cut, x, exit=False)
    return y if cut == bundle.last else engine.run(cut, bundle.last, y, exit=False)[0]


def main(folder: str, name: str, threads: str) -> None:
    def built() -> partial[object]:
        engine = open_one(bundle, name, threads=int(threads))
        for start, stop in ((0, halfway(bundle)), (halfway(bundle), bundle.last)):
            if start < stop:
                engine.prepare(start, stop, exit=False)
        run = partial(run_halves, bundle, engine, x)
        run()
        return run

    try:
        bundle = load_bundle(Path(folder))
        x = np.zeros((1, *bundle.cut_points[0].shape), np.float32)
        run = built()
        precision = getattr(run.args[1], "precision", "f32")
        print(json.dumps({"ready": True, "precision": precision}), flush=True)
        for line in sys.stdin:
            run = built() if line.strip() == NEW else run
            print(json.dumps({"median_ms": summary(sample([run], STREAK)[0]).median_ms}), flush=True)
    except Exception as error:  # whatever it is, the parent is told and goes on without this engine
        print(json.dumps({"error": f"{name}: {error}"}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
