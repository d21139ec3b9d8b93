"""Starting a new classifier from a pretrained one, or keeping the present one."""

from __future__ import annotations

import torch
from torch import nn

from spinn_stream.errors import ConfigError
from spinn_stream.train.backbone.network import EarlyExitNetwork
from spinn_stream.train.data.images import LabelledImages, Scaling, resize

from .training import new_classifier


def own_classifier(module: nn.Module, classes: int) -> nn.Linear:
    """The linear layer that makes a network's logits.

    Raises:
        ConfigError: its last linear layer has another number of outputs, or it has no linear layer.
    """
    last = next((m for m in reversed(list(module.modules())) if isinstance(m, nn.Linear)), None)
    if last is None or last.out_features != classes or last.bias is None:
        found = "no linear layer" if last is None else f"one of {last.out_features} outputs"
        raise ConfigError(
            f"a head can be kept that is a linear layer of {classes} outputs with a bias; this backbone has {found}"
        )
    return last


def adopt_classifier(network: EarlyExitNetwork, pretrained: nn.Linear, images: LabelledImages, scaling: Scaling) -> int:
    """Start the final classifier from the rows of a pretrained one that fire most on each class's images.

    The backbone often knows the new classes already; their images show which row is whose.

    Returns:
        The number of classes that got a row of their own.

    Raises:
        ConfigError: the backbone does not end in a linear layer of the pretrained one's inputs.
    """
    final = new_classifier(network)
    if final is None or final.in_features != pretrained.in_features:
        raise ConfigError("the backbone does not end in the linear layer that its published weights go with")
    seen: list[torch.Tensor] = []
    hook = final.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    network.eval()
    try:
        with torch.inference_mode():
            for i in range(0, len(images), 100):
                x = resize(torch.from_numpy(images.pixels[i : i + 100]), network.cuts[0].shape[1])
                y = (x - scaling.mean) * scaling.scale
                for stage in network.stages:
                    y = stage(y)
    finally:
        hook.remove()
    with torch.no_grad():
        probabilities = pretrained(torch.cat(seen)).softmax(1)
        labels = torch.from_numpy(images.labels)
        score = torch.zeros(final.out_features, pretrained.out_features)  # mean probability: (classes, rows)
        for c in range(final.out_features):
            if (labels == c).any():
                score[c] = probabilities[labels == c].mean(0)
        rows = score.argmax(1)
        final.weight.copy_(pretrained.weight[rows])
        final.bias.copy_(pretrained.bias[rows])
    return len(set(rows.tolist()))
