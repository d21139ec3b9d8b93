"""Small networks of every kind that people write, each with its multiply-adds worked out by hand.

They are written as their papers' code is, habits included: functional calls, sizes read and used, lists of
branches, layers called twice, writing in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

CLASSES = 10


@dataclass(frozen=True)
class Specimen:
    """side: of its square images in pixels. macs: for one of them. names: its cut points behind the input."""

    kind: str
    build: Callable[[], nn.Module]
    side: int
    macs: int
    names: tuple[str, ...]


def conv(side: int, c_out: int, c_in: int, k: int = 1, groups: int = 1) -> int:
    """Multiply-adds of a convolution that gives maps of this side: each output sees k x k of its group's inputs."""
    return side * side * c_out * (c_in // groups) * k * k


# Plain


class Vgg(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c_in = 3
        for c in (8, "pool", 16, "pool", 32, 32, "pool"):
            if isinstance(c, str):
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(c_in, c, 3, padding=1), nn.ReLU(inplace=True)]
                c_in = c
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(nn.Linear(128, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.avgpool(self.features(x))
        x = x.view(x.size(0), -1)
        out: torch.Tensor = self.classifier(x)
        return out


VGG_MACS = conv(32, 8, 3, 3) + conv(16, 16, 8, 3) + conv(8, 32, 16, 3) + conv(8, 32, 32, 3) + 128 * 64 + 64 * CLASSES


class Tutorial(nn.Module):
    """A first network, all calls functional, with the loop over sizes that a well-known tutorial has."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 40)
        self.fc2 = nn.Linear(40, CLASSES)

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, self.num_flat_features(x))
        x = F.dropout(F.relu(self.fc1(x)), 0.5, self.training)
        if return_features:
            return x
        out: torch.Tensor = self.fc2(x)
        return out

    def num_flat_features(self, x: torch.Tensor) -> int:
        features = 1
        for s in x.size()[1:]:
            features *= s
        return features


TUTORIAL_MACS = conv(28, 6, 3, 5) + conv(10, 16, 6, 5) + 400 * 40 + 40 * CLASSES


# Residual


class BasicBlock(nn.Module):
    def __init__(self, c_in: int, c: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(c, c, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c)
        self.downsample: nn.Module | None = None
        if stride != 1 or c_in != c:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c, 1, stride, bias=False), nn.BatchNorm2d(c))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        y: torch.Tensor = self.relu(out)
        return y


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(BasicBlock(8, 8, 1), BasicBlock(8, 8, 1))
        self.layer2 = nn.Sequential(BasicBlock(8, 16, 2), BasicBlock(16, 16, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer2(self.layer1(x))
        x = torch.flatten(self.avgpool(x), 1)
        out: torch.Tensor = self.fc(x)
        return out


RESNET_MACS = (
    conv(32, 8, 3, 3)
    + 4 * conv(32, 8, 8, 3)
    + conv(16, 16, 8, 3)
    + conv(16, 16, 16, 3)
    + conv(16, 16, 8)  # the shortcut
    + 2 * conv(16, 16, 16, 3)
    + 16 * CLASSES
)


class PreActivation(nn.Module):
    """Normalise, activate, convolve; shortcuts without parameters: every second pixel, padded with zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList()
        for c_in, c in ((8, 8), (8, 16)):
            self.blocks.append(
                nn.ModuleDict(
                    {
                        "bn1": nn.BatchNorm2d(c_in),
                        "conv1": nn.Conv2d(c_in, c, 3, c // c_in, 1),
                        "bn2": nn.BatchNorm2d(c),
                        "conv2": nn.Conv2d(c, c, 3, 1, 1),
                    }
                )
            )
        self.bn = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            y = block["conv1"](F.relu(block["bn1"](x)))  # type: ignore[index]
            y = block["conv2"](F.relu_(block["bn2"](y)))  # type: ignore[index]
            if y.shape != x.shape:
                missing = y.shape[1] - x.shape[1]
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, missing // 2, missing - missing // 2))
            x = x + y
        x = F.relu(self.bn(x)).mean([2, 3])
        out: torch.Tensor = self.fc(x)
        return out


PRE_ACTIVATION_MACS = conv(16, 8, 3, 3) + 2 * conv(16, 8, 8, 3) + conv(8, 16, 8, 3) + conv(8, 16, 16, 3) + 16 * CLASSES


class ConvNextBlock(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(c, c, 7, padding=3, groups=c)
        self.norm = nn.LayerNorm(c)
        self.pwconv1 = nn.Linear(c, 4 * c)
        self.pwconv2 = nn.Linear(4 * c, c)
        self.gamma = nn.Parameter(torch.full((c,), 0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.dwconv(x).permute(0, 2, 3, 1)  # (B, H, W, C)
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(self.norm(y))))
        return x + y.permute(0, 3, 1, 2)


class ConvNext(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.stages = nn.Sequential(ConvNextBlock(8), nn.Conv2d(8, 16, 2, 2), ConvNextBlock(16))
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stages(self.stem(x))
        out: torch.Tensor = self.head(self.norm(x.mean((-2, -1))))
        return out


CONVNEXT_MACS = (
    conv(8, 8, 3, 4)
    + (conv(8, 8, 8, 7, groups=8) + 2 * 64 * 8 * 32)
    + conv(4, 16, 8, 2)
    + (conv(4, 16, 16, 7, groups=16) + 2 * 16 * 16 * 64)
    + 16 * CLASSES
)


# Inverted residual


class SqueezeExcitation(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(c, c // 4, 1)
        self.fc2 = nn.Conv2d(c // 4, c, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = F.adaptive_avg_pool2d(x, 1)
        return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(scale), inplace=True)))


class InvertedResidual(nn.Module):
    def __init__(self, c_in: int, c: int, stride: int, expand: int, excite: bool = False) -> None:
        super().__init__()
        hidden = c_in * expand
        self.use_res_connect = stride == 1 and c_in == c
        act: type[nn.Module] = nn.Hardswish if excite else nn.ReLU6
        layers: list[nn.Module] = []
        if expand != 1:
            layers += [nn.Conv2d(c_in, hidden, 1, bias=False), nn.BatchNorm2d(hidden), act()]
        layers += [
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            act(),
            *([SqueezeExcitation(hidden)] if excite else []),
            nn.Conv2d(hidden, c, 1, bias=False),
            nn.BatchNorm2d(c),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.use_res_connect:
            return x + self.conv(x)  # type: ignore[no-any-return]
        return self.conv(x)  # type: ignore[no-any-return]


class MobileNet(nn.Module):
    def __init__(self, excite: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True)),
            InvertedResidual(8, 8, 1, 1, excite),
            InvertedResidual(8, 12, 2, 6, excite),
            InvertedResidual(12, 12, 1, 6, excite),
            InvertedResidual(12, 16, 2, 3, excite),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(16, CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)
        x = F.adaptive_avg_pool2d(x, (1, 1)).reshape(x.shape[0], -1)
        out: torch.Tensor = self.classifier(x)
        return out


MOBILENET_MACS = (
    conv(16, 8, 3, 3)
    + (conv(16, 8, 8, 3, groups=8) + conv(16, 8, 8))
    + (conv(16, 48, 8) + conv(8, 48, 48, 3, groups=48) + conv(8, 12, 48))
    + (conv(8, 72, 12) + conv(8, 72, 72, 3, groups=72) + conv(8, 12, 72))
    + (conv(8, 36, 12) + conv(4, 36, 36, 3, groups=36) + conv(4, 16, 36))
    + 16 * CLASSES
)
EXCITATION_MACS = sum(2 * c * (c // 4) for c in (8, 48, 72, 36))


# Branching


class Inception(nn.Module):
    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.branch1 = nn.Conv2d(c_in, 4, 1)
        self.branch2 = nn.Sequential(nn.Conv2d(c_in, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, padding=1))
        self.branch3 = nn.Conv2d(c_in, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = [self.branch1(x), self.branch2(x), self.branch3(F.max_pool2d(x, 3, stride=1, padding=1))]
        return F.relu(torch.cat(outputs, 1))


class GoogLeNet(nn.Module):
    """With a normalisation by channels in front, and an auxiliary classifier while training."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.inception1 = Inception(8)
        self.inception2 = Inception(16)
        self.aux = nn.Linear(16, CLASSES)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x: torch.Tensor) -> Any:
        channels = [torch.unsqueeze(x[:, i], 1) * (1.0 + i) - 0.5 for i in range(x.shape[1])]
        x = F.relu(self.conv1(torch.cat(channels, 1)))
        x = self.inception1(x)
        aux = self.aux(x.mean([2, 3])) if self.training else None
        x = self.inception2(x)
        logits = self.fc(torch.flatten(F.avg_pool2d(x, x.shape[2:]), 1))
        return (logits, aux) if self.training else logits


def _inception(c_in: int) -> int:
    return conv(16, 4, c_in) + conv(16, 4, c_in) + conv(16, 8, 4, 3) + conv(16, 4, c_in)


GOOGLENET_MACS = conv(16, 8, 3, 3) + _inception(8) + _inception(16) + 16 * CLASSES


class Fire(nn.Module):
    def __init__(self, c_in: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(c_in, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.activation = nn.ReLU(inplace=True)  # called three times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.activation(self.squeeze(x))
        return torch.cat([self.activation(self.expand1x1(x)), self.activation(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    """No linear layer: its logits are averaged maps, and squeeze() without axes takes the rest off."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.ReLU(), Fire(8, 4, 8), nn.MaxPool2d(3, 2), Fire(16, 4, 8)
        )
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(16, CLASSES, 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.adaptive_avg_pool2d(self.classifier(self.features(x)), 1).squeeze()
        return x if x.dim() == 2 else x.unsqueeze(0)


SQUEEZENET_MACS = (
    conv(15, 8, 3, 3)
    + (conv(15, 4, 8) + conv(15, 8, 4) + conv(15, 8, 4, 3))
    + (conv(7, 4, 16) + conv(7, 8, 4) + conv(7, 8, 4, 3))
    + conv(7, CLASSES, 16)
)


def channel_shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
    batch, channels, height, width = x.size()
    x = x.view(batch, groups, channels // groups, height, width)
    return torch.transpose(x, 1, 2).contiguous().view(batch, -1, height, width)


class ShuffleBlock(nn.Module):
    def __init__(self, c: int, stride: int) -> None:
        super().__init__()
        half = c // 2
        self.stride = stride
        self.branch1 = nn.Sequential()
        if stride > 1:
            self.branch1 = nn.Sequential(nn.Conv2d(half, half, 3, stride, 1, groups=half), nn.Conv2d(half, half, 1))
        self.branch2 = nn.Sequential(nn.Conv2d(half, half, 1), nn.Conv2d(half, half, 3, stride, 1, groups=half))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride == 1:
            x1, x2 = x.chunk(2, dim=1)
            out = torch.cat((x1, self.branch2(x2)), dim=1)
        else:
            out = torch.cat((self.branch1(x), self.branch2(x)), dim=1)
        return channel_shuffle(out, 2)


class ShuffleNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1)
        self.stage2 = nn.Sequential(ShuffleBlock(16, 2), ShuffleBlock(16, 1))
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stage2(self.conv1(x))
        out: torch.Tensor = self.fc(x.mean([2, 3]))
        return out


SHUFFLENET_MACS = (
    conv(16, 8, 3, 3)
    + (conv(8, 8, 8, 3, groups=8) + conv(8, 8, 8))  # first branch
    + (conv(16, 8, 8) + conv(8, 8, 8, 3, groups=8))
    + (conv(8, 8, 8) + conv(8, 8, 8, 3, groups=8))  # second block, on half of the channels
    + 16 * CLASSES
)


# Concatenating


class DenseLayer(nn.Module):
    def __init__(self, c_in: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c_in)
        self.conv = nn.Conv2d(c_in, growth, 3, padding=1, bias=False)

    def forward(self, inputs: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
        features = [inputs] if isinstance(inputs, torch.Tensor) else inputs
        y: torch.Tensor = self.conv(F.relu(self.norm(torch.cat(features, 1)), inplace=True))
        return F.dropout(y, p=0.1, training=self.training)


class DenseBlock(nn.ModuleDict):
    def __init__(self, layers: int, c_in: int, growth: int) -> None:
        super().__init__({f"denselayer{i + 1}": DenseLayer(c_in + i * growth, growth) for i in range(layers)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [x]
        for _name, layer in self.items():
            features.append(layer(features))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, 8, 3, 1, 1))
        self.features.add_module("denseblock1", DenseBlock(2, 8, 4))
        self.features.add_module("norm1", nn.BatchNorm2d(16))
        self.features.add_module("transition1", nn.Conv2d(16, 8, 1))
        self.features.add_module("pool1", nn.AvgPool2d(2))
        self.features.add_module("denseblock2", DenseBlock(2, 8, 4))
        self.classifier = nn.Linear(16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = F.relu(self.features(x), inplace=True)
        out: torch.Tensor = self.classifier(torch.flatten(F.adaptive_avg_pool2d(features, (1, 1)), 1))
        return out


DENSENET_MACS = (
    conv(32, 8, 3, 3)
    + (conv(32, 4, 8, 3) + conv(32, 4, 12, 3))
    + conv(32, 8, 16)
    + (conv(16, 4, 8, 3) + conv(16, 4, 12, 3))
    + 16 * CLASSES
)


# Odd habits


class StandardisedConv(nn.Conv2d):
    """Its weight is computed anew at every pass."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight
        spread, mean = torch.std_mean(weight, dim=[1, 2, 3], keepdim=True)
        return F.conv2d(x, (weight - mean) / (spread + 1e-5), self.bias, self.stride, self.padding)


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        s = torch.sigmoid(ctx.saved_tensors[0])
        return grads[0] * s * (1 + ctx.saved_tensors[0] * (1 - s))


class Attention(nn.Module):
    """Tokens, a class token for every image of the batch, and one step of attention."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, c))
        self.qkv = nn.Linear(c, 3 * c)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)  # (B, HW, C)
        tokens = torch.cat((self.token.expand(b, -1, -1), tokens, torch.zeros(b, 1, c)), dim=1)
        q, k, v = self.qkv(tokens).reshape(b, h * w + 2, 3, c).unbind(2)
        attention = torch.softmax(q @ k.transpose(-2, -1) * c**-0.5, dim=-1)
        return torch.einsum("bij,bjc->bic", attention, v)[:, 0]


class Oddities(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = StandardisedConv(3, 8, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.shared = nn.Conv2d(8, 8, 3, padding=1)
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]))
        self.scale = torch.tensor(0.5)  # not registered
        self.attention = Attention(8)
        self.head = nn.Linear(8, CLASSES)
        self.last_map: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dim() == 4, "images come as (B, C, H, W)"
        x = (x - self.mean[None, :, None, None]) * self.scale  # type: ignore[index]
        x = self.conv1(x)
        self.relu(x)  # in place, its result not taken
        x = self.shared(x)
        x = Swish.apply(x)  # type: ignore[no-untyped-call]
        x = self.shared(x)  # the same layer again
        x[:, :2] *= 2.0
        self.last_map = x
        x = nn.MaxPool2d(2)(x)
        x = F.interpolate(x, size=(x.shape[-2] // 2, x.shape[-1] // 2), mode="bilinear")
        assert math.prod(x.shape[2:]) == 16
        out: torch.Tensor = self.head(self.attention(x))
        return out


ODDITIES_MACS = (
    conv(16, 8, 3, 3)
    + 2 * conv(16, 8, 8, 3)
    + 18 * 8 * 24  # 16 tokens and two more, queries, keys and values
    + 2 * 18 * 18 * 8  # every token with every token, twice
    + 8 * CLASSES
)


_MOBILE = "features.0 features.1 features.2 features.3 classifier.0 classifier"


def _specimen(kind: str, build: Callable[[], nn.Module], side: int, macs: int, names: str) -> Specimen:
    return Specimen(kind, build, side, macs, tuple(names.split()))


ZOO: dict[str, Specimen] = {
    "vgg": _specimen("plain", Vgg, 32, VGG_MACS, "features.2 features.5 features.7 view classifier.2 classifier"),
    "tutorial": _specimen("plain", Tutorial, 32, TUTORIAL_MACS, "max_pool2d view dropout fc2"),
    "resnet": _specimen("residual", ResNet, 32, RESNET_MACS, "relu layer1.0 layer1 layer2.0 flatten fc"),
    "preactivation": _specimen("residual", PreActivation, 16, PRE_ACTIVATION_MACS, "stem add mean fc"),
    "convnext": _specimen("residual", ConvNext, 32, CONVNEXT_MACS, "stem stages.0 stages.1 norm head"),
    "mobilenet": _specimen("inverted residual", MobileNet, 32, MOBILENET_MACS, _MOBILE),
    "mobilenet-se": _specimen(
        "inverted residual", lambda: MobileNet(excite=True), 32, MOBILENET_MACS + EXCITATION_MACS, _MOBILE
    ),
    "googlenet": _specimen("branching", GoogLeNet, 32, GOOGLENET_MACS, "relu inception1 flatten fc"),
    "squeezenet": _specimen(
        "branching",
        SqueezeNet,
        32,
        SQUEEZENET_MACS,
        "features.1 features.2.activation features.3 features.4.activation classifier.0 squeeze",
    ),
    "shufflenet": _specimen("branching", ShuffleNet, 32, SHUFFLENET_MACS, "conv1 stage2.0 mean fc"),
    "densenet": _specimen(
        "concatenating",
        DenseNet,
        32,
        DENSENET_MACS,
        "features.conv0 features.norm1 features.pool1 flatten classifier",
    ),
    "oddities": _specimen(
        "residual",
        Oddities,
        32,
        ODDITIES_MACS,
        "relu Swish attention.transpose attention.cat attention.reshape attention head",
    ),
}


def build(name: str) -> nn.Module:
    """The network at random weights, with running statistics that are not those of a fresh one."""
    torch.manual_seed(0)
    network = ZOO[name].build()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return network
