"""What does the default bundle call photographs that packages ship, at their full resolution?

    python benchmarks/photographs.py [--json]

Each photograph goes the way of a camera frame (centre square, reduced to the network's size). Those that show one of
the bundle's classes have a list of labels that a person would accept; the others are shown for what they get.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from spinn_stream.bundle import load_bundle
from spinn_stream.frame import crop, normalise
from spinn_stream.runtime import answers, open_engine

PHOTOGRAPHS: dict[tuple[str, str], tuple[str, ...]] = {
    ("skimage", "data/chelsea.png"): ("Egyptian cat", "tabby"),
    ("skimage", "data/coffee.png"): ("espresso",),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"): ("military uniform",),
    ("skimage", "data/rocket.jpg"): (),
    ("skimage", "data/astronaut.png"): (),
    ("skimage", "data/motorcycle_left.png"): (),
}


def read(package: str, name: str) -> np.ndarray:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None, f"{package} is not installed"
    picture = cv2.imread(str(Path(spec.origin).parent / name), cv2.IMREAD_COLOR_BGR)
    assert picture is not None, f"{package} has no {name}"
    return np.asarray(picture, np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    bundle = load_bundle()
    engine = open_engine(bundle)
    rows: list[dict[str, Any]] = []
    for (package, name), accepted in PHOTOGRAPHS.items():
        picture = read(package, name)
        x = normalise(crop(picture, bundle.input.size), bundle.input)
        exits: dict[str, str] = {}
        top: list[tuple[str, float]] = []
        for start, stop in bundle.pieces(0, bundle.last):
            x, output = engine.run(start, stop, x)
            assert output is not None
            reached = bundle.exit_at[stop]
            answer = answers(reached.name, output, reached.temperature)[0]
            exits[reached.name] = bundle.labels[answer.label]
            top = [(bundle.labels[k], round(p, 3)) for k, p in answer.top[:3]]
        verdict = ("right" if top[0][0] in accepted else "wrong") if accepted else "not among the classes"
        rows.append({"photograph": name, "pixels": f"{picture.shape[1]}x{picture.shape[0]}", "top": top,
                     "verdict": verdict, "exits": exits})  # fmt: skip
    if args.json:
        print(json.dumps({"bundle": bundle.name, "photographs": rows}))
        return
    table = Table(title=f"{bundle.name}: what photographs are called")
    for column in ("photograph", "pixels", "top 3", "verdict", "exits with the same label"):
        table.add_column(column)
    for row in rows:
        same = ", ".join(e for e, label in row["exits"].items() if label == row["top"][0][0])
        named = ", ".join(f"{label} {p:.2f}" for label, p in row["top"])
        table.add_row(row["photograph"], row["pixels"], named, row["verdict"], same)
    Console().print(table)


if __name__ == "__main__":
    main()
