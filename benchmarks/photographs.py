"""What does the default bundle say about photographs that come with packages, at full resolution, and about clips?

    python benchmarks/photographs.py [--clips FILE ...] [--json]

Each photograph goes the way of a camera frame (centre square, reduced to the network's size) to the final exit. If a
photograph shows one of the bundle's classes, it has a list of labels that a person would accept. Photographs of
packages that are not installed (ultralytics, imgaug, scikit-learn) are left out and named. Of a clip, every tenth frame
is looked at, and its labels are counted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.bundle.labels import LabelMap, load_labels
from spinn_stream.frame import Pixels, crop, normalise
from spinn_stream.runtime import Engine, open_engine
from spinn_stream.runtime.exits import probabilities

PHOTOGRAPHS: dict[tuple[str, str], tuple[str, ...]] = {
    ("skimage", "data/chelsea.png"): ("Egyptian cat", "tabby cat", "tiger cat"),
    ("skimage", "data/coffee.png"): ("espresso", "cup", "coffee mug"),
    ("skimage", "data/rocket.jpg"): ("missile", "space shuttle"),
    ("skimage", "data/motorcycle_left.png"): ("moped", "motor scooter"),
    ("skimage", "data/camera.png"): ("tripod", "reflex camera"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"): ("military uniform",),
    ("ultralytics", "assets/bus.jpg"): ("minibus", "trolleybus", "school bus"),
    ("ultralytics", "assets/zidane.jpg"): ("suit",),
    ("imgaug", "quokka.jpg"): ("wallaby",),
    ("sklearn", "datasets/images/china.jpg"): ("palace", "monastery", "stupa"),
    ("sklearn", "datasets/images/flower.jpg"): (),
    ("skimage", "data/astronaut.png"): (),
    ("skimage", "data/coins.png"): (),
    ("skimage", "data/retina.jpg"): (),
    ("skimage", "data/hubble_deep_field.jpg"): (),
}
"""A quokka is a small wallaby; a dahlia, a person, coins, an eye and galaxies are none of the classes."""

CLIPS: dict[str, tuple[str, ...]] = {
    "bottle-detection.mp4": ("water bottle", "pop bottle", "beer bottle", "wine bottle"),
    "book.mkv": ("sweatshirt",),
    "one-by-one-person-detection.mp4": (),
}
"""Bottles on a table; a person in a sweatshirt beside a screen; a room where persons come and go."""

EVERY = 10


class Namer:
    """What the final exit calls pictures."""

    def __init__(self, bundle: Bundle, engine: Engine, groups: LabelMap) -> None:
        self._bundle, self._engine, self._groups = bundle, engine, groups

    def top(self, picture: Pixels) -> tuple[list[tuple[str, float]], tuple[str, float]]:
        """The three likeliest classes, and the likeliest group."""
        bundle = self._bundle
        logits, _ = self._engine.run(0, bundle.last, normalise(crop(picture, bundle.input.size), bundle.input))
        shares = probabilities(logits[0], bundle.exits[-1].temperature)
        grouped = np.bincount(self._groups.group_of, shares)
        best = [(bundle.labels[k], round(float(shares[k]), 3)) for k in np.argsort(-shares)[:3]]
        group = int(grouped.argmax())
        return best, (self._groups.names[group], round(float(grouped[group]), 3))


def read(package: str, name: str) -> Pixels | None:
    """A package's file; None: it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    picture = cv2.imread(str(Path(next(iter(spec.submodule_search_locations)), name)), cv2.IMREAD_COLOR_BGR)
    assert picture is not None, f"{package} has no {name}"
    return np.asarray(picture, np.uint8)


def photograph(namer: Namer, name: str, picture: Pixels, accepted: tuple[str, ...]) -> dict[str, Any]:
    top, everyday = namer.top(picture)
    verdict = ("right" if top[0][0] in accepted else "wrong") if accepted else "not among the classes"
    size = f"{picture.shape[1]}x{picture.shape[0]}"
    return {"photograph": name, "pixels": size, "top": top, "everyday": everyday, "verdict": verdict}


def clip(namer: Namer, path: Path) -> dict[str, Any]:
    video, accepted = cv2.VideoCapture(str(path)), CLIPS.get(path.name, ())
    labels: Counter[str] = Counter()
    groups: Counter[str] = Counter()
    sure: list[float] = []
    frame = 0
    while True:
        there, picture = video.read()
        if not there:
            break
        if frame % EVERY == 0:
            top, everyday = namer.top(np.asarray(picture, np.uint8))
            labels[top[0][0]] += 1
            groups[everyday[0]] += 1
            sure.append(top[0][1])
        frame += 1
    total = max(1, labels.total())
    return {
        "clip": path.name, "frames": labels.total(), "median_confidence": round(float(np.median(sure)), 3),
        "labels": [(name, round(count / total, 3)) for name, count in labels.most_common(5)],
        "everyday": [(name, round(count / total, 3)) for name, count in groups.most_common(3)],
        "right": round(sum(labels[name] for name in accepted) / total, 3) if accepted else None,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, nargs="+", default=[], help="video files")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    bundle = load_bundle()
    namer = Namer(bundle, open_engine(bundle, "onnxruntime"), load_labels("everyday", bundle.labels))
    pictures = {key: read(*key) for key in PHOTOGRAPHS}
    rows = [photograph(namer, key[1], p, PHOTOGRAPHS[key]) for key, p in pictures.items() if p is not None]
    left_out = sorted({package for (package, _), p in pictures.items() if p is None})
    clips = [clip(namer, path) for path in args.clips]
    if args.json:
        print(json.dumps({"bundle": bundle.name, "left_out": left_out, "photographs": rows, "clips": clips}, indent=1))
        return
    table = Table("photograph", "pixels", "top 3", "everyday", "verdict", title=f"{bundle.name}: what it calls them")
    for row in rows:
        table.add_row(row["photograph"], row["pixels"], words(row["top"]), words([row["everyday"]]), row["verdict"])
    console = Console()
    console.print(table)
    if left_out:
        console.print(f"not installed, left out: {', '.join(left_out)}")
    for found in clips:
        right = "not among the classes" if found["right"] is None else f"{found['right']:.0%} right"
        console.print(f"{found['clip']}: {found['frames']} frames, {right}: {words(found['labels'])}")


def words(top: list[tuple[str, float]]) -> str:
    return ", ".join(f"{label} {share:.2f}" for label, share in top)


if __name__ == "__main__":
    main()
