"""Counts multiply-adds from the operators that reach PyTorch's dispatcher.

Modules and functional calls use the same operators, so both count alike. One multiply-add is one
multiplication and the addition that takes it up:

    convolution             every output element: (input channels / groups) x kernel area
    transposed convolution  every input element: (output channels / groups) x kernel area
    matrix products         rows x inner length x columns, times the batch
    attention               both of its matrix products

A bias, and everything that `FREE` lists, counts zero: element-wise work, normalisation (that of a batch
folds into the convolution before it), pooling, resampling, reductions, and what only moves or makes
values. An operator in neither table is reported by name, never counted as zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def _convolution(args: tuple[Any, ...], out: torch.Tensor) -> int:
    x, weight, transposed = args[0], args[1], args[6]
    # weight: (C_out, C_in / groups, *kernel); transposed: (C_in, C_out / groups, *kernel)
    places = math.prod((x if transposed else out).shape[2:])
    return int(x.shape[0] * places * weight.numel())


def _products(first: int, second: int) -> Callable[[tuple[Any, ...], Any], int]:
    """Of the matrices (.., n, k) and (.., k, m), or a vector (k,), that stand at these arguments."""

    def count(args: tuple[Any, ...], _out: Any) -> int:
        a, b = args[first], args[second]
        return int(a.numel()) * (int(b.shape[-1]) if b.dim() > 1 else 1)

    return count


def _attention(args: tuple[Any, ...], _out: Any) -> int:
    query, key, value = args[:3]  # (B, heads, length, width)
    rows = math.prod(query.shape[:-1]) * key.shape[-2]
    return int(rows * (query.shape[-1] + value.shape[-1]))


COUNTED: dict[str, Callable[[tuple[Any, ...], Any], int]] = {
    "convolution": _convolution,
    "mm": _products(0, 1),
    "bmm": _products(0, 1),
    "mv": _products(0, 1),
    "dot": _products(0, 1),
    "addmm": _products(1, 2),
    "addmv": _products(1, 2),
    "baddbmm": _products(1, 2),
    "addbmm": _products(1, 2),
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
}
"""Name of an operator of aten -> its multiply-adds from arguments and output."""

_FREE = """
native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm
_batch_norm_with_update native_layer_norm native_group_norm _fused_rms_norm
max_pool2d_with_indices max_pool3d_with_indices avg_pool2d avg_pool3d _adaptive_avg_pool2d
_adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d max_unpool2d
upsample_nearest1d upsample_nearest2d upsample_linear1d upsample_bilinear2d upsample_bicubic2d
_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa
grid_sampler_2d affine_grid_generator
sum mean var std var_mean std_mean amax amin max min prod argmax argmin any all norm linalg_vector_norm
_softmax _log_softmax logsumexp hardswish hardsigmoid mish glu _prelu_kernel rrelu_with_noise
native_dropout bernoulli_
cat stack constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d
pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle im2col col2im roll flip rot90
repeat repeat_interleave as_strided
split split_with_sizes unsafe_split unsafe_split_with_sizes unsafe_chunk unbind _unsafe_view
_reshape_alias _reshape_copy view_copy permute_copy expand_copy
index index_select gather scatter scatter_add index_put index_add index_copy masked_fill where take
topk sort triu tril embedding one_hot
clone copy _to_copy contiguous resize set_ fill zero lift_fresh lift_fresh_copy detach alias
empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like new_zeros ones ones_like
new_ones full full_like new_full arange linspace eye scalar_tensor rand randn rand_like randn_like
randint randperm normal uniform _local_scalar_dense equal is_nonzero _assert_async
"""
FREE = frozenset(_FREE.split())
"""Operators that count zero beside those that PyTorch itself tags element-wise or that only make a view."""


class MultiplyAdds(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside its block, adds up the multiply-adds of all operators, and collects those that it cannot count.

    macs: the sum so far. uncounted: names such as ``aten._fft_r2c``.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0
        self.uncounted: set[str] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; True would have the first operator import the compiler, which takes 2 to 3 s."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        namespace, name = func._schema.name.split("::")
        if namespace == "aten" and name in COUNTED:
            self.macs += COUNTED[name](args, out)
        elif not (namespace in ("aten", "prim") and _is_free(func, name)):
            self.uncounted.add(f"{namespace}.{name}")
        return out


def _is_free(func: Any, name: str) -> bool:
    if name in FREE or name.removesuffix("_") in FREE or func.is_view:
        return True
    return torch.Tag.pointwise in func.tags
