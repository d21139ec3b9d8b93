"""A network and images small enough to train in a test."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from spinn_stream.train.backbone.network import EarlyExitNetwork, attach_exits
from spinn_stream.train.cut.tracing import trace_backbone
from spinn_stream.train.data.images import LabelledImages, Scaling
from spinn_stream.train.training import Progress, TrainingConfig

CLASSES = 3
SIZE = 32
SCALING = Scaling(127, 1 / 128)
CONFIG = TrainingConfig(epochs=4, batch_size=10, image_sizes=((1.0, SIZE),), lr_backbone=1e-2, lr_heads=1e-2)


def backbone() -> nn.Sequential:
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    stages["stem"] = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU6())  # (8, 8, 8)
    stages["middle"] = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1, groups=2), nn.ReLU6())  # (16, 4, 4)
    stages["final"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES))
    return nn.Sequential(stages)


def network(seed: int = 0, exits: tuple[str, ...] = ("stem",)) -> EarlyExitNetwork:
    torch.manual_seed(seed)
    return attach_exits(trace_backbone(backbone(), (3, SIZE, SIZE), keep=["stem", "middle"]), CLASSES, places=exits)


def images(count: int = 90) -> LabelledImages:
    """Pictures in three colours: a task that a few steps learn."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % CLASSES
    pixels = rng.integers(0, 60, (count, 16, 16, 3), np.uint8)
    for i, label in enumerate(labels):
        pixels[i, :, :, label] += 150
    return LabelledImages(pixels, labels)


def ignore(_: Progress) -> None:
    """A report nobody reads."""
