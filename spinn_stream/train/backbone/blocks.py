"""Building blocks that backbones and exit heads share."""

from __future__ import annotations

import torch
from torch import nn


def conv_bn(
    c_in: int,
    c_out: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    side: int | None = None,
    eps: float = 1e-5,
    momentum: float = 0.1,
) -> nn.Sequential:
    """A convolution without bias and its batch normalisation.

    Args:
        side: side of the input in pixels; pads as TensorFlow's "same" does for it, which is one-sided
            where the stride is 2 and the side even. Without it: ``kernel // 2`` on every side.
    """
    before, after = kernel // 2, kernel // 2
    if side is not None:
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        before, after = total // 2, total - total // 2
    layers: list[nn.Module] = []
    if before != after:
        layers.append(nn.ZeroPad2d((before, after, before, after)))
        before = 0
    layers.append(nn.Conv2d(c_in, c_out, kernel, stride, before, groups=groups, bias=False))
    layers.append(nn.BatchNorm2d(c_out, eps=eps, momentum=momentum))
    return nn.Sequential(*layers)


class InvertedResidual(nn.Module):
    """Expand, filter per channel, project (MobileNetV2, Sandler et al. 2018); a shortcut where shapes allow.

    Args:
        hidden: channels between; no expansion where it equals ``c_in``.
        side, eps, momentum: see `conv_bn`.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        hidden: int,
        kernel: int = 5,
        stride: int = 1,
        side: int | None = None,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.shortcut = stride == 1 and c_in == c_out
        expand = [conv_bn(c_in, hidden, 1, eps=eps, momentum=momentum), nn.ReLU6()] if hidden != c_in else []
        self.body = nn.Sequential(
            *expand,
            conv_bn(hidden, hidden, kernel, stride=stride, groups=hidden, side=side, eps=eps, momentum=momentum),
            nn.ReLU6(),
            conv_bn(hidden, c_out, 1, eps=eps, momentum=momentum),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.body(x)
        return x + y if self.shortcut else y
