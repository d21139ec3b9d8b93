"""The operators of standard ONNX that CNNs are exported to -> functions of torch.

Each builder reads one node and gives the function that runs it. OPERATORS is the whole list; with it stands
the largest number of inputs that the function understands.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod
from typing import Any

import torch
import torch.nn.functional as F

from spinn_stream.bundle import MAX_ELEMENTS

from . import layers
from .layers import Function
from .node import DTYPES, Node, to_tensor

Builder = Callable[[Node], Function]


def _plain(function: Function) -> Builder:
    """An operator without attributes whose inputs are those of the function."""
    return lambda node: function


def _constant(node: Node) -> Function:
    kinds: dict[str, Callable[[Any], torch.Tensor]] = {
        "value": to_tensor,
        "value_float": lambda v: torch.tensor(v, dtype=torch.float32),
        "value_floats": lambda v: torch.tensor(v, dtype=torch.float32),
        "value_int": lambda v: torch.tensor(v, dtype=torch.int64),
        "value_ints": lambda v: torch.tensor(v, dtype=torch.int64),
    }
    found = [k for k in kinds if k in node.attributes]
    if len(found) != 1:
        raise node.error(f"its value is none of {', '.join(kinds)}")
    value = kinds[found[0]](node.attribute(found[0], None))
    return lambda: value


def _divide(node: Node) -> Function:
    def run(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")

    return run


def _clip(node: Node) -> Function:
    low, high = node.number(1), node.number(2)
    return (lambda x: x) if low is None and high is None else lambda x: torch.clamp(x, low, high)


def _hard_sigmoid(node: Node) -> Function:
    alpha, beta = node.attribute("alpha", 0.2), node.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return F.hardsigmoid
    return lambda x: torch.clamp(x * alpha + beta, 0, 1)


def _elu(node: Node) -> Function:
    alpha = node.attribute("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


def _leaky_relu(node: Node) -> Function:
    alpha = node.attribute("alpha", 0.01)
    return lambda x: F.leaky_relu(x, alpha)


def _softmax(function: Function) -> Builder:
    def build(node: Node) -> Function:
        axis = node.attribute("axis", -1)
        return lambda x: function(x, axis)

    return build


def _reduction(function: Function) -> Builder:
    """Axes are an attribute or an input, as the version of the operator has it."""

    def build(node: Node) -> Function:
        keep, axes = bool(node.attribute("keepdims", 1)), node.attribute("axes", None)
        nothing = bool(node.attribute("noop_with_empty_axes", 0))
        if node.has(1):
            axes = node.ints(1)
        if not axes and nothing:
            return lambda x: x
        return lambda x: function(x, tuple(axes or range(x.ndim)), keepdim=keep)

    return build


def _variadic(function: Function) -> Builder:
    return lambda node: lambda *tensors: reduce(function, tensors)


def _cast(node: Node) -> Function:
    to = node.attribute("to", 0)
    if to not in DTYPES:
        raise node.error(f"to type {to} of ONNX, expected one of {sorted(DTYPES)}")
    return lambda x: x.to(DTYPES[to])


def _dropout(node: Node) -> Function:
    node.attribute("seed", 0)
    node.constant(1)
    if node.number(2):
        raise node.error("it is in training mode")
    return lambda x: x


def _shape(node: Node) -> Function:
    start, end = node.attribute("start", 0), node.attribute("end", None)
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64)


def _gather(node: Node) -> Function:
    axis = node.attribute("axis", 0)

    def run(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        at = axis % x.ndim
        flat = places.reshape(-1).to(x.device, torch.int64)
        found = x.index_select(at, torch.where(flat < 0, flat + x.shape[at], flat))
        return found.reshape(x.shape[:at] + places.shape + x.shape[at + 1 :])

    return run


def _concat(node: Node) -> Function:
    axis = node.attribute("axis", 0)
    return lambda *tensors: torch.cat(tensors, axis)


def _split(node: Node) -> Function:
    axis, sizes, n = node.attribute("axis", 0), node.ints(1), len(node.outputs)
    node.expect("num_outputs", n)
    if sizes is not None and len(sizes) != n:
        raise node.error(f"{len(sizes)} sizes for {n} outputs")

    def run(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        parts: tuple[torch.Tensor, ...] = torch.split(x, sizes or -(-x.shape[axis] // n), axis)
        if len(parts) != n:
            raise ValueError(f"{x.shape[axis]} do not split into {n}")
        return parts

    return run


def _slice(node: Node) -> Function:
    axes, steps = node.ints(3), node.ints(4)
    if steps is not None and 0 in steps:
        raise node.error(f"steps {steps}, expected none of 0")

    def run(x: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        begin, end = starts.tolist(), ends.tolist()
        where = axes if axes is not None else range(len(begin))
        for axis, a, b, step in zip(where, begin, end, steps or [1] * len(begin), strict=True):
            first, stop, _ = slice(a, b, step).indices(x.shape[axis])
            if step > 0:
                x = x.narrow(axis, first, max(stop - first, 0))
                x = x if step == 1 else x[(slice(None),) * (axis % x.ndim) + (slice(None, None, step),)]
            else:  # torch has no negative steps
                x = x.index_select(axis, torch.tensor(range(first, stop, step), dtype=torch.int64, device=x.device))
        return x

    return run


def _reshape(node: Node) -> Function:
    node.expect("allowzero", 0)

    def run(x: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape.tolist())])

    return run


def _flatten(node: Node) -> Function:
    axis = node.attribute("axis", 1)

    def run(x: torch.Tensor) -> torch.Tensor:
        at = axis + x.ndim if axis < 0 else axis
        return x.reshape(prod(x.shape[:at]), prod(x.shape[at:]))

    return run


def _transpose(node: Node) -> Function:
    order = node.attribute("perm", None)
    return lambda x: x.permute(order if order is not None else tuple(reversed(range(x.ndim))))


def _unsqueeze(node: Node) -> Function:
    axes = node.ints(1)
    if not axes:
        raise node.error("no axes")

    def run(x: torch.Tensor) -> torch.Tensor:
        for axis in sorted(a % (x.ndim + len(axes)) for a in axes):
            x = x.unsqueeze(axis)
        return x

    return run


def _squeeze(node: Node) -> Function:
    axes = node.ints(1)

    def run(x: torch.Tensor) -> torch.Tensor:
        where = [i for i, n in enumerate(x.shape) if n == 1] if axes is None else axes
        if any(x.shape[a] != 1 for a in where):
            raise ValueError(f"axes {where} of {tuple(x.shape)} are not all 1 long")
        return x.squeeze(tuple(where))

    return run


def _expand(node: Node) -> Function:
    def run(x: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        sizes = [1] * (x.ndim - len(shape)) + shape.tolist()
        x = x.reshape([1] * (len(sizes) - x.ndim) + list(x.shape))
        return x.expand([had if wanted == 1 else wanted for had, wanted in zip(x.shape, sizes, strict=True)])

    return run


def _constant_of_shape(node: Node) -> Function:
    value = node.attribute("value", None)
    fill = torch.zeros(1) if value is None else to_tensor(value)
    if fill.numel() != 1:
        raise node.error(f"its value has {fill.numel()} elements, expected one")

    def run(shape: torch.Tensor) -> torch.Tensor:
        if prod(shape.tolist()) > MAX_ELEMENTS:
            raise ValueError(f"shape {shape.tolist()} has more than {MAX_ELEMENTS} elements")
        return torch.full(shape.tolist(), fill.item(), dtype=fill.dtype)

    return run


def _pad(node: Node) -> Function:
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}
    mode, pads, value = node.attribute("mode", "constant"), node.ints(1), node.number(2)
    if mode not in modes or pads is None or node.has(3):
        raise node.error(f"mode {mode}, pads {pads}, expected one of {', '.join(modes)}, of all axes")
    n = len(pads) // 2
    pairs = [(pads[i], pads[i + n]) for i in range(n)]
    if mode != "constant":
        if any(pair != (0, 0) for pair in pairs[:2]):
            raise node.error(f"mode {mode} with pads of batch or channels")
        pairs = pairs[2:]  # torch has the spatial axes only
    flat = [p for pair in reversed(pairs) for p in pair]
    return lambda x: F.pad(x, flat, modes[mode], value if mode == "constant" else None)


OPERATORS: dict[str, tuple[Builder, int | None]] = {
    # with weights or windows
    "Conv": (layers.conv, 3),
    "ConvTranspose": (layers.conv_transpose, 3),
    "Gemm": (layers.gemm, 3),
    "MatMul": (layers.matmul, 2),
    "MaxPool": (layers.max_pool, 1),
    "AveragePool": (layers.average_pool, 1),
    "GlobalAveragePool": (layers.global_average_pool, 1),
    "GlobalMaxPool": (layers.global_max_pool, 1),
    "BatchNormalization": (layers.batch_norm, 5),
    "LayerNormalization": (layers.layer_norm, 3),
    "InstanceNormalization": (layers.instance_norm, 3),
    # number by number
    "Abs": (_plain(torch.abs), 1),
    "Add": (_plain(torch.add), 2),
    "Cast": (_cast, 1),
    "Ceil": (_plain(torch.ceil), 1),
    "Clip": (_clip, 3),
    "Div": (_divide, 2),
    "Dropout": (_dropout, 3),
    "Elu": (_elu, 1),
    "Equal": (_plain(torch.eq), 2),
    "Erf": (_plain(torch.erf), 1),
    "Exp": (_plain(torch.exp), 1),
    "Floor": (_plain(torch.floor), 1),
    "HardSigmoid": (_hard_sigmoid, 1),
    "HardSwish": (_plain(F.hardswish), 1),
    "Identity": (_plain(lambda x: x), 1),
    "LeakyRelu": (_leaky_relu, 1),
    "Log": (_plain(torch.log), 1),
    "Max": (_variadic(torch.maximum), None),
    "Min": (_variadic(torch.minimum), None),
    "Mul": (_plain(torch.mul), 2),
    "Neg": (_plain(torch.neg), 1),
    "PRelu": (_plain(lambda x, slope: torch.where(x < 0, x * slope, x)), 2),
    "Pow": (_plain(torch.pow), 2),
    "Reciprocal": (_plain(torch.reciprocal), 1),
    "Relu": (_plain(torch.relu), 1),
    "Sigmoid": (_plain(torch.sigmoid), 1),
    "Softplus": (_plain(F.softplus), 1),
    "Sqrt": (_plain(torch.sqrt), 1),
    "Sub": (_plain(torch.sub), 2),
    "Tanh": (_plain(torch.tanh), 1),
    "Where": (_plain(torch.where), 3),
    # along axes
    "LogSoftmax": (_softmax(F.log_softmax), 1),
    "ReduceMax": (_reduction(torch.amax), 2),
    "ReduceMean": (_reduction(torch.mean), 2),
    "ReduceMin": (_reduction(torch.amin), 2),
    "ReduceSum": (_reduction(torch.sum), 2),
    "Softmax": (_softmax(torch.softmax), 1),
    # shapes
    "Concat": (_concat, None),
    "Constant": (_constant, 0),
    "ConstantOfShape": (_constant_of_shape, 1),
    "Expand": (_expand, 2),
    "Flatten": (_flatten, 1),
    "Gather": (_gather, 2),
    "Pad": (_pad, 4),
    "Reshape": (_reshape, 2),
    "Shape": (_shape, 1),
    "Slice": (_slice, 5),
    "Split": (_split, 2),
    "Squeeze": (_squeeze, 2),
    "Transpose": (_transpose, 1),
    "Unsqueeze": (_unsqueeze, 2),
}
