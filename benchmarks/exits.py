"""Do exits that learned without labels agree with the final exit, and what do they save?

    python benchmarks/exits.py BUNDLE --pool pool-*.parquet --held-out 2000 --labelled nips17.parquet
        [--labels MAP.json] [--original efficientnet-lite0] [--json]

Of the pictures without labels, only the last ones are used, which training did not see. There are four tables:

exits       multiply-adds with the head, agreement with the final exit on both sets, right answers on the labelled one.
calibration error over ten bins of equal count on the labelled set: temperatures are fitted on one half (every second
            picture), the error is measured on the other, and the other way round; the mean of the two.
thresholds  the default threshold, found on one half in the same way and played on the other; and as the bundle has it.
map         the same thresholds with the names of MAP, whose probabilities are sums over classes, as a client has them.

The original network is run in torch, float32, on the labelled set after the same preprocessing.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.runtime import open_engine
from spinn_stream.runtime.exits import probabilities
from spinn_stream.train.data.datasets import load_dataset, load_pictures
from spinn_stream.train.pack.calibration import batches, collect_logits, fit_temperature
from spinn_stream.train.pack.evaluation import costs_of
from spinn_stream.train.pack.thresholds import Needed, Scores, default_threshold, map_thresholds

BINS = 10
Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


def equal_count_error(confidence: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Mean |accuracy - confidence| over bins of equal count."""
    parts = np.array_split(np.argsort(confidence, kind="stable"), BINS)
    return float(sum(len(p) * abs(right[p].mean() - confidence[p].mean()) for p in parts) / len(confidence))


class Answers:
    """Calibrated answers of every exit to the same pictures.

    sure: (exits, N) confidences. said: (exits, N) classes, or groups of them.
    """

    def __init__(self, logits: np.ndarray, temperatures: Sequence[float], groups: Whole) -> None:
        """groups: (classes,) the number of each class's group."""
        onto = np.zeros((len(groups), int(groups.max()) + 1))
        onto[np.arange(len(groups)), groups] = 1
        shares = [probabilities(own, t) @ onto for own, t in zip(logits, temperatures, strict=True)]
        self.sure = np.stack([p.max(axis=1) for p in shares])
        self.said = np.stack([p.argmax(axis=1) for p in shares])

    def scores(self, bundle: Bundle, truth: Whole | None) -> Scores:
        """truth: (N,) groups; None: what the final exit says."""
        return Scores(self.sure, self.said == (self.said[-1] if truth is None else truth), costs_of(bundle))


def played(scores: Scores, needed: Needed) -> dict[str, Any]:
    outcome = scores.play(needed)
    return {
        "needed": list(needed), "accuracy": round(outcome.accuracy, 4), "final": round(scores.accuracy(), 4),
        "points_lost": round(100 * (scores.accuracy() - outcome.accuracy), 2),
        "mean_macs_fraction": round(outcome.mean_macs_fraction, 4), "share": [round(s, 4) for s in outcome.share],
    }  # fmt: skip


def original_top1(bundle: Bundle, name: str, pixels: np.ndarray, labels: Whole) -> float:
    """Right answers of the network as it is published, at the bundle's resolution."""
    import torch

    from spinn_stream.train.adoption import own_classifier
    from spinn_stream.train.backbone.choose import choose_backbone

    found = choose_backbone(name, num_classes=len(bundle.labels), image_size=bundle.input.size)
    if found.pretrained_classifier is not None:
        own = own_classifier(found.module, len(bundle.labels))
        own.load_state_dict(found.pretrained_classifier.state_dict())
    module = found.module.eval()
    with torch.inference_mode():
        said = [module(torch.from_numpy(x)).argmax(1).numpy() for x in batches(bundle, pixels)]
    return float((np.concatenate(said) == labels).mean())


def measure(
    bundle: Bundle, pool: np.ndarray, labelled: np.ndarray, labels: Whole, groups: Whole | None
) -> dict[str, Any]:
    """All tables. pool, labelled: (exits, N, classes) logits."""
    classes, shipped = np.arange(len(bundle.labels)), [e.temperature for e in bundle.exits]
    costs = costs_of(bundle)
    fractions = [*(b + h for b, h in zip(costs.backbone, costs.heads, strict=True)), 1.0]
    by_pool, by_labelled = (Answers(logits, shipped, classes) for logits in (pool, labelled))
    halves = [np.arange(len(labels)) % 2 == k for k in (0, 1)]
    errors, crossed, grouped = [], [], []
    for fit, rest in (halves, halves[::-1]):
        temperatures = [fit_temperature(own[fit], labels[fit]) for own in labelled]
        chosen = Answers(labelled[:, fit], temperatures, classes).scores(bundle, labels[fit])
        rows = map_thresholds(chosen, len(bundle.exits) - 1)
        threshold = default_threshold(rows)
        needed = next(r.needed for r in rows if r.threshold == threshold)
        other = Answers(labelled[:, rest], temperatures, classes)
        errors.append([equal_count_error(s, w == labels[rest]) for s, w in zip(other.sure, other.said, strict=True)])
        crossed.append({"threshold": threshold, **played(other.scores(bundle, labels[rest]), needed)})
        if groups is not None:
            mapped = Answers(labelled[:, rest], temperatures, groups)
            grouped.append({"threshold": threshold, **played(mapped.scores(bundle, groups[labels[rest]]), needed)})
    own_needed = bundle.thresholds[bundle.threshold_row(bundle.default_threshold) or 0].needed
    found: dict[str, Any] = {
        "exits": [
            {
                "name": e.name, "macs_fraction": round(fractions[i], 4),
                "pool_agreement": round(float((by_pool.said[i] == by_pool.said[-1]).mean()), 4),
                "labelled_agreement": round(float((by_labelled.said[i] == by_labelled.said[-1]).mean()), 4),
                "labelled_top1": round(float((by_labelled.said[i] == labels).mean()), 4),
                "calibration_error": round(float(np.mean([error[i] for error in errors])), 4),
            }
            for i, e in enumerate(bundle.exits)
        ],
        "each_half_by_the_other": crossed,
        "as_shipped": {
            "threshold": bundle.default_threshold,
            "pool": played(by_pool.scores(bundle, None), own_needed),
            "labelled": played(by_labelled.scores(bundle, labels), own_needed),
        },
    }  # fmt: skip
    if groups is not None:
        pool_groups, labelled_groups = (Answers(logits, shipped, groups) for logits in (pool, labelled))
        found["map"] = {
            "groups": int(groups.max()) + 1,
            "each_half_by_the_other": grouped,
            "pool": played(pool_groups.scores(bundle, None), own_needed),
            "labelled": played(labelled_groups.scores(bundle, groups[labels]), own_needed),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    parser.add_argument("--pool", type=Path, nargs="+", required=True, help="pictures, as for spinn train")
    parser.add_argument("--held-out", type=int, default=2000, help="how many of them training did not see")
    parser.add_argument("--labelled", type=Path, nargs="+", required=True, help="labelled pictures")
    parser.add_argument("--labels", type=Path, help="JSON object: name of a class -> name of its group")
    parser.add_argument("--original", help="the backbone's name, to compare the final exit with")
    parser.add_argument("--runtime", default="onnxruntime", help="engine of the bundle")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    bundle = load_bundle(args.bundle)
    engine = open_engine(bundle, args.runtime, threads=args.threads)
    pictures = load_pictures(args.pool, side=bundle.input.size).images.take(slice(-args.held_out, None))
    known = load_dataset(args.labelled, side=bundle.input.size, classes=bundle.labels).images
    groups = None
    if args.labels is not None:
        names = json.loads(args.labels.read_text("utf-8"))
        groups = np.unique([names[label] for label in bundle.labels], return_inverse=True)[1]
    pool, labelled = (collect_logits(bundle, engine, pixels) for pixels in (pictures.pixels, known.pixels))
    found = {"bundle": bundle.hash[:12], "pool_images": len(pictures), "labelled_images": len(known)}
    found |= measure(bundle, pool, labelled, known.labels, groups)
    if args.original:
        found["original_top1"] = round(original_top1(bundle, args.original, known.pixels, known.labels), 4)
    if args.json:
        print(json.dumps(found, indent=1))
        return
    console = Console()
    table = Table(*found["exits"][0], title=f"{bundle.name}: exits")
    for row in found["exits"]:
        table.add_row(*map(str, row.values()))
    console.print(table)
    console.print({key: value for key, value in found.items() if key != "exits"})


if __name__ == "__main__":
    main()
