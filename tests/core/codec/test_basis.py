"""A basis turns activations into numbers on a grid and back, alike on every machine where it must be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinn_stream.codec.basis import GRID_LIMIT, Basis, as_arrays, block_side, cosine_matrix, from_arrays
from spinn_stream.errors import CodecError

from .bases import EXPONENTS, KINDS, SEEDS, SHAPES, a_basis, an_activation, shapes

EACH_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=str)


@given(shape=shapes(), seed=SEEDS, exponent=EXPONENTS, kind=KINDS)
@settings(max_examples=200, deadline=None)
def test_to_the_grid_and_back_is_the_activation(
    shape: tuple[int, int, int], seed: int, exponent: float, kind: str
) -> None:
    """Up to rounding: half a unit of 0.1 in each component, turned back, and float32's."""
    scale = 10.0**exponent
    basis = a_basis(shape, seed % 100, scale)
    activation = np.clip(an_activation(basis, seed, scale, kind), -100 * scale, 100 * scale).astype(np.float32)
    z = basis.to_grid(activation)
    assert z.shape == (shape[0], shape[1] * shape[2]) and z.dtype == np.float32
    grid = np.rint(z).astype(np.int16)
    back = basis.from_grid(grid)
    assert back.shape == shape and back.dtype == np.float32
    error = np.linalg.norm((back.astype(np.float64) - activation).reshape(shape[0], -1), axis=0)
    half = 0.05 if shape[0] <= 64 else 0.05 / np.sqrt(0.01)  # the weakest channel of those that are only scaled
    assert error.max() <= scale * (half * np.sqrt(shape[0]) * 1.001 + 1e-4 * np.sqrt(shape[0]))


def test_each_component_is_one_row_and_each_place_one_column() -> None:
    """A basis that swaps two channels and doubles one: what is expected is written out."""
    forward = np.array([[0, 2], [1, 0]], np.float32)
    basis = Basis(
        (2, 1, 3), np.array([10, 20], np.float32), forward, np.linalg.inv(forward).astype(np.float32),
        np.ones(2, np.float32), np.ones((1, 1), np.float32),
    )  # fmt: skip
    activation = np.array([[[11, 12, 13]], [[24, 25, 26]]], np.float32)
    assert basis.to_grid(activation).tolist() == [[8, 10, 12], [1, 2, 3]]
    assert np.array_equal(basis.from_grid(np.array([[8, 10, 12], [1, 2, 3]], np.int16)), activation)


def test_what_is_far_outside_is_cut_off() -> None:
    basis = a_basis((4, 2, 2))
    z = basis.to_grid(np.full((4, 2, 2), 1e9, np.float32))
    assert np.abs(z).max() == GRID_LIMIT


@pytest.mark.parametrize(
    ("bad", "said"),
    [(np.nan, "1 NaN or infinite of 320 values"), (np.inf, "1 NaN or infinite"), (-np.inf, "1 NaN or infinite")],
)
@pytest.mark.parametrize("shape", [(5, 8, 8), (320, 1, 1)])
def test_what_is_no_number_is_refused(shape: tuple[int, int, int], bad: float, said: str) -> None:
    basis = a_basis(shape)
    activation = an_activation(basis, 0)
    activation.flat[17] = bad
    with pytest.raises(CodecError, match=said):
        basis.to_grid(activation)


def test_finite_values_whose_sums_are_not_are_refused() -> None:
    basis = a_basis((5, 8, 8))
    activation = np.full(basis.shape, 3e38, np.float32)
    activation[::2] *= -1
    with pytest.raises(CodecError, match=r"too large: up to 3e\+38"):
        basis.to_grid(activation)


@pytest.mark.parametrize("side", range(1, 9))
def test_the_cosine_transform_is_orthonormal_and_starts_with_the_mean(side: int) -> None:
    matrix = cosine_matrix(side)
    assert np.abs(matrix @ matrix.T - np.eye(side * side)).max() < 1e-12
    assert np.abs(matrix[0] - 1 / side).max() < 1e-12


@pytest.mark.parametrize("side", range(1, 9))
def test_no_machine_s_cosine_rounds_to_another_whole_number(side: int) -> None:
    """1/4096 times the entries: none within a thousandth of the middle between two whole numbers, unless it is 0."""
    entries = cosine_matrix(side) * 4096
    off = np.abs(np.abs(entries - np.floor(entries)) - 0.5)
    assert off.min() > 1e-3


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [(64, 64, 8), (7, 7, 7), (14, 14, 7), (10, 6, 2), (13, 13, 1), (1, 1, 1), (8, 4, 4), (12, 18, 6), (1, 8, 1)],
)
def test_blocks_are_as_large_as_both_sides_allow(height: int, width: int, side: int) -> None:
    assert block_side(height, width) == side


@EACH_SHAPE
def test_frequencies_come_back_within_half_a_step_and_the_rounding_of_the_cosines(shape: tuple[int, int, int]) -> None:
    basis = a_basis(shape)
    z = basis.to_grid(an_activation(basis, 1))
    for step in (2, 16, 512):
        codes = np.rint(basis.to_frequencies(z) / step).astype(np.int32)
        grid = basis.from_frequencies(codes, step)
        assert grid.shape == z.shape and grid.dtype == np.int16
        side = block_side(*shape[1:])
        # the transform keeps lengths: a block's error is at most half a step in each coefficient, then half a unit
        errors = basis.blocks((grid - z).astype(np.float32))
        assert np.linalg.norm(errors, axis=1).max() <= side * (step / 2 + 0.5) * 1.02 + 0.5


@EACH_SHAPE
def test_strong_coefficients_come_first(shape: tuple[int, int, int]) -> None:
    basis = a_basis(shape)
    energy = np.zeros(basis.elements)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=(shape[0], shape[1] * shape[2])) * np.sqrt(basis.component)[:, None]
        energy += basis.to_frequencies(z.astype(np.float32)) ** 2
    half = basis.elements // 2
    assert half == 0 or energy[:half].sum() > energy[-half:].sum()


@EACH_SHAPE
def test_the_inverse_transform_is_whole_number_arithmetic(shape: tuple[int, int, int]) -> None:
    """As Python's integers have it, for the largest codes too: no sum is rounded, in whatever order it is made."""
    basis = a_basis(shape)
    side = block_side(*shape[1:])
    rng = np.random.default_rng(2)
    for most, step in ((32_894, 512), (9, 2)):
        codes = rng.integers(-most, most + 1, basis.elements)
        found = basis.blocks(basis.from_frequencies(codes.astype(np.int32), step).astype(np.float32))
        cosines = [[int(c) for c in row] for row in np.rint(cosine_matrix(side) * 4096)]
        ordered = np.empty(basis.elements, np.int64)
        ordered[basis._order] = codes
        block = [int(c) for c in ordered.reshape(-1, side * side)[0]]
        for pixel in range(side * side):
            exact = sum(block[f] * cosines[f][pixel] for f in range(side * side)) * step
            rounded = (2 * exact + 4096) // (2 * 4096)  # half up
            assert found.reshape(-1, side * side)[0][pixel] == min(max(rounded, -GRID_LIMIT), GRID_LIMIT)


@EACH_SHAPE
def test_a_basis_is_kept_as_arrays_and_read_back_as_good(shape: tuple[int, int, int]) -> None:
    basis = a_basis(shape)
    arrays = as_arrays({3: basis, 4: a_basis((2, 2, 2))})
    assert arrays["3/forward"].dtype == np.float16
    stored = shape if shape[1:] != (1, 1) else shape[:1]
    back = from_arrays(arrays, 3, stored)
    assert back.shape == basis.shape
    for name in ("mean", "component", "frequency"):
        assert np.array_equal(getattr(back, name), getattr(basis, name))
    assert np.abs(back.forward - basis.forward).max() <= np.abs(basis.forward).max() * 2**-11
    product = back.forward @ back.backward if back.forward.ndim == 2 else back.forward * back.backward
    assert np.abs(product - (np.eye(shape[0]) if product.ndim == 2 else 1)).max() < 1e-5


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"0/forward": np.zeros((5, 4), np.float16)}, "forward"),
        ({"0/forward": np.zeros((5, 5), np.float16)}, "forward: Singular matrix"),
        ({"0/scale": np.ones(5, np.float32)}, "forward"),
        ({"0/mean": np.zeros(4, np.float32)}, "mean"),
        ({"0/mean": np.full(5, np.nan, np.float32)}, "mean"),
        ({"0/component": np.ones((5, 1), np.float32)}, "component"),
        ({"0/frequency": np.ones((8, 8), np.float32)}, "frequency"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changed: dict[str, np.ndarray], said: str) -> None:
    arrays = as_arrays({0: a_basis((5, 7, 7))}) | changed
    with pytest.raises(ValueError, match=said):
        from_arrays(arrays, 0, (5, 7, 7))


def test_a_cut_point_without_arrays_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        from_arrays(as_arrays({0: a_basis((5, 7, 7))}), 1, (5, 7, 7))


@given(shape=shapes(), seed=SEEDS, step=st.sampled_from([2, 4, 8, 16, 32, 64, 128, 256, 512]))
@settings(max_examples=100, deadline=None)
def test_blocks_are_put_back_where_they_were(shape: tuple[int, int, int], seed: int, step: int) -> None:
    """A picture of whole steps times a constant block comes back as it was."""
    basis = a_basis(shape)
    side = block_side(*shape[1:])
    blocks = np.random.default_rng(seed).integers(-50, 51, (shape[0], shape[1] // side, shape[2] // side))
    z = np.kron(blocks * step, np.ones((side, side), np.int64)).reshape(shape[0], -1).astype(np.float32)
    codes = np.rint(basis.to_frequencies(z) / step).astype(np.int32)
    assert np.abs(basis.from_frequencies(codes, step) - z).max() <= step / 2 + 1
