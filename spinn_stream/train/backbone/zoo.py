"""Well-known backbones in plain torch, without weights: MobileNetV2, ResNets, VGG16-BN.

Every builder takes the number of classes and the side of the square input in pixels, and returns a network
from images (B, 3, H, W) to logits (B, num_classes). ResNet-18, ResNet-50 and VGG16-BN name their layers as
torchvision does, so that its published state dicts load by name. No layer works in place: a cut point or an
exit may still need what such a layer would overwrite.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from spinn_stream.errors import ConfigError

from .blocks import InvertedResidual, conv_bn

MOBILENET_V2_STAGES = (  # expansion, channels, repeats, stride: table 2 of Sandler et al. 2018
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
VGG16_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and convolutions between two poolings: column D of table 1, Simonyan and Zisserman 2015."""

VGG_POOLED = 7  # side of the map that VGG's first linear layer was made for: 224 / 32


def _initialise(net: nn.Module) -> None:
    """Convolutions after He et al. 2015 (fan out), linear layers small: as torchvision starts these networks."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01)
            nn.init.zeros_(layer.bias)


def mobilenet_v2(num_classes: int, image_size: int) -> nn.Sequential:
    """MobileNetV2 of width 1 (Sandler et al. 2018): stem, block0 .. block16, final. Any image size."""
    rows: OrderedDict[str, nn.Module] = OrderedDict()
    rows["stem"] = nn.Sequential(conv_bn(3, 32, 3, stride=2), nn.ReLU6())
    c_in, n = 32, 0
    for expansion, c_out, repeats, stride in MOBILENET_V2_STAGES:
        for r in range(repeats):
            rows[f"block{n}"] = InvertedResidual(
                c_in, c_out, hidden=c_in * expansion, kernel=3, stride=stride if r == 0 else 1
            )
            c_in, n = c_out, n + 1
    rows["final"] = nn.Sequential(
        conv_bn(c_in, 1280, 1),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(1280, num_classes),
    )
    net = nn.Sequential(rows)
    _initialise(net)
    return net


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 5 left).

    Args:
        downsample: brings the shortcut to the shape of the output; none where it has that shape already.
    """

    expansion: ClassVar[int] = 1

    def __init__(self, c_in: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y = self.relu2(y + (x if self.downsample is None else self.downsample(x)))
        return y  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut (He et al. 2016, figure 5 right).

    The stride is that of the 3x3 convolution, as in torchvision ("ResNet v1.5"); the paper has it in the
    first 1x1, which throws three quarters of the input away.
    """

    expansion: ClassVar[int] = 4

    def __init__(self, c_in: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu3 = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y = self.relu3(y + (x if self.downsample is None else self.downsample(x)))
        return y  # type: ignore[no-any-return]


class PaddedShortcut(nn.Module):
    """Every stride-th pixel, zeros for the new channels: option A of He et al. 2016, section 4.2; no weights."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.pick = nn.AvgPool2d(1, stride)  # over one pixel: a strided slice that every engine knows as a layer
        before = (c_out - c_in) // 2
        self.padding = (0, 0, 0, 0, before, c_out - c_in - before)  # of W, H, C

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(self.pick(x), self.padding)  # (B, c_in, H, W) -> (B, c_out, H / stride, W / stride)


def _layer(
    block: type[BasicBlock] | type[Bottleneck], c_in: int, width: int, repeats: int, stride: int, *, padded: bool
) -> nn.Sequential:
    """Blocks of one width, the first of which takes the stride."""
    c_out = width * block.expansion
    downsample: nn.Module | None = None
    if stride != 1 or c_in != c_out:
        downsample = PaddedShortcut(c_in, c_out, stride) if padded else conv_bn(c_in, c_out, 1, stride=stride)
    blocks = [block(c_in, width, stride, downsample)]
    blocks += [block(c_out, width, 1, None) for _ in range(repeats - 1)]
    return nn.Sequential(*blocks)


def _imagenet_resnet(
    block: type[BasicBlock] | type[Bottleneck], repeats: Sequence[int], num_classes: int
) -> nn.Sequential:
    rows: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        bn1=nn.BatchNorm2d(64),
        relu=nn.ReLU(),
        maxpool=nn.MaxPool2d(3, 2, 1),
    )
    c_in = 64
    for i, n in enumerate(repeats):
        width = 64 << i
        rows[f"layer{i + 1}"] = _layer(block, c_in, width, n, 1 if i == 0 else 2, padded=False)
        c_in = width * block.expansion
    rows["avgpool"] = nn.AdaptiveAvgPool2d(1)
    rows["flatten"] = nn.Flatten()
    rows["fc"] = nn.Linear(c_in, num_classes)
    net = nn.Sequential(rows)
    _initialise(net)
    return net


def resnet18(num_classes: int, image_size: int) -> nn.Sequential:
    """ResNet-18 (He et al. 2016) in torchvision's names: conv1 .. maxpool, layer1.0 .. layer4.1, fc. Any image size."""
    return _imagenet_resnet(BasicBlock, (2, 2, 2, 2), num_classes)


def resnet50(num_classes: int, image_size: int) -> nn.Sequential:
    """ResNet-50 (He et al. 2016) in torchvision's names: conv1 .. maxpool, layer1.0 .. layer4.2, fc. Any image size."""
    return _imagenet_resnet(Bottleneck, (3, 4, 6, 3), num_classes)


def resnet56_cifar(num_classes: int, image_size: int) -> nn.Sequential:
    """ResNet-56 for small pictures (He et al. 2016, section 4.2): conv1, bn1, layer1.0 .. layer3.8, fc.

    Shortcuts are the paper's option A, without weights. Made for 32 pixels; any size works, at a cost that
    grows with its square, as nothing shrinks the map before ``layer2``.
    """
    rows: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(3, 16, 3, 1, 1, bias=False), bn1=nn.BatchNorm2d(16), relu=nn.ReLU()
    )
    c_in = 16
    for i, width in enumerate((16, 32, 64)):
        rows[f"layer{i + 1}"] = _layer(BasicBlock, c_in, width, 9, 1 if i == 0 else 2, padded=True)
        c_in = width
    rows["avgpool"] = nn.AdaptiveAvgPool2d(1)
    rows["flatten"] = nn.Flatten()
    rows["fc"] = nn.Linear(c_in, num_classes)
    net = nn.Sequential(rows)
    _initialise(net)
    return net


class FixedAdaptivePool(nn.Module):
    """`nn.AdaptiveAvgPool2d` for an input whose side is known beforehand, as two matrix products.

    It gives the same numbers. ONNX has no adaptive pooling to a side that does not divide the input's.

    Args:
        side: of the input in pixels. pooled: side of the output.
    """

    average: torch.Tensor

    def __init__(self, side: int, pooled: int) -> None:
        super().__init__()
        average = torch.zeros(pooled, side)
        for i in range(pooled):
            first, last = i * side // pooled, -(-(i + 1) * side // pooled)
            average[i, first:last] = 1 / (last - first)
        self.register_buffer("average", average, persistent=False)  # follows from the sizes: not in the state dict

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.average @ x @ self.average.T  # (B, C, side, side) -> (B, C, pooled, pooled)


def vgg16_bn(num_classes: int, image_size: int) -> nn.Sequential:
    """VGG16 with batch normalisation in torchvision's names: features.0 .. features.43, classifier.0 .. classifier.6.

    Nine tenths of its 138 M weights are in the classifier.

    Raises:
        ConfigError: the image is smaller than 32 pixels, which its five poolings reduce to nothing.
    """
    if image_size < 32:
        raise ConfigError(f"VGG16-BN halves the image five times: got {image_size} pixels, expected 32 or more")
    features: list[nn.Module] = []
    c_in = 3
    for c_out, repeats in VGG16_STAGES:
        for _ in range(repeats):
            features += [nn.Conv2d(c_in, c_out, 3, 1, 1), nn.BatchNorm2d(c_out), nn.ReLU()]
            c_in = c_out
        features.append(nn.MaxPool2d(2))
    hidden = 4096
    rows: OrderedDict[str, nn.Module] = OrderedDict(
        features=nn.Sequential(*features),
        avgpool=FixedAdaptivePool(image_size // 32, VGG_POOLED),
        flatten=nn.Flatten(),
        classifier=nn.Sequential(
            nn.Linear(c_in * VGG_POOLED**2, hidden),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(hidden, num_classes),
        ),
    )
    if image_size // 32 == VGG_POOLED:
        rows["avgpool"] = nn.Identity()  # nothing to pool
    net = nn.Sequential(rows)
    _initialise(net)
    return net
