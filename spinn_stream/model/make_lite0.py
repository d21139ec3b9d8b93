"""Make the default bundle `lite0-200`: python -m spinn_stream.model.make_lite0 --data DIR --out DIR

Trains EfficientNet-Lite0 with five exits on the parquet files of DIR, fits temperatures on held-out
training images and writes the bundle. Run it again to continue an interrupted training.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from .backbones import efficientnet_lite0, pretrained_lite0_classifier
from .images import load_parquet
from .training import TrainingConfig, adopt_classifier, train

HELD_OUT = 4000
"""The last images of the training files: never trained on, used to fit the temperatures."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train-*.parquet and classes.json")
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkpoint and the log")
    parser.add_argument("--epochs", type=float, default=2.0)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    config = TrainingConfig(epochs=args.epochs)
    torch.manual_seed(config.seed)
    classes = json.loads((args.data / "classes.json").read_text())
    print("reading the images ...", flush=True)
    images = load_parquet(sorted(args.data.glob("train-*.parquet")))
    training = images.take(slice(0, len(images) - HELD_OUT))
    network = efficientnet_lite0(image_size=config.image_size, num_classes=len(classes))
    checkpoint = args.work / "checkpoint.pt"
    if not checkpoint.exists():
        print("finding the classifier's rows ...", flush=True)
        print(adopt_classifier(network, pretrained_lite0_classifier(), images.take(slice(0, 6000)), 128), flush=True)
    log = (args.work / "log.jsonl").open("a")

    def report(row: dict[str, float]) -> None:
        line = json.dumps(row)
        log.write(line + "\n")
        log.flush()
        if row["step"] % 100 == 0:
            print(line, flush=True)

    train(network, training, config, checkpoint=checkpoint, report=report)


if __name__ == "__main__":
    main()
