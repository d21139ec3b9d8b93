"""Pictures to learn from: rendered by the world that is flown in, labelled by ray casts.

    python -m spinn_drone.perception.pictures --out FOLDER --forests 400

makes a folder with one folder for each class, as `spinn train --data` takes it. Forests, light, bark, ground and camera
differ from each other. Every picture is written twice, as it is and mirrored with its class mirrored.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from spinn_drone.world.body import Limits
from spinn_drone.world.forest import Forest, ForestConfig
from spinn_drone.world.forest_world import ForestWorld
from spinn_drone.world.looks import Looks
from spinn_drone.world.world import DroneState

from .classes import BLOCKED, DEGREES, LABELS, truth

PICTURES = 24
"""Of each forest."""

DENSITIES = (0.03, 0.15)
"""Densities of the forests, in trees for each square metre: from thinner to thicker than those flown through."""

OFF_COURSE_M = 12.0

MOST_STRAIGHT = 0.45
"""Probability that a place is used if straight ahead is free: most places are like that."""

FIRST_SEED = 1_000_000
"""Forests to learn from have seeds from here on; those to fly through have smaller ones."""


def make(out: Path, seed: int) -> int:
    """Write the pictures of one forest; gives how many."""
    rng = np.random.default_rng([seed, 3])
    config = ForestConfig(density=float(rng.uniform(*DENSITIES)))
    forest, limits = Forest.grown(config, seed), Limits()
    places: list[tuple[float, float]] = []
    while len(places) < PICTURES:
        x, y = float(rng.uniform(0, config.length)), float(rng.uniform(-OFF_COURSE_M, OFF_COURSE_M))
        if forest.clearance(x, y) <= limits.radius:
            continue
        if truth(forest, x, y).label != LABELS[len(LABELS) // 2] or rng.random() < MOST_STRAIGHT:
            places.append((x, y))
    with ForestWorld(forest, Looks.of(seed), seed=seed, start=DroneState(0, 0), limits=limits) as world:
        for k, (x, y) in enumerate(sorted(places)):
            world.place(DroneState(x, y))
            picture, label = world.camera(), truth(forest, x, y).label
            for name, pixels, what in (("a", picture, label), ("b", picture[:, ::-1], mirrored(label))):
                folder = out / what
                folder.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / f"{seed}-{k:02d}{name}.png"), pixels)
    return 2 * len(places)


def mirrored(label: str) -> str:
    """The class of a mirrored picture.

    >>> mirrored("30 left")
    '30 right'
    """
    return label if label == BLOCKED else LABELS[len(DEGREES) - 1 - LABELS.index(label)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the classes' folders")
    parser.add_argument("--forests", type=int, default=400, help="how many; each has 48 pictures")
    parser.add_argument("--first", type=int, default=FIRST_SEED, help="seed of the first forest")
    options = parser.parse_args()
    count = 0
    for seed in range(options.first, options.first + options.forests):
        count += make(options.out, seed)
        print(f"\r{count} pictures", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
