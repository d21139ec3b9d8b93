"""The transform codec: what the sender says is on the grid is, bit for bit, what the receiver decodes."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinn_stream.codec import entropy, transform
from spinn_stream.codec.basis import GRID_LIMIT, Basis, Grid
from spinn_stream.errors import CodecError, ReferenceMissing

from .bases import EXPONENTS, KINDS, SEEDS, a_basis, an_activation, near, shapes

BITS = st.sampled_from(transform.BITS)
FINEST = 2 ** transform.BITS[-1]
CODERS = st.sampled_from(entropy.CODERS)


def none_is_held(_: int) -> Grid | None:
    return None


def random_grid(basis: Basis, seed: int, span: int = 300) -> Grid:
    places = basis.shape[1] * basis.shape[2]
    return np.random.default_rng(seed).integers(-span, span + 1, (basis.shape[0], places)).astype(np.int16)


@given(shape=shapes(), seed=SEEDS, exponent=EXPONENTS, kind=KINDS, bits=BITS, coder=CODERS)
@settings(max_examples=300, deadline=None)
def test_a_key_frame_is_decoded_to_what_its_sender_says(
    shape: tuple[int, int, int], seed: int, exponent: float, kind: str, bits: int, coder: int
) -> None:
    basis = a_basis(shape, scale=10**exponent)
    activation = an_activation(basis, seed, 10**exponent, kind)
    payload, grid = transform.encode_key(basis, bits, activation, coder)
    assert len(payload) <= transform.max_payload_bytes(basis.elements)
    decoded = transform.decode(basis, payload, none_is_held)
    assert decoded.dtype == grid.dtype == np.int16 and np.array_equal(decoded, grid)
    assert np.isfinite(basis.from_grid(decoded)).all()


@given(shape=shapes(), seed=SEEDS, exponent=EXPONENTS, kind=KINDS, bits=BITS, coder=CODERS, alike=st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_change_is_decoded_to_what_its_sender_says(
    shape: tuple[int, int, int], seed: int, exponent: float, kind: str, bits: int, coder: int, alike: bool
) -> None:
    scale = 10.0**exponent
    basis = a_basis(shape, scale=scale)
    before = an_activation(basis, seed, scale, kind)
    _, held = transform.encode_key(basis, bits, before, coder)
    now = near(before, seed, scale) if alike else an_activation(basis, seed + 1, scale, kind)
    payload, grid = transform.encode(basis, bits, now, (seed, held), coder)
    assert len(payload) <= transform.max_payload_bytes(basis.elements)
    assert np.array_equal(transform.decode(basis, payload, {seed: held}.get), grid)


@given(shape=shapes(), seed=SEEDS, bits=BITS, coder=CODERS, alike=st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_change_is_at_most_eight_tenths_of_a_step_off(
    shape: tuple[int, int, int], seed: int, bits: int, coder: int, alike: bool
) -> None:
    basis = a_basis(shape)
    now = an_activation(basis, seed)
    z = basis.to_grid(now)
    held = (np.rint(z) if alike else z * 0).astype(np.int16) + random_grid(basis, seed, 5)
    payload, grid = transform.encode(basis, bits, now, (1, held), coder)
    if payload[0] & 1:  # else a key frame was smaller
        step = FINEST // 2**bits
        assert np.abs(grid - z).max() <= 0.8 * step + 1e-3
        assert ((grid - held) % step == 0).all()


@given(shape=shapes(), seed=SEEDS, bits=BITS, coder=CODERS)
@settings(max_examples=300, deadline=None)
def test_a_key_frame_is_at_most_half_of_its_step_off_in_each_coefficient(
    shape: tuple[int, int, int], seed: int, bits: int, coder: int
) -> None:
    """Its step is twice a change's. The grid's own rounding is 0.5 in each place, the cosines' 1/4096 of the sum."""
    basis = a_basis(shape)
    activation = an_activation(basis, seed)
    _, grid = transform.encode_key(basis, bits, activation, coder)
    step = 2 * FINEST // 2**bits
    wanted = basis.to_frequencies(basis.to_grid(activation))
    error = np.abs(basis.to_frequencies(grid.astype(np.float32)) - wanted)
    side = round(np.sqrt(basis.frequency.size))
    assert error.max() <= step / 2 + 0.5 * side + 2e-3 * np.abs(wanted).max() + 0.01


@pytest.mark.parametrize("coder", entropy.CODERS, ids=["ANS", "LZMA"])
@pytest.mark.parametrize("bits", transform.BITS)
def test_payloads_stay_within_the_stated_bound_for_noise_too(bits: int, coder: int) -> None:
    """Noise that fills the tables to their end, in the largest of ordinary sizes."""
    basis = a_basis((32, 64, 64), unit=0.02)
    noise = np.random.default_rng(1).uniform(-3, 3, basis.shape).astype(np.float32)
    key, _ = transform.encode_key(basis, bits, noise, coder)
    change, _ = transform.encode(basis, bits, noise, (0, random_grid(basis, 1)), coder)
    most = transform.max_payload_bytes(basis.elements)
    assert len(key) <= most and len(change) <= most


def test_what_is_far_beyond_the_grid_is_cut_off_alike_at_both_ends() -> None:
    basis = a_basis((3, 10, 6))
    for seed in range(20):
        wild = an_activation(basis, seed, 1e4)
        payload, grid = transform.encode_key(basis, 8, wild)
        assert np.array_equal(transform.decode(basis, payload, none_is_held), grid)
        held = np.full((3, 60), GRID_LIMIT * (-1) ** seed, np.int16)
        payload, grid = transform.encode(basis, 8, wild, (0, held))
        assert np.array_equal(transform.decode(basis, payload, {0: held}.get), grid)
        assert np.abs(grid).max() <= GRID_LIMIT


def test_a_still_scene_with_noise_costs_next_to_nothing() -> None:
    """Noise of a third of a step moves no value by 0.8 of it: head, reference and a byte a group."""
    basis = a_basis((8, 16, 16))
    before = an_activation(basis, 1)
    held = np.rint(basis.to_grid(before)).astype(np.int16)
    noise = basis.from_grid(np.zeros_like(held)) * 0 + np.random.default_rng(2).uniform(-0.01, 0.01, basis.shape)
    payload, grid = transform.encode(basis, transform.BITS[-3], (before + noise).astype(np.float32), (9, held))
    assert len(payload) == 2 + 8 + 8 and np.array_equal(grid, held)


def test_a_value_is_coded_anew_from_eight_tenths_of_a_step_on() -> None:
    """Two bits less than the finest are steps of 4 units. 3.1 units stay; 3.3 are one step."""
    basis = a_basis((1, 8, 8), unit=1.0)
    sign = 1 if basis.forward[0, 0] > 0 else -1
    held = np.zeros((1, 64), np.int16)
    for moved, expected in ((0.0, 0), (3.1, 0), (3.3, 4), (5.9, 4), (6.1, 8), (-3.1, 0), (-3.3, -4)):
        activation = np.full((1, 8, 8), basis.mean, np.float32)
        activation[0, 2, 3] += sign * moved
        _, grid = transform.encode(basis, transform.BITS[-3], activation, (0, held))
        assert grid[0, 2 * 8 + 3] == expected and np.count_nonzero(grid) == (expected != 0)


def test_a_change_that_is_larger_than_a_key_frame_is_sent_as_one() -> None:
    basis = a_basis((8, 16, 16))
    picture = np.ones(basis.shape, np.float32)  # smooth: a key frame is small
    payload, _ = transform.encode(basis, 7, picture, (0, random_grid(basis, 1, 2000)))
    assert payload[0] & 1 == 0
    payload, _ = transform.encode(basis, 7, picture, (0, np.rint(basis.to_grid(picture)).astype(np.int16)))
    assert payload[0] & 1 == 1


def test_finer_settings_are_larger_and_nearer() -> None:
    basis = a_basis((16, 16, 16))
    activation = an_activation(basis, 1)
    coded = [transform.encode_key(basis, bits, activation) for bits in transform.BITS]
    sizes = [len(payload) for payload, _ in coded]
    errors = [float(np.square(grid - basis.to_grid(activation)).mean()) for _, grid in coded]
    assert sizes == sorted(set(sizes)) and errors == sorted(set(errors), reverse=True)


@pytest.mark.parametrize("coder", entropy.CODERS, ids=["ANS", "LZMA"])
def test_a_reference_that_is_not_held_or_another_one_is_missing(coder: int) -> None:
    basis = a_basis((4, 8, 8))
    held = random_grid(basis, 1)
    now = basis.from_grid(held)
    payload, _ = transform.encode(basis, 7, now, (5, held), coder)
    with pytest.raises(ReferenceMissing, match="reference 5 is not held"):
        transform.decode(basis, payload, none_is_held)
    for place in range(held.size):
        tampered = held.copy()
        tampered.flat[place] += 1
        with pytest.raises(ReferenceMissing, match="reference 5 is another one here"):
            transform.decode(basis, payload, {5: tampered}.get)
    for other in (held[:2], held.reshape(2, -1), held.T):
        with pytest.raises(ReferenceMissing, match="another one here"):
            transform.decode(basis, payload, {5: other}.get)


def test_ids_count_modulo_two_to_the_32() -> None:
    basis = a_basis((4, 8, 8))
    held = random_grid(basis, 1)
    payload, grid = transform.encode(basis, 7, basis.from_grid(held), (2**40 + 7, held))
    assert payload[0] & 1
    assert np.array_equal(transform.decode(basis, payload, {7: held}.get), grid)


def test_a_payload_of_another_cut_point_is_refused() -> None:
    """Neither half nor twice as many elements; the same number of them in another shape is another activation."""
    basis = a_basis((4, 8, 8))
    payload, _ = transform.encode_key(basis, 7, an_activation(basis, 1))
    for shape in ((2, 8, 8), (8, 8, 8), (4, 8, 7), (32, 1, 1)):
        with pytest.raises(CodecError):
            transform.decode(a_basis(shape), payload, none_is_held)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: b"", "got 0 bytes, expected 2 to"),
        (lambda p: p[:1], "got 1 bytes, expected 2 to"),
        (lambda p: p + bytes(10_000), "bytes, expected 2 to"),
        (lambda p: b"\x02" + p[1:], "kind 2 with 7 bits"),
        (lambda p: b"\x20" + p[1:], "kind 32 with 7 bits"),
        (lambda p: p[:1] + b"\x01" + p[2:], "with 1 bits, expected 0 or 1 and 2 to"),
        (lambda p: p[:1] + bytes((transform.BITS[-1] + 1,)) + p[2:], "bits, expected 0 or 1 and 2 to"),
        (lambda p: p[:9], "got 9 bytes, expected 10 or more"),
        (lambda p: p[:10], "got 0 bytes of entropy code"),
    ],
)
def test_a_head_that_no_sender_makes_is_refused(change: object, said: str) -> None:
    basis = a_basis((4, 8, 8))
    held = random_grid(basis, 1)
    payload, _ = transform.encode(basis, 7, basis.from_grid(held), (5, held))
    with pytest.raises(CodecError, match=said):
        transform.decode(basis, change(payload), {5: held}.get)  # type: ignore[operator]


@pytest.mark.parametrize("activation", [np.zeros(255, np.float32), np.zeros((4, 8, 8)), np.zeros(0, np.float32)])
def test_another_type_or_size_is_refused(activation: np.ndarray) -> None:
    with pytest.raises(CodecError, match=r"expected float32 \(4, 8, 8\)"):
        transform.encode_key(a_basis((4, 8, 8)), 7, activation)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_as_key_frame_and_as_change(bad: float) -> None:
    basis = a_basis((4, 8, 8))
    activation = an_activation(basis, 1)
    activation[2, 3, 4] = bad
    with pytest.raises(CodecError, match="1 NaN or infinite of 256"):
        transform.encode_key(basis, 7, activation)
    with pytest.raises(CodecError, match="1 NaN or infinite of 256"):
        transform.encode(basis, 7, activation, (0, random_grid(basis, 1)))


@pytest.mark.parametrize("bits", [0, 1, transform.BITS[-1] + 1, -1])
def test_a_number_of_bits_that_is_none_is_refused(bits: int) -> None:
    basis = a_basis((4, 8, 8))
    with pytest.raises(CodecError, match=f"{bits} bits, expected 2 to {transform.BITS[-1]}"):
        transform.encode_key(basis, bits, an_activation(basis, 1))


@given(shape=shapes(), data=st.binary(max_size=200), kind=st.sampled_from([0, 1, 16, 17]), bits=BITS)
@settings(max_examples=300, deadline=None)
def test_garbage_is_on_the_grid_or_refused(shape: tuple[int, int, int], data: bytes, kind: int, bits: int) -> None:
    basis = a_basis(shape)
    with contextlib.suppress(CodecError):
        grid = transform.decode(basis, bytes((kind, bits)) + data, lambda _: random_grid(basis, 1))
        assert grid.shape == (shape[0], shape[1] * shape[2]) and np.abs(grid.astype(int)).max() <= GRID_LIMIT
