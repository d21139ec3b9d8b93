"""CNN-CO round trips: every input it takes comes back within half a step; what it refuses, it names."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spinn_stream.codec import cnn_co
from spinn_stream.errors import CodecError

FLOAT32_MAX = float(np.finfo(np.float32).max)


FLAT = 255 * float(np.finfo(np.float32).tiny)
"""A range below this has no normal float32 step and is coded as a constant."""


def tolerance(values: np.ndarray) -> float:
    """Half a step of 255 equal ones, and float32's rounding of the largest value (2^-24), eight times."""
    low, high = float(values.min()), float(values.max())
    return (high - low) / 255 / 2 * (1 + 1e-5) + max(abs(low), abs(high)) * 2**-21 + FLAT


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=9),
        elements=st.floats(-FLOAT32_MAX, FLOAT32_MAX, width=32),
    )
)
@settings(max_examples=500, deadline=None)
def test_any_finite_activation_comes_back_within_half_a_step(values: np.ndarray) -> None:
    decoded = cnn_co.decode(cnn_co.encode(values), values.shape)
    assert decoded.shape == values.shape and decoded.dtype == np.float32
    error = np.abs(decoded.astype(np.float64) - values.astype(np.float64)).max()
    assert error <= tolerance(values)


@pytest.mark.parametrize("value", [0.0, 3.5, -7.25, 1e-40, FLOAT32_MAX, -FLOAT32_MAX])
def test_a_constant_comes_back_exactly(value: float) -> None:
    values = np.full((3, 5, 7), value, np.float32)
    assert np.array_equal(cnn_co.decode(cnn_co.encode(values), values.shape), values)


def test_a_range_without_zero_keeps_both_of_its_ends() -> None:
    values = np.linspace(100, 101, 256, dtype=np.float32)  # 255 steps of 1/255: each value is a code of its own
    decoded = cnn_co.decode(cnn_co.encode(values), values.shape)
    assert decoded[0] == 100 and decoded[-1] == pytest.approx(101, abs=1e-5)
    assert np.abs(decoded - values).max() <= 2e-5


@pytest.mark.parametrize("shape", [(1,), (1, 1, 1), (7,), (9,), (3, 5, 11), (1, 33, 1, 31)])
def test_odd_sizes_keep_their_last_element(shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    decoded = cnn_co.decode(cnn_co.encode(values), shape)
    assert np.abs(decoded - values).max() <= tolerance(values)


@pytest.mark.parametrize(
    ("bad", "named"), [(np.nan, "1 NaN and 0 infinite"), (np.inf, "0 NaN and 1 infinite"), (-np.inf, "0 NaN and 1 inf")]
)
def test_nan_and_infinity_are_refused_by_name(bad: float, named: str) -> None:
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = bad
    with pytest.raises(CodecError, match=named):
        cnn_co.encode(values)


def test_large_channels_have_ranges_of_their_own() -> None:
    rng = np.random.default_rng(3)
    values = (rng.random((1, 4, 32, 32)) * [[[[1e-3]], [[1.0]], [[1e3]], [[0.0]]]]).astype(np.float32)
    assert cnn_co.groups(values.shape) == cnn_co.groups((4, 32, 32)) == 4
    assert cnn_co.groups((4, 8, 8)) == 4 and cnn_co.groups((4, 7, 9)) == 1
    assert cnn_co.groups((2, 4, 32, 32)) == cnn_co.groups((4096,)) == 1
    decoded = cnn_co.decode(cnn_co.encode(values), values.shape)
    for channel in range(4):
        error = np.abs(decoded[0, channel] - values[0, channel]).max()
        assert error <= tolerance(values[0, channel])


def test_nothing_and_other_types_are_refused() -> None:
    with pytest.raises(CodecError, match="at least one"):
        cnn_co.encode(np.empty((0, 3), np.float32))
    with pytest.raises(CodecError, match="float64"):
        cnn_co.encode(np.zeros(3))


def test_a_payload_of_another_shape_is_refused() -> None:
    payload = cnn_co.encode(np.arange(64, dtype=np.float32))
    for elements in (56, 72):
        with pytest.raises(CodecError, match="LZ4 block"):
            cnn_co.decode(payload, (elements,))


@pytest.mark.parametrize("low_and_step", [(np.nan, 1), (np.inf, 1), (0, np.nan), (0, np.inf), (0, -1), (3e38, 1e37)])
def test_a_lying_range_is_refused(low_and_step: tuple[float, float]) -> None:
    payload = cnn_co.encode(np.arange(64, dtype=np.float32))
    with pytest.raises(CodecError, match="expected finite values"):
        cnn_co.decode(struct.pack("<ff", *low_and_step) + payload[8:], (64,))


@given(st.binary(max_size=200), st.integers(1, 300))
@settings(max_examples=500, deadline=None)
def test_garbage_is_decoded_to_the_agreed_shape_or_refused(payload: bytes, elements: int) -> None:
    try:
        decoded = cnn_co.decode(payload, (elements,))
    except CodecError:
        return
    assert decoded.shape == (elements,) and np.isfinite(decoded).all()


@given(st.integers(0, 2**32 - 1), st.integers(0, 400), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_payload_with_one_byte_changed_gives_the_agreed_shape_or_is_refused(seed: int, at: int, byte: int) -> None:
    values = np.random.default_rng(seed).normal(size=(5, 7, 3)).astype(np.float32)
    payload = bytearray(cnn_co.encode(values))
    payload[at % len(payload)] = byte
    try:
        decoded = cnn_co.decode(bytes(payload), values.shape)
    except CodecError:
        return
    assert decoded.shape == values.shape and np.isfinite(decoded).all()


def test_payloads_stay_within_the_stated_bound() -> None:
    noise = np.random.default_rng(0).random(10_000, np.float32)  # incompressible
    assert len(cnn_co.encode(noise)) <= cnn_co.max_payload_bytes((10_000,))
    maps = noise[:9216].reshape(1, 9, 32, 32)
    assert len(cnn_co.encode(maps)) <= cnn_co.max_payload_bytes((9, 32, 32))
