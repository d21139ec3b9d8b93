"""Bases made up for tests: small, of any shape, and nothing a bundle must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from spinn_stream.codec.basis import Basis, block_side

Floats = npt.NDArray[np.float32]

SHAPES = [(16, 1, 1), (1, 1, 1), (300, 1, 1), (5, 7, 7), (2, 14, 14), (3, 10, 6), (1, 13, 13), (40, 4, 4), (4, 16, 8)]
"""Vectors, and maps whose blocks are 8, 7, 4, 2 and 1 wide or the whole map."""


def a_basis(shape: tuple[int, int, int], seed: int = 0, scale: float = 1.0, unit: float = 0.1) -> Basis:
    """A rotation of the channels whose components get weaker, or a factor for each channel of a wide vector.

    scale: of the activations it is for. unit: of the grid, in units of `scale`.
    """
    channels, height, width = shape
    rng = np.random.default_rng(seed)
    energy = np.maximum(0.9 ** np.arange(channels), 0.01)
    if channels > 64:
        forward = np.sqrt(energy) / (unit * scale)
        backward = 1 / forward
    else:
        rotation = np.linalg.qr(rng.normal(size=(channels, channels)))[0]
        forward = rotation / (unit * scale)
        backward = rotation.T * (unit * scale)
    side = block_side(height, width)
    decay = 1 / (1 + np.add.outer(np.arange(side), np.arange(side)))
    arrays = (rng.normal(size=channels) * scale, forward, backward, energy, decay)
    mean, forward, backward, component, frequency = (np.asarray(a, np.float32) for a in arrays)
    return Basis(shape, mean, forward, backward, component, frequency)


def an_activation(basis: Basis, seed: int, scale: float = 1.0, kind: str = "normal") -> Floats:
    rng = np.random.default_rng(seed)
    if kind == "constant":
        values = np.full(basis.shape, rng.normal() * scale)
    elif kind == "heavy":  # some values are far beyond what others are
        values = rng.standard_t(1.5, basis.shape) * scale
    elif kind == "sparse":
        values = rng.normal(size=basis.shape) * (rng.random(basis.shape) < 0.05) * scale
    else:
        values = rng.normal(size=basis.shape) * scale
    return np.clip(values, -3e38, 3e38).astype(np.float32)


def near(activation: Floats, seed: int, scale: float, anew: float = 0.1) -> Floats:
    """What a camera sees a moment later: most of it as before, a part of it anew."""
    rng = np.random.default_rng(seed)
    moved = activation + rng.normal(size=activation.shape) * 0.02 * scale
    fresh = rng.normal(size=activation.shape) * scale
    return np.where(rng.random(activation.shape) < anew, fresh, moved).astype(np.float32)


@st.composite
def shapes(draw: Any) -> tuple[int, int, int]:
    """Those above, and any others of 1 to 40 channels."""
    others = st.tuples(st.integers(1, 40), st.integers(1, 16), st.integers(1, 16))
    return draw(st.sampled_from(SHAPES) | others)


KINDS = st.sampled_from(["normal", "constant", "heavy", "sparse"])
EXPONENTS = st.floats(-30, 30)
SEEDS = st.integers(0, 2**32 - 1)
