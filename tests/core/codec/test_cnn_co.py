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

ALL_BITS = st.sampled_from(cnn_co.BITS)


def tolerance(values: np.ndarray, bits: int = 8) -> float:
    """Half a step of 2^bits - 1 equal ones, and float32's rounding of the largest value (2^-24), eight times."""
    low, high = float(values.min()), float(values.max())
    return (high - low) / (2**bits - 1) / 2 * (1 + 1e-5) + max(abs(low), abs(high)) * 2**-21 + FLAT


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=9),
        elements=st.floats(-FLOAT32_MAX, FLOAT32_MAX, width=32),
    ),
    ALL_BITS,
)
@settings(max_examples=500, deadline=None)
def test_any_finite_activation_comes_back_within_half_a_step(values: np.ndarray, bits: int) -> None:
    decoded = cnn_co.decode(cnn_co.encode(values, bits), values.shape)
    assert decoded.shape == values.shape and decoded.dtype == np.float32
    error = np.abs(decoded.astype(np.float64) - values.astype(np.float64)).max()
    assert error <= tolerance(values, bits)


@given(st.integers(0, 2**32 - 1), st.floats(-30, 30), ALL_BITS)
@settings(max_examples=200, deadline=None)
def test_smallest_and_largest_value_are_the_outermost_codes(seed: int, exponent: float, bits: int) -> None:
    values = (np.random.default_rng(seed).normal(size=(3, 7, 7)) * 10**exponent).astype(np.float32)
    decoded = cnn_co.decode(cnn_co.encode(values, bits), values.shape)
    for end in (values.argmin(), values.argmax()):
        assert decoded.flat[end] == pytest.approx(values.flat[end], rel=1e-5)
    assert len(np.unique(decoded)) <= 2**bits


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


def test_all_channels_share_one_range() -> None:
    """As the paper has it: in steps of the loudest channel, 1,000 / 255, the quiet ones vanish."""
    scale = np.array([1e-3, 1.0, 1e3], np.float32)[:, None, None]
    values = scale * np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8)
    decoded = cnn_co.decode(cnn_co.encode(values), values.shape)
    assert not decoded[:2].any() and decoded[2].any()


def test_nothing_and_other_types_are_refused() -> None:
    with pytest.raises(CodecError, match="at least one"):
        cnn_co.encode(np.empty((0, 3), np.float32))
    with pytest.raises(CodecError, match="float64"):
        cnn_co.encode(np.zeros(3))
    for bits in (0, 1, 9):
        with pytest.raises(CodecError, match=f"{bits} bits, expected 2 to 8"):
            cnn_co.encode(np.zeros(3, np.float32), bits)


def test_a_payload_of_another_shape_is_refused() -> None:
    payload = cnn_co.encode(np.arange(64, dtype=np.float32))
    for elements in (56, 72):
        with pytest.raises(CodecError, match="LZ4 block"):
            cnn_co.decode(payload, (elements,))


@pytest.mark.parametrize("low_and_step", [(np.nan, 1), (np.inf, 1), (0, np.nan), (0, np.inf), (0, -1), (3e38, 1e37)])
def test_a_lying_range_is_refused(low_and_step: tuple[float, float]) -> None:
    payload = cnn_co.encode(np.arange(64, dtype=np.float32))
    with pytest.raises(CodecError, match="expected finite values"):
        cnn_co.decode(payload[:1] + struct.pack("<ff", *low_and_step) + payload[9:], (64,))


@pytest.mark.parametrize("bits", [0, 1, 9, 255])
def test_a_lying_number_of_bits_is_refused(bits: int) -> None:
    payload = cnn_co.encode(np.arange(64, dtype=np.float32))
    with pytest.raises(CodecError, match=f"{bits} bits, expected 2 to 8"):
        cnn_co.decode(bytes((bits,)) + payload[1:], (64,))


@given(ALL_BITS, st.binary(max_size=200), st.integers(1, 300))
@settings(max_examples=500, deadline=None)
def test_garbage_is_decoded_to_the_agreed_shape_or_refused(bits: int, rest: bytes, elements: int) -> None:
    try:
        decoded = cnn_co.decode(bytes((bits,)) + rest, (elements,))
    except CodecError:
        return
    assert decoded.shape == (elements,) and np.isfinite(decoded).all()


@given(st.integers(0, 2**32 - 1), ALL_BITS, st.integers(0, 400), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_payload_with_one_byte_changed_gives_the_agreed_shape_or_is_refused(
    seed: int, bits: int, at: int, byte: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(5, 7, 3)).astype(np.float32)
    payload = bytearray(cnn_co.encode(values, bits))
    payload[at % len(payload)] = byte
    try:
        decoded = cnn_co.decode(bytes(payload), values.shape)
    except CodecError:
        return
    assert decoded.shape == values.shape and np.isfinite(decoded).all()


@pytest.mark.parametrize("bits", cnn_co.BITS)
@pytest.mark.parametrize("elements", [1, 7, 10_000, 131_072])
def test_payloads_stay_within_the_stated_bound(elements: int, bits: int) -> None:
    noise = np.random.default_rng(0).random(elements, np.float32)  # incompressible
    size = len(cnn_co.encode(noise, bits))
    assert elements * bits / 8 * (elements > 100) <= size <= cnn_co.max_payload_bytes(elements)


def test_fewer_bits_make_a_smaller_payload() -> None:
    noise = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    sizes = [len(cnn_co.encode(noise, bits)) for bits in cnn_co.BITS]
    assert sizes == sorted(set(sizes))
