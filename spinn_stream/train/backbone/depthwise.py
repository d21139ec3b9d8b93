"""Depthwise convolution with a gradient that is fast on CPUs.

If the stride is 2 or the kernel is 5x5, oneDNN's bfloat16 backward kernels for depthwise convolutions are many times
slower than its forward kernels (torch 2.13, AVX-512). The same sums can be computed in another way: the gradient of a
strided input is a plain convolution of the gradient with zeros between its pixels, and the gradient of a 5x5 kernel is
made of four gradients of 3x3 kernels. benchmarks/training.py measures the gain.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


def _conv_backward(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: int, padding: int, mask: tuple[bool, bool]
) -> tuple[torch.Tensor, torch.Tensor]:
    found = torch.ops.aten.convolution_backward(
        grad, x, weight, None, (stride, stride), (padding, padding), (1, 1), False, (0, 0), x.shape[1], (*mask, False)
    )
    return found[0], found[1]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, x.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        x, weight = ctx.saved_tensors
        stride, padding, k = ctx.stride, ctx.padding, weight.shape[2]
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            if stride == 1:
                grad_x, _ = _conv_backward(grad, x, weight, stride, padding, (True, False))
            else:
                b, c, h, w = x.shape
                o = k - 1 - padding
                sparse = torch.empty(
                    (b, c, h + k - 1, w + k - 1), dtype=grad.dtype, memory_format=torch.channels_last
                ).zero_()
                rows, columns = stride * (grad.shape[2] - 1) + 1, stride * (grad.shape[3] - 1) + 1
                sparse[:, :, o : o + rows : stride, o : o + columns : stride] = grad
                flipped = weight.flip(2, 3).contiguous(memory_format=torch.channels_last)
                grad_x = F.conv2d(sparse, flipped, None, 1, 0, 1, c)
        if ctx.needs_input_grad[1]:
            if k != 5:
                _, grad_weight = _conv_backward(grad, x, weight, stride, padding, (False, True))
            else:
                padded = F.pad(x, (padding,) * 4)
                rows, columns = stride * (grad.shape[2] - 1) + 3, stride * (grad.shape[3] - 1) + 3
                grad_weight = torch.empty_like(weight)
                for i in (0, 2):
                    for j in (0, 2):
                        part = padded[:, :, i : i + rows, j : j + columns].contiguous(memory_format=torch.channels_last)
                        _, small = _conv_backward(grad, part, weight[:, :, :3, :3], stride, 0, (False, True))
                        grad_weight[:, :, i : i + 3, j : j + 3] = small
        return grad_x, grad_weight, None, None


def _forward(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    weight = conv.weight
    if torch.is_autocast_enabled("cpu"):
        x, weight = x.to(torch.bfloat16), weight.to(torch.bfloat16)
    weight = weight.contiguous(memory_format=torch.channels_last)
    y: torch.Tensor = _Depthwise.apply(x, weight, conv.stride[0], conv.padding[0])  # type: ignore[no-untyped-call]
    return y if conv.bias is None else y + conv.bias.to(y.dtype).view(1, -1, 1, 1)


def _is_plain_depthwise(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.groups == module.in_channels == module.out_channels > 1
        and module.padding_mode == "zeros"
        and set(module.dilation) == {1}
        and all(len({*pair}) == 1 for pair in (module.kernel_size, module.stride))
        and isinstance(module.padding, tuple)
        and module.padding[0] == module.padding[1] <= module.kernel_size[0] - 1
    )


@contextmanager
def fast_depthwise(network: nn.Module) -> Iterator[None]:
    """Inside, the network's depthwise convolutions use the gradient above."""
    convs = [m for m in network.modules() if _is_plain_depthwise(m)]
    for conv in convs:
        conv.forward = partial(_forward, conv)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for conv in convs:
            del conv.forward
