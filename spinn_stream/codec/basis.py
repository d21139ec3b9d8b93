"""The basis in which a cut point's activations are coded: fitted to data (`train.pack.codec_fit`), part of a bundle.

Channels are decorrelated and scaled so that an error of one unit costs the network's answer about the same in every
component (a Karhunen-Loeve transform, weighted by the Fisher information of what lies behind the cut point). The
weakest components then cost no bits at all. The unit is a grid of whole numbers, on which both ends hold what was sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle
from spinn_stream.errors import BundleError, CodecError

Floats = npt.NDArray[np.float32]
Grid = npt.NDArray[np.int16]
"""A decoded payload, the same on both ends bit for bit: (K, P) whole numbers; K components, P = H x W places."""

BLOCK = 8
"""Longest side of the blocks of pixels that key frames transform."""

GRID_LIMIT = 30_000
"""Larger values are cut off: they are far outside of what was seen when the basis was fitted."""

_FIXED = 4096  # 1 in the whole-number cosine transform


@dataclass(frozen=True)
class Basis:
    """Turns one cut point's activations into numbers on the grid, and back.

    shape: (C, H, W); H and W are 1 for vectors. mean: (C,). forward: (K, C), or (C,) where channels are only scaled.
    backward: (C, K), its inverse, or (C,). component: (K,), energy of each component on data. frequency: (S, S),
    relative energy of the cosine transform's coefficients in blocks of S x S.
    """

    shape: tuple[int, int, int]
    mean: Floats
    forward: Floats
    backward: Floats
    component: Floats
    frequency: Floats

    def __post_init__(self) -> None:
        channels, height, width = self.shape
        side = block_side(height, width)
        square = (channels, channels)
        for what, array, wanted in (
            ("mean", self.mean, ((channels,),)),
            ("forward", self.forward, (square, (channels,))),
            ("backward", self.backward, (square, (channels,))),
            ("component", self.component, ((channels,),)),
            ("frequency", self.frequency, ((side, side),)),
        ):
            if array.shape not in wanted or array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError(f"{what}: got {array.dtype} {array.shape}, expected finite float32 {wanted[-1]}")

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def to_grid(self, activation: Floats) -> Floats:
        """(C, H, W) float32 -> (K, P) in units of the grid, not rounded.

        Raises:
            CodecError: values that are NaN, infinite, or so large that their sums are.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            x = activation.reshape(self.shape[0], -1) - self.mean[:, None]
            z = self.forward @ x if self.forward.ndim == 2 else self.forward[:, None] * x
            finite = np.isfinite(z.sum(dtype=np.float64))
        if not finite:
            bad = int(np.count_nonzero(~np.isfinite(activation)))
            raise CodecError(
                f"the activation has {bad} NaN or infinite of {activation.size} values" if bad
                else f"the activation is too large: up to {np.abs(activation).max():.3g}"
            )  # fmt: skip
        return np.clip(z, -GRID_LIMIT, GRID_LIMIT, out=z)

    def from_grid(self, grid: Grid) -> Floats:
        """(K, P) on the grid -> (C, H, W) float32."""
        z = grid.astype(np.float32)
        x = self.backward @ z if self.backward.ndim == 2 else self.backward[:, None] * z
        x += self.mean[:, None]
        return x.reshape(self.shape)

    def to_frequencies(self, z: Floats) -> Floats:
        """(K, P) -> the cosine transform of each block of each component, strongest coefficients first, (N,)."""
        blocks = self.blocks(z)
        return (blocks @ self._cosines[0]).reshape(-1)[self._order]

    def from_frequencies(self, codes: npt.NDArray[np.int32], step: int) -> Grid:
        """Codes in steps of `step` units of the grid -> (K, P) on the grid.

        Whole numbers only: they are held in float64, where sums of this size are exact in any order, so that both
        ends come to the same.
        """
        ordered = np.empty(self.elements, np.float64)
        ordered[self._order] = codes
        blocks = ordered.reshape(-1, self._side**2) @ self._cosines[1]
        z = np.floor(blocks * (step / _FIXED) + 0.5)
        return np.clip(self._pixels(z), -GRID_LIMIT, GRID_LIMIT).astype(np.int16)

    @cached_property
    def _side(self) -> int:
        return block_side(*self.shape[1:])

    @cached_property
    def _cosines(self) -> tuple[Floats, npt.NDArray[np.float64]]:
        """The transform of a block as one matrix: forward, and its inverse in whole numbers of 1/4096."""
        matrix = cosine_matrix(self._side)
        return np.ascontiguousarray(matrix.T, np.float32), np.rint(matrix * _FIXED)

    @cached_property
    def _order(self) -> npt.NDArray[np.intp]:
        blocks = self.shape[1] * self.shape[2] // self._side**2
        energy = self.component[:, None, None] * self.frequency.reshape(1, 1, -1)
        return np.argsort(-np.broadcast_to(energy, (len(self.component), blocks, self._side**2)).ravel(), kind="stable")

    def blocks(self, z: Floats) -> Floats:
        """(K, P) -> (K x blocks, S x S)."""
        s, (_, height, width) = self._side, self.shape
        if (s, s) == (height, width):
            return z
        split = z.reshape(-1, height // s, s, width // s, s).transpose(0, 1, 3, 2, 4)
        return np.ascontiguousarray(split).reshape(-1, s * s)

    def _pixels(self, blocks: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(K x blocks, S x S) -> (K, P)."""
        s, (channels, height, width) = self._side, self.shape
        if (s, s) == (height, width):
            return blocks
        split = blocks.reshape(-1, height // s, width // s, s, s).transpose(0, 1, 3, 2, 4)
        return np.ascontiguousarray(split).reshape(channels, height * width)


def block_side(height: int, width: int) -> int:
    """The largest side of at most 8 pixels that divides both sides of a map."""
    common = math.gcd(height, width)
    return next(side for side in range(min(BLOCK, common), 0, -1) if common % side == 0)


def cosine_matrix(side: int) -> npt.NDArray[np.float64]:
    """The orthonormal two-dimensional cosine transform (DCT-II) of a block: (side^2, side^2), coefficient by pixel."""
    frequency, place = np.arange(side)[:, None], np.arange(side)[None, :]
    one = np.sqrt(2 / side) * np.cos((2 * place + 1) * frequency * np.pi / (2 * side))
    one[0] = np.sqrt(1 / side)
    return np.kron(one, one)


def as_arrays(bases: Mapping[int, Basis]) -> dict[str, npt.NDArray[np.float16] | Floats]:
    """Bases by cut point as the arrays that a bundle keeps; matrices in half precision, without their inverse."""
    arrays: dict[str, npt.NDArray[np.float16] | Floats] = {}
    for cut, basis in bases.items():
        scale = np.abs(basis.forward).max(axis=-1, keepdims=True)
        arrays[f"{cut}/forward"] = (basis.forward / scale).astype(np.float16)
        arrays[f"{cut}/scale"] = scale.astype(np.float32)
        for name in ("mean", "component", "frequency"):
            arrays[f"{cut}/{name}"] = getattr(basis, name)
    return arrays


def from_arrays(arrays: Mapping[str, npt.NDArray[np.float16] | Floats], cut: int, shape: tuple[int, ...]) -> Basis:
    """One cut point's basis, from the arrays of `as_arrays`.

    Raises:
        ValueError: the arrays do not fit the shape. KeyError: there are none for this cut point.
    """
    channels, height, width = shape if len(shape) == 3 else (math.prod(shape), 1, 1)
    stored, scale = arrays[f"{cut}/forward"], arrays[f"{cut}/scale"]
    if stored.shape not in ((channels, channels), (channels,)) or scale.shape != (*stored.shape[:-1], 1):
        raise ValueError(f"forward: got {stored.shape} and {scale.shape} for {channels} channels")
    forward = stored.astype(np.float32) * scale.astype(np.float32)
    try:
        inverse = np.linalg.inv(forward.astype(np.float64)) if forward.ndim == 2 else 1 / forward.astype(np.float64)
    except np.linalg.LinAlgError as error:
        raise ValueError(f"forward: {error}") from error
    others = {name: np.asarray(arrays[f"{cut}/{name}"], np.float32) for name in ("mean", "component", "frequency")}
    return Basis((channels, height, width), forward=forward, backward=inverse.astype(np.float32), **others)


@lru_cache(maxsize=256)
def basis_of(bundle: Bundle, cut: int) -> Basis:
    """The basis in which a bundle's activations at a cut point are coded. The first call for each reads it.

    Raises:
        CodecError: the bundle has none there. BundleError: the one it has is damaged.
    """
    if not bundle.has_basis(cut):
        raise CodecError(f"bundle {bundle.name} has no basis at split {cut}; use cnn-co, or `spinn calibrate` it")
    return read_basis(bundle, cut)


def read_basis(bundle: Bundle, cut: int) -> Basis:
    """Reads one basis from the bundle's file.

    Raises:
        BundleError: the file has none for this cut point, or another kind of one.
    """
    try:
        with bundle.codec_arrays() as arrays:
            return from_arrays(arrays, cut, bundle.cut_points[cut].shape)
    except Exception as error:  # numpy, zipfile and zlib raise theirs, and say so nowhere
        raise BundleError(f"{bundle.codec_path}, cut point {cut}: {type(error).__name__}: {error}") from error
