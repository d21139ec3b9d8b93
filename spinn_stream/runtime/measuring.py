"""One engine in a process of its own, measured when it is asked to: python -m spinn_stream.runtime.measuring.

Prints `{"ready": true}` once the network is built, then, for every line on its standard input, the median ms of a
streak of runs. What goes wrong is printed as `{"error": text}`, unless the process dies of it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from ..model.bundle import load_bundle
from .engines import open_one
from .timing import StopRule, sample, summary

STREAK = StopRule(warm_up=1, least=9, most=9, budget_s=5.0)


def main(folder: str, name: str, threads: str) -> None:
    try:
        bundle = load_bundle(Path(folder))
        engine = open_one(bundle, name, threads=int(threads))
        engine.prepare(0, bundle.last, exit=False)
        x = np.zeros((1, *bundle.cut_points[0].shape), np.float32)
        engine.run(0, bundle.last, x, exit=False)
        print(json.dumps({"ready": True}), flush=True)
        for _ in sys.stdin:
            times = sample([lambda: engine.run(0, bundle.last, x, exit=False)], STREAK)[0]
            print(json.dumps({"median_ms": summary(times).median_ms}), flush=True)
    except Exception as error:  # whatever it is, the parent is told and goes on without this engine
        print(json.dumps({"error": f"{name}: {error}"}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
