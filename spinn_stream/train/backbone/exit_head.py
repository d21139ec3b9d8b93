"""The classifier attached at a cut point: one small design for every depth."""

from __future__ import annotations

import math

import torch
from torch import nn

from .blocks import conv_bn

HEAD_FEATURES = 384
"""Width of the pooled feature vector of every exit head, in channels."""

LARGEST_SIDE = 8
"""Maps with longer sides, in pixels, are halved until they fit."""

WHOLE_SIDE = 4
"""Maps of this side or less get no 3x3 convolution: everything in them is near everything else already."""

SHARE = 1 / 20
"""Cost of the 3x3 convolution of a head on the largest maps, as a share of the backbone's multiply-adds."""


def halvings_for(side: int) -> int:
    """How often maps of this side are halved (rounding up) before a head's own convolutions: 0 to 5."""
    count = 0
    while side > LARGEST_SIDE and count < 5:
        side, count = -(-side // 2), count + 1
    return count


def head_width(backbone_macs: int, side: int) -> int:
    """Channels of the 3x3 convolutions of a network's heads: whole vectors of 16, from 32 to 256.

    Args:
        backbone_macs: multiply-adds of the backbone for one image.
        side: of the largest maps that a head of this network works on, in pixels.
    """
    width = math.sqrt(backbone_macs * SHARE / (9 * side * side))
    return min(256, max(32, 16 * round(width / 16)))


class ExitHead(nn.Module):
    """Depthwise filters that shrink large maps, 1x1 and 3x3 convolutions, a wide 1x1 one, a classifier.

    Few and dense operators: on maps this small, starting an operator and reading its weights takes longer than its
    multiply-adds (docs/decisions/0006-default-model.md).

    Args:
        channels: channels of the activation at the cut point.
        width: channels of the 3x3 convolution; 0: none, the 1x1 one alone.
        halvings: how often depthwise 5x5 filters halve the maps first, 0 to 5.
        num_classes: length of the logits.
    """

    def __init__(self, channels: int, *, width: int, halvings: int, num_classes: int) -> None:
        super().__init__()
        if not 0 <= halvings <= 5:
            raise ValueError(f"halvings must be 0 to 5, got {halvings}")
        layers: list[nn.Module] = [conv_bn(channels, channels, 5, stride=2, groups=channels) for _ in range(halvings)]
        sizes = [(channels, width, 1), (width, width, 3)] if width else []
        for c_in, c_out, kernel in [*sizes, (width or channels, HEAD_FEATURES, 1)]:
            layers += [conv_bn(c_in, c_out, kernel), nn.ReLU6()]
        self.blocks = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.1)
        # Linear, as a convolution: OpenVINO runs that three to seven times as fast for one image in bfloat16.
        self.classifier = nn.Conv2d(HEAD_FEATURES, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, C, H, W) -> (B, num_classes)
        x = self.pool(self.blocks(x))  # (B, HEAD_FEATURES, 1, 1)
        logits: torch.Tensor = self.classifier(self.dropout(x)).flatten(1)
        return logits
