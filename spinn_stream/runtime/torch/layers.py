"""Operators with windows or weights: convolution, pooling, linear, normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .node import Node

Function = Callable[..., Any]
"""Takes the inputs that are left at run time, None for those left out; gives a tensor, or several (Split)."""

CONVOLUTIONS: tuple[type[nn.Conv1d | nn.Conv2d | nn.Conv3d], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED: tuple[type[nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d], ...] = (
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
MAX_POOLS: tuple[Function, ...] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
AVERAGE_POOLS: tuple[Function, ...] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


def _axes(node: Node, kernel: list[int]) -> int:
    if not 1 <= len(kernel) <= 3:
        raise node.error(f"{len(kernel)} spatial axes, expected 1 to 3")
    return len(kernel)


def _padding(node: Node, n: int) -> tuple[list[int], list[int]]:
    """Zeros before and after each of the n spatial axes."""
    how = node.attribute("auto_pad", "NOTSET")
    if how not in ("NOTSET", "VALID"):
        raise node.error(f"auto_pad is {how!r}, expected pads in numbers")
    pads = node.attribute("pads", [0] * 2 * n)
    if len(pads) != 2 * n or min(pads) < 0:
        raise node.error(f"pads {pads}, expected {2 * n} numbers of at least 0")
    return pads[:n], pads[n:]


def _as_torch_pads(before: list[int], after: list[int]) -> list[int]:
    """The last axis first, as torch.nn.functional.pad has it."""
    return [n for pair in zip(reversed(before), reversed(after), strict=True) for n in pair]


def _window(node: Node, kernel: list[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(strides, dilations)."""
    n = len(kernel)
    strides, dilations = node.attribute("strides", [1] * n), node.attribute("dilations", [1] * n)
    if len(strides) != n or len(dilations) != n:
        raise node.error(f"strides {strides} and dilations {dilations} for {n} spatial axes")
    return tuple(strides), tuple(dilations)


def _convolution_weights(node: Node) -> tuple[nn.Parameter, nn.Parameter | None, list[int]]:
    weight, bias = node.weight(1), node.weight(2)
    if weight is None:
        raise node.error("no weights")
    kernel = list(weight.shape[2:])
    _axes(node, kernel)
    node.expect("kernel_shape", kernel)
    return weight, bias, kernel


def conv(node: Node) -> Function:
    weight, bias, kernel = _convolution_weights(node)
    before, after = _padding(node, len(kernel))
    stride, dilation = _window(node, kernel)
    groups = node.attribute("group", 1)
    even = before == after
    module = CONVOLUTIONS[len(kernel) - 1](
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(kernel),  # type: ignore[arg-type]
        stride,  # type: ignore[arg-type]
        tuple(before) if even else 0,  # type: ignore[arg-type]
        dilation,  # type: ignore[arg-type]
        groups,
        bias=bias is not None,
        device="meta",  # its weights are replaced at once
    )
    module.weight, module.bias = weight, bias
    return module if even else nn.Sequential(_Pad(_as_torch_pads(before, after)), module)


class _Pad(nn.Module):
    """Zeros around, in the order of torch.nn.functional.pad."""

    def __init__(self, pads: list[int]) -> None:
        super().__init__()
        self.pads = pads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, self.pads)


def conv_transpose(node: Node) -> Function:
    weight, bias, kernel = _convolution_weights(node)
    n = len(kernel)
    before, after = _padding(node, n)
    if before != after:
        raise node.error(f"pads {before} before and {after} after, expected the same")
    stride, dilation = _window(node, kernel)
    groups = node.attribute("group", 1)
    module = TRANSPOSED[n - 1](
        weight.shape[0],
        weight.shape[1] * groups,
        tuple(kernel),  # type: ignore[arg-type]
        stride,  # type: ignore[arg-type]
        tuple(before),  # type: ignore[arg-type]
        tuple(node.attribute("output_padding", [0] * n)),
        groups,
        bias is not None,
        dilation,  # type: ignore[arg-type]
        device="meta",
    )
    module.weight, module.bias = weight, bias
    return module


def linear(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    """From weights of shape (out, in)."""
    module = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    module.weight = weight
    module.register_parameter("bias", bias)
    return module


def gemm(node: Node) -> Function:
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    a_turned, b_turned = node.attribute("transA", 0), node.attribute("transB", 0)
    bias_fits = not node.has(2) or (node.is_constant(2) and node.constants[node.inputs[2]].ndim == 1)
    if node.is_constant(1) and bias_fits and (alpha, beta, a_turned) == (1.0, 1.0, 0):
        weight = node.weight(1, transposed=not b_turned)
        assert weight is not None  # it is constant
        bias = node.weight(2)
        if bias is None or bias.shape[0] == weight.shape[0]:
            return linear(weight, bias)
        raise node.error(f"{bias.shape[0]} biases for {weight.shape[0]} outputs")

    def run(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        y: torch.Tensor = alpha * ((a.T if a_turned else a) @ (b.T if b_turned else b))
        return y if c is None else y + beta * c

    return run


def matmul(node: Node) -> Function:
    if node.is_constant(1) and not node.is_constant(0) and node.constants[node.inputs[1]].ndim == 2:
        weight = node.weight(1, transposed=True)
        assert weight is not None  # it is constant
        return linear(weight, None)
    return torch.matmul


def _pool(node: Node) -> tuple[list[int], tuple[int, ...], tuple[int, ...], list[int], list[int], bool]:
    kernel = node.attribute("kernel_shape", [])
    n = _axes(node, kernel)
    before, after = _padding(node, n)
    stride, dilation = _window(node, kernel)
    up = bool(node.attribute("ceil_mode", 0))
    if up and before != after:
        raise node.error(f"ceil_mode with pads {before} before and {after} after, expected the same")
    return kernel, stride, dilation, before, after, up


def max_pool(node: Node) -> Function:
    kernel, stride, dilation, before, after, up = _pool(node)
    node.expect("storage_order", 0)
    pool, pads = MAX_POOLS[len(kernel) - 1], _as_torch_pads(before, after)
    if before == after:
        return lambda x: pool(x, kernel, stride, before, dilation, ceil_mode=up)
    return lambda x: pool(F.pad(x, pads, value=float("-inf")), kernel, stride, 0, dilation)


def average_pool(node: Node) -> Function:
    kernel, stride, dilation, before, after, up = _pool(node)
    if set(dilation) != {1}:
        raise node.error(f"dilations {dilation}, expected 1")
    with_pads = bool(node.attribute("count_include_pad", 0))
    pool, pads = AVERAGE_POOLS[len(kernel) - 1], _as_torch_pads(before, after)
    if before == after:
        return lambda x: pool(x, kernel, stride, before, up, with_pads)

    def run(x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = pool(F.pad(x, pads), kernel, stride)
        if with_pads:
            return y
        share: torch.Tensor = pool(F.pad(torch.ones_like(x[:1, :1]), pads), kernel, stride)  # that is not padding
        return y / share

    return run


def global_average_pool(node: Node) -> Function:
    return lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True)


def global_max_pool(node: Node) -> Function:
    return lambda x: x.amax(tuple(range(2, x.ndim)), keepdim=True)


def batch_norm(node: Node) -> Function:
    epsilon = node.attribute("epsilon", 1e-5)
    node.attribute("momentum", 0.9)  # of training alone
    node.expect("training_mode", 0)
    node.frozen |= {3, 4}
    return lambda x, scale, bias, mean, var: F.batch_norm(x, mean, var, scale, bias, eps=epsilon)


def layer_norm(node: Node) -> Function:
    epsilon = node.attribute("epsilon", 1e-5)
    node.expect("stash_type", 1)
    axis = node.attribute("axis", -1)
    weight, bias = node.weight(1), node.weight(2)
    if weight is None or axis != -weight.ndim:
        shape = None if weight is None else tuple(weight.shape)
        raise node.error(f"axis {axis} with weights of shape {shape}, expected minus the number of its axes")
    module = nn.LayerNorm(list(weight.shape), epsilon, bias=bias is not None, device="meta")
    module.weight = weight
    module.register_parameter("bias", bias)
    return module


def instance_norm(node: Node) -> Function:
    epsilon = node.attribute("epsilon", 1e-5)
    return lambda x, scale, bias: F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)
