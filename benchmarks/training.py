"""How fast is training on this CPU, and what does each of our measures gain?

    python benchmarks/training.py [--json] [--image-size 128] [--seconds 20]

EfficientNet-Lite2 with five exits, batches of 64, bfloat16, channels last: forward, backward and AdamW step, the
images at hand. Four ways: plain torch; with the gradient of `spinn_stream.train.backbone.depthwise`; with freed
memory kept (`keep_freed_memory`); with both, as `spinn train` does. Each way is a process of its own, since
memory settings stay; they run in turn, ROUNDS times; figures are medians of images per second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from contextlib import nullcontext
from statistics import median
from typing import Any

ROUNDS = 3
BATCH = 64
EXITS = ("block7", "block11", "block13", "block16", "block18")
WAYS = {"plain": (False, False), "depthwise": (True, False), "memory": (False, True), "both": (True, True)}


def measure(way: str, size: int, seconds: float) -> float:
    """Images per second of one way, in this process."""
    import torch
    import torch.nn.functional as F

    from spinn_stream.train.backbone.backbones import efficientnet_lite
    from spinn_stream.train.backbone.depthwise import fast_depthwise
    from spinn_stream.train.backbone.network import attach_exits
    from spinn_stream.train.cut.tracing import trace_backbone
    from spinn_stream.train.training import keep_freed_memory

    depthwise, memory = WAYS[way]
    if memory:
        keep_freed_memory()
    backbone = efficientnet_lite(2, image_size=size, num_classes=200, pretrained=False)
    network = attach_exits(trace_backbone(backbone, (3, size, size), keep=EXITS), 200, places=EXITS)
    network.to(memory_format=torch.channels_last)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    x = torch.randn(BATCH, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 200, (BATCH,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            exits, final = network(x)
        loss = F.cross_entropy(final.float(), labels) + sum(F.cross_entropy(e.float(), labels) for e in exits)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    with fast_depthwise(network) if depthwise else nullcontext():
        step()
        step()
        steps, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            step()
            steps += 1
        return steps * BATCH / (time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--image-size", type=int, default=128, help="pixels")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run")
    parser.add_argument("--way", choices=WAYS, help="measure this way alone, in this process")
    args = parser.parse_args()
    if args.way:
        print(measure(args.way, args.image_size, args.seconds))
        return
    speeds: dict[str, list[float]] = {way: [] for way in WAYS}
    for round_ in range(ROUNDS):
        for way in WAYS:
            print(f"round {round_ + 1} of {ROUNDS}: {way}", file=sys.stderr)
            command = [sys.executable, __file__, "--way", way, "--image-size", str(args.image_size)]
            done = subprocess.run(
                [*command, "--seconds", str(args.seconds)], check=True, timeout=600, capture_output=True, text=True
            )
            speeds[way].append(float(done.stdout))
    medians = {way: round(median(values), 1) for way, values in speeds.items()}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    figures: dict[str, Any] = {
        "command": f"python benchmarks/training.py --image-size {args.image_size}",
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "images_per_s": medians,
        "ratio_both_to_plain": round(medians["both"] / medians["plain"], 2),
    }
    print(json.dumps(figures) if args.json else "\n".join(f"{k}: {v}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
