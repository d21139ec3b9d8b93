"""How confident is the default bundle about pictures of none of its classes, and what does --unknown-below catch?

    python benchmarks/unknown.py [--known nips17.parquet] [--people CLIP ...] [--json]

Each picture is answered as by a client under the bundle's default threshold: by the first exit that is confident
enough, or else by the final one. For each kind of picture: the median confidence, and the share below each level, which
`--unknown-below` with that level would call unknown. Once with the classes' own names, once with the everyday map.

noise     each pixel by chance, grey or in colour, smoothed by 0 to 32 pixels
patterns  one colour, a gradient, stripes, a chessboard
textures  bricks, grass and gravel of scikit-image, nine overlapping squares of each
other     scikit-image's coins, cells, tissue, eye, moon, galaxies, page and text
people    the faces of scikit-image (25 px, grey), the astronaut, every tenth frame of the clips given
known     labelled pictures, to see what a level costs: the share below it, and what is right among the rest
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import skimage
from rich.console import Console
from rich.table import Table

from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.bundle.labels import load_labels
from spinn_stream.frame import Pixels, crop
from spinn_stream.runtime import open_engine
from spinn_stream.runtime.exits import probabilities
from spinn_stream.train.data.datasets import load_dataset
from spinn_stream.train.pack.calibration import Logits, collect_logits

LEVELS = (0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
SIDE, NOISE, PATTERNS, EVERY = 256, 60, 60, 10
SKIMAGE = Path(skimage.__file__).parent / "data"
OTHER = ("coins.png", "cell.png", "ihc.png", "retina.jpg", "moon.png", "hubble_deep_field.jpg", "page.png", "text.png")


def noise(rng: np.random.Generator) -> Iterator[Pixels]:
    for n in range(NOISE):
        picture = rng.normal(128, 60, (SIDE, SIDE, 3 if n % 2 else 1))
        width = (0, 2, 8, 32)[n % 4]
        if width:
            picture = cv2.GaussianBlur(picture, (0, 0), width).reshape(SIDE, SIDE, -1)
            picture = 128 + (picture - picture.mean()) * 50 / picture.std()
        yield np.broadcast_to(np.clip(picture, 0, 255), (SIDE, SIDE, 3)).astype(np.uint8)


def patterns(rng: np.random.Generator) -> Iterator[Pixels]:
    y, x = np.mgrid[:SIDE, :SIDE]
    for n in range(PATTERNS):
        one, other = rng.uniform(0, 255, (2, 3))
        period = rng.integers(4, 64)
        share = {
            0: np.zeros((SIDE, SIDE)), 1: x / SIDE, 2: (x // period) % 2, 3: (x // period + y // period) % 2
        }[n % 4]  # fmt: skip
        yield (one + (other - one) * share[..., None]).astype(np.uint8)


def textures() -> Iterator[Pixels]:
    for name in ("brick.png", "grass.png", "gravel.png"):
        picture = read(name)
        for y in np.linspace(0, picture.shape[0] - SIDE, 3, dtype=int):
            for x in np.linspace(0, picture.shape[1] - SIDE, 3, dtype=int):
                yield picture[y : y + SIDE, x : x + SIDE]


def people(clips: list[Path]) -> Iterator[Pixels]:
    yield read("astronaut.png")
    for face in np.load(SKIMAGE / "lfw_subset.npy")[:100]:  # the rest are no faces
        yield cv2.cvtColor((255 * face).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    for path in clips:
        video, frame = cv2.VideoCapture(str(path)), 0
        while True:
            there, picture = video.read()
            if not there:
                break
            if frame % EVERY == 0:
                yield picture
            frame += 1


def read(name: str) -> Pixels:
    return np.asarray(cv2.imread(str(SKIMAGE / name), cv2.IMREAD_COLOR_BGR), np.uint8)


def squares(pictures: Iterator[Pixels], side: int) -> npt.NDArray[np.uint8]:
    """(N, side, side, 3) RGB."""
    return np.stack([crop(picture, side)[:, :, ::-1] for picture in pictures])


class Answers:
    """A client's answers for pictures under the default threshold.

    sure: (N,) confidences. said: (N,) indices of groups.
    """

    def __init__(self, bundle: Bundle, logits: Logits, group_of: npt.NDArray[np.int64]) -> None:
        """logits: (exits, N, classes). group_of: (classes,)."""
        needed = bundle.needed(bundle.default_threshold)
        self.sure, self.said = np.zeros(logits.shape[1]), np.zeros(logits.shape[1], np.int64)
        waiting = np.ones(logits.shape[1], bool)
        onto = np.eye(int(group_of.max()) + 1)[group_of]
        for exit_, own in zip(bundle.exits, logits, strict=True):
            least = 0.0 if exit_.cut == bundle.last else needed.get(exit_.cut)
            if least is None:
                continue
            shares = probabilities(own, exit_.temperature) @ onto
            answers = waiting & (shares.max(axis=1) >= least)
            self.sure[answers], self.said[answers] = shares.max(axis=1)[answers], shares.argmax(axis=1)[answers]
            waiting &= ~answers

    def row(self, truth: npt.NDArray[np.int64] | None) -> dict[str, Any]:
        found: dict[str, Any] = {
            "pictures": len(self.sure), "median_confidence": round(float(np.median(self.sure)), 3),
            "below": {str(level): round(float((self.sure < level).mean()), 3) for level in LEVELS},
        }  # fmt: skip
        if truth is not None:
            right = self.said == truth
            found["right"] = round(float(right.mean()), 3)
            found["right_of_the_rest"] = {
                str(level): round(float(right[self.sure >= level].mean()), 3) for level in LEVELS
            }
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known", type=Path, nargs="+", help="labelled pictures, as for spinn evaluate")
    parser.add_argument("--people", type=Path, nargs="+", default=[], help="clips that show people")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    bundle, rng = load_bundle(), np.random.default_rng(0)
    engine, side = open_engine(bundle, "onnxruntime"), bundle.input.size
    kinds = {
        "noise": noise(rng), "patterns": patterns(rng), "textures": textures(),
        "other": (read(name) for name in OTHER), "people": people(args.people),
    }  # fmt: skip
    logits = {kind: collect_logits(bundle, engine, squares(pictures, side)) for kind, pictures in kinds.items()}
    labels = None
    if args.known:
        known = load_dataset(args.known, side=side, classes=bundle.labels).images
        logits["known"], labels = collect_logits(bundle, engine, known.pixels), known.labels
    everyday = load_labels("everyday", bundle.labels)
    found: dict[str, Any] = {"bundle": bundle.hash[:12], "threshold": bundle.default_threshold}
    maps = {"classes": np.arange(len(bundle.labels)), "everyday": np.array(everyday.group_of)}
    for name, group_of in maps.items():
        found[name] = {
            kind: Answers(bundle, own, group_of).row(
                group_of[labels] if kind == "known" and labels is not None else None
            )
            for kind, own in logits.items()
        }
    if args.json:
        print(json.dumps(found, indent=1))
        return
    for name in maps:
        table = Table("kind", "pictures", "median", *(f"< {level}" for level in LEVELS), title=name)
        for kind, row in found[name].items():
            below = (f"{share:.0%}" for share in row["below"].values())
            table.add_row(kind, str(row["pictures"]), f"{row['median_confidence']:.2f}", *below)
            if "right" in row:
                rest = (f"{share:.1%}" for share in row["right_of_the_rest"].values())
                table.add_row("  right of the rest", "", f"{row['right']:.1%}", *rest)
        Console().print(table)


if __name__ == "__main__":
    main()
