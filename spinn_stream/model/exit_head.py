"""The classifier attached at a cut point: one small design for every depth."""

from __future__ import annotations

import torch
from torch import nn

HEAD_FEATURES = 512
"""Width of the pooled feature vector of every exit head, in channels."""


def _conv_bn(c_in: int, c_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
    )


class InvertedResidual(nn.Module):
    """Expand, filter per channel, project (MobileNetV2, Sandler et al. 2018); a shortcut where shapes allow."""

    def __init__(self, c_in: int, c_out: int, *, hidden: int, stride: int) -> None:
        super().__init__()
        self.shortcut = stride == 1 and c_in == c_out
        self.body = nn.Sequential(
            _conv_bn(c_in, hidden, 1),
            nn.ReLU6(),
            _conv_bn(hidden, hidden, 5, stride=stride, groups=hidden),
            nn.ReLU6(),
            _conv_bn(hidden, c_out, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.body(x)
        return x + y if self.shortcut else y


class ExitHead(nn.Module):
    """Two inverted-residual blocks, a wide 1x1 convolution, global average pooling, a linear classifier.

    Early activations are large in space and narrow in channels: the blocks first bring them down to the
    stride of the backbone's last stage, so that the head at every depth sees the whole image and costs
    about the same.

    Args:
        channels: channels of the activation at the cut point.
        downsample: how many times smaller the head's own maps become (1, 2 or 4).
        num_classes: length of the logits.
    """

    def __init__(self, channels: int, *, downsample: int, num_classes: int, width: int = 128) -> None:
        super().__init__()
        if downsample not in (1, 2, 4):
            raise ValueError(f"downsample must be 1, 2 or 4, got {downsample}")
        middle = width // 2 if downsample == 4 else width  # four times the pixels there: half the channels
        self.blocks = nn.Sequential(
            InvertedResidual(channels, middle, hidden=max(3 * width // 2, 2 * channels), stride=min(downsample, 2)),
            InvertedResidual(middle, width, hidden=3 * width, stride=max(downsample // 2, 1)),
            _conv_bn(width, HEAD_FEATURES, 1),
            nn.ReLU6(),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(HEAD_FEATURES, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, C, H, W) -> (B, num_classes)
        x = self.pool(self.blocks(x)).flatten(1)
        logits: torch.Tensor = self.classifier(self.dropout(x))
        return logits
