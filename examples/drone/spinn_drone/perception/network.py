"""The network that looks ahead, for `spinn train --backbone spinn_drone.perception.network:network`."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from spinn_stream.train.backbone.blocks import InvertedResidual, conv_bn

STAGES = (  # channels in, out, between, stride
    (24, 32, 72, 2),
    (32, 32, 96, 1),
    (32, 48, 96, 2),
    (48, 48, 192, 1),
    (48, 48, 192, 1),
    (48, 80, 192, 2),
    (80, 80, 320, 1),
    (80, 80, 320, 1),
)
FEATURES = 384


class Columns(nn.Module):
    """Adds a learned offset to each column of the map, so that features know how far left or right they are.

    Classifiers pool over the whole map, and convolutions do not know places, but a direction is a place.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.randn(1, channels, 1, side) * 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.offset  # (B, C, H, W)


def network(num_classes: int, image_size: int) -> nn.Sequential:
    """Depthwise blocks (MobileNetV2, Sandler et al. 2018) over a map that knows its columns: (B, 3, S, S) to logits."""
    rows: OrderedDict[str, nn.Module] = OrderedDict()
    rows["stem"] = nn.Sequential(
        conv_bn(3, STAGES[0][0], 3, stride=2), Columns(STAGES[0][0], -(-image_size // 2)), nn.ReLU6()
    )
    for n, (c_in, c_out, hidden, stride) in enumerate(STAGES):
        rows[f"block{n}"] = InvertedResidual(c_in, c_out, hidden=hidden, kernel=3, stride=stride)
    rows["final"] = nn.Sequential(
        conv_bn(STAGES[-1][1], FEATURES, 1),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(FEATURES, num_classes),
    )
    net = nn.Sequential(rows)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net
