"""A backbone as a row of stages between cut points, with exits attached: what is trained and exported."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import nn

from .exit_head import ExitHead


class EarlyExitNetwork(nn.Module):
    """Stages run one after the other; after some of them an exit head classifies the activation.

    The output of stage ``i`` is cut point ``i + 1``; cut point 0 is the network's input. The last stage
    ends in the backbone's own classifier, so its output is the logits of the final exit.

    Args:
        stages: name of the cut point behind each stage -> the stage, in order.
        exits: name of the cut point -> the head that classifies there.
    """

    def __init__(self, stages: OrderedDict[str, nn.Module], exits: Mapping[str, ExitHead]) -> None:
        super().__init__()
        unknown = [name for name in exits if name not in stages]
        if unknown:
            raise ValueError(f"exits at unknown cut points {unknown}; known are {list(stages)}")
        self.stages = nn.ModuleDict(stages)
        self.exits = nn.ModuleDict({name: exits[name] for name in stages if name in exits})

    def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Logits of every exit and of the final exit.

        Args:
            x: normalised images, (B, 3, H, W).

        Returns:
            One (B, num_classes) tensor per exit, shallow to deep, and the final one.
        """
        logits: list[torch.Tensor] = []
        for name, stage in self.stages.items():
            x = stage(x)
            if name in self.exits:
                logits.append(self.exits[name](x))
        return logits, x


def count_macs(module: nn.Module, x: torch.Tensor) -> tuple[int, torch.Tensor]:
    """Multiply-adds of convolutions and linear layers for one forward pass, and the pass's output.

    Element-wise work (activations, additions, pooling, batch norm, which folds into the convolution) is
    not counted. The same definition as fvcore's ``FlopCountAnalysis`` for these layers.

    Args:
        x: a batch of one.

    Raises:
        ValueError: the batch is not of one image.
    """
    if x.shape[0] != 1:
        raise ValueError(f"count_macs takes a batch of 1, got {x.shape[0]}")
    macs = 0

    def count(layer: nn.Module, _inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(layer, nn.Conv2d):
            kh, kw = layer.kernel_size
            macs += output.numel() * (layer.in_channels // layer.groups) * kh * kw
        elif isinstance(layer, nn.Linear):
            macs += output.numel() * layer.in_features

    hooks = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    try:
        with torch.inference_mode():
            y: torch.Tensor = module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return macs, y
