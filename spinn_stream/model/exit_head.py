"""The classifier attached at a cut point: one small design for every depth."""

from __future__ import annotations

import torch
from torch import nn

from .blocks import InvertedResidual, conv_bn

HEAD_WIDTH = 128
"""Channels of every exit head's own maps."""

HEAD_FEATURES = 512
"""Width of the pooled feature vector of every exit head, in channels."""


class ExitHead(nn.Module):
    """Depthwise filters that shrink the maps, two inverted-residual blocks, a wide 1x1 convolution, a classifier.

    Early activations are large in space and narrow in channels: 5x5 depthwise filters first bring them
    down to about the backbone's last resolution, one halving each, so that the head at every depth sees
    the whole image, and costs about the same.

    Args:
        channels: channels of the activation at the cut point.
        halvings: how often the head halves the maps before its own blocks, 0 to 5.
        num_classes: length of the logits.
    """

    def __init__(self, channels: int, *, halvings: int, num_classes: int) -> None:
        super().__init__()
        if not 0 <= halvings <= 5:
            raise ValueError(f"halvings must be 0 to 5, got {halvings}")
        shrink = [conv_bn(channels, channels, 5, stride=2, groups=channels) for _ in range(halvings)]
        self.blocks = nn.Sequential(
            *shrink,
            conv_bn(channels, HEAD_WIDTH, 1),
            InvertedResidual(HEAD_WIDTH, HEAD_WIDTH, hidden=3 * HEAD_WIDTH),
            InvertedResidual(HEAD_WIDTH, HEAD_WIDTH, hidden=3 * HEAD_WIDTH),
            conv_bn(HEAD_WIDTH, HEAD_FEATURES, 1),
            nn.ReLU6(),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(HEAD_FEATURES, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, C, H, W) -> (B, num_classes)
        x = self.pool(self.blocks(x)).flatten(1)
        logits: torch.Tensor = self.classifier(self.dropout(x))
        return logits
