"""Whole numbers come back from their entropy code, which is hardly longer than their entropy."""

from __future__ import annotations

import contextlib
import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spinn_stream.codec import entropy
from spinn_stream.errors import CodecError

TABLES_SHA256 = "5ed9593aaa1c987f02e68927a63568531098ab00128b6dbef102df51e64353d9"
"""Of the tables as little-endian float64. Both ends must have the same: another hash is another codec version."""

CODERS = pytest.mark.parametrize("coder", entropy.CODERS, ids=["ANS", "LZMA"])
GROUPS = 8


def ends_of(codes: entropy.Codes) -> tuple[int, ...]:
    return entropy.group_bounds(len(codes), 48, GROUPS)


@st.composite
def code_arrays(draw: st.DrawFn) -> entropy.Codes:
    """Laplace numbers of any spread, or any numbers at all, or zeros in between."""
    count = draw(st.integers(1, 3000))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([0, 0.01, 0.3, 2, 20, 500]))
    codes = np.rint(rng.laplace(0, spread, count)) if spread else np.zeros(count)
    some = draw(hnp.arrays(np.int32, st.integers(0, min(20, count)), elements=st.integers(-32_000, 32_000)))
    codes[rng.permutation(count)[: len(some)]] = some
    return np.clip(codes, -entropy.MAX_CODE, entropy.MAX_CODE).astype(np.int32)


@CODERS
@given(codes=code_arrays())
@settings(max_examples=150, deadline=None)
def test_any_codes_come_back_exactly_and_within_the_stated_size(coder: int, codes: entropy.Codes) -> None:
    packed = entropy.pack(codes, ends_of(codes), coder)
    assert np.array_equal(entropy.unpack(packed, ends_of(codes), coder), codes)
    assert len(packed) <= entropy.max_bytes(len(codes), GROUPS)


@CODERS
@pytest.mark.parametrize("extreme", [126, 127, 128, 254, 255, 32_000])
def test_codes_beyond_the_tables_survive(coder: int, extreme: int) -> None:
    codes = np.zeros(500, np.int32)
    codes[[0, 7, 250, 499]] = extreme, -extreme, 1 - extreme, 127
    assert np.array_equal(entropy.unpack(entropy.pack(codes, ends_of(codes), coder), ends_of(codes), coder), codes)


@CODERS
def test_zeros_take_a_byte_a_group(coder: int) -> None:
    codes = np.zeros(100_000, np.int32)
    packed = entropy.pack(codes, ends_of(codes), coder)
    assert packed == bytes(GROUPS)
    assert not entropy.unpack(packed, ends_of(codes), coder).any()


@CODERS
@pytest.mark.parametrize("elements", [1, 100, 5000, 131_072])
def test_noise_stays_within_the_stated_size(coder: int, elements: int) -> None:
    """Every number as likely as any other, within the tables and beyond them."""
    rng = np.random.default_rng(1)
    flat = rng.integers(-127, 128, elements).astype(np.int32)
    beyond = rng.integers(-32_000, 32_001, elements).astype(np.int32)
    for codes in (flat, beyond):
        packed = entropy.pack(codes, ends_of(codes), coder)
        assert len(packed) <= entropy.max_bytes(len(codes), GROUPS)
        assert np.array_equal(entropy.unpack(packed, ends_of(codes), coder), codes)


def zeroth_order_bytes(codes: entropy.Codes) -> float:
    """What the best code of single numbers takes, one for each group."""
    bits = 0.0
    starts = (0, *ends_of(codes)[:-1])
    for start, end in zip(starts, ends_of(codes), strict=True):
        counts = np.unique(codes[start:end], return_counts=True)[1]
        bits -= float((counts * np.log2(counts / (end - start))).sum())
    return bits / 8


@pytest.mark.parametrize("spread", [0.02, 0.1, 0.2, 0.3, 0.5, 1, 2, 4, 8, 16, 30])
def test_laplace_numbers_take_hardly_more_than_their_entropy(spread: float) -> None:
    codes = np.rint(np.random.default_rng(3).laplace(0, spread, 40_000)).astype(np.int32)
    size = len(entropy.pack(codes, ends_of(codes), entropy.ANS))
    beyond = 4 + 2 * int((np.abs(codes) >= entropy.LARGEST).sum())
    assert size <= 1.05 * zeroth_order_bytes(codes) + 32 + beyond * (beyond > 4)


def test_the_tables_are_the_same_numbers_on_every_machine() -> None:
    tables = entropy.tables()
    assert hashlib.sha256(tables.astype("<f8").tobytes()).hexdigest() == TABLES_SHA256


def test_every_table_gives_every_symbol_a_share() -> None:
    tables = entropy.tables()
    assert tables.shape == (len(tables), 255) and len(tables) < 128  # the eighth bit says: there are numbers beyond
    assert (tables > 0).all() and np.isfinite(tables).all()
    assert np.abs(tables.sum(axis=1) - 1).max() < 0.01


def test_groups_grow_from_the_strongest_on_and_cover_everything() -> None:
    for elements in (1, 2, 47, 48, 49, 1000, 131_072):
        ends = entropy.group_bounds(elements, 48, GROUPS)
        sizes = np.diff([0, *ends])
        assert ends[-1] == elements and len(ends) <= GROUPS and (sizes > 0).all()
        assert ends[0] == min(48, elements)


@CODERS
@given(data=st.binary(max_size=300), count=st.integers(1, 400))
@settings(max_examples=300, deadline=None)
def test_garbage_gives_as_many_codes_as_agreed_or_is_refused(coder: int, data: bytes, count: int) -> None:
    ends = entropy.group_bounds(count, 48, GROUPS)
    try:
        codes = entropy.unpack(data, ends, coder)
    except CodecError:
        return
    assert codes.shape == (count,) and codes.dtype == np.int32
    assert np.abs(codes).max() <= entropy.LARGEST + 2**15


@CODERS
@given(codes=code_arrays(), at=st.integers(0, 2**31), flip=st.integers(1, 255), cut=st.booleans())
@settings(max_examples=200, deadline=None)
def test_damage_gives_as_many_codes_as_agreed_or_is_refused(
    coder: int, codes: entropy.Codes, at: int, flip: int, cut: bool
) -> None:
    packed = bytearray(entropy.pack(codes, ends_of(codes), coder))
    if cut:
        del packed[at % len(packed) :]
    else:
        packed[at % len(packed)] ^= flip
    with contextlib.suppress(CodecError):
        assert entropy.unpack(bytes(packed), ends_of(codes), coder).shape == codes.shape


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "got 0 bytes of entropy code, expected 8"),
        (bytes(7), "got 7 bytes of entropy code, expected 8"),
        (bytes(9), "1 bytes behind codes that are all zero"),
        (b"\x7f" + bytes(7), "table 127 of the entropy coder"),
        (b"\x81" + bytes(7) + b"\xff\xff\xff\xff", "4294967295 large numbers are announced in 4 bytes"),
        (b"\x81" + bytes(7), "0 large numbers are announced in 0 bytes"),
        (b"\x01" + bytes(7) + b"\x01\x02\x03", "3 bytes of ANS code, expected a multiple of 4"),
        (b"\x01" + bytes(7) + bytes(range(1, 241)), "left behind the last code"),
        (b"\x01" + bytes(7) + bytes(4), "ANS code is damaged"),  # the last word of a code is never 0
    ],
)
def test_what_no_sender_makes_is_refused_with_what_was_got(data: bytes, said: str) -> None:
    ends = entropy.group_bounds(200, 48, GROUPS)
    with pytest.raises(CodecError, match=said):
        entropy.unpack(data, ends, entropy.ANS)


@pytest.mark.parametrize("codes", [np.ones(199, np.int32), np.ones(201, np.int32)])
def test_an_lzma_code_of_another_length_is_refused(codes: entropy.Codes) -> None:
    packed = entropy.pack(codes, ends_of(codes), entropy.LZMA)
    ends = entropy.group_bounds(200, 48, GROUPS)
    with pytest.raises(CodecError, match="LZMA code holds"):
        entropy.unpack(packed, ends, entropy.LZMA)


def test_an_lzma_bomb_is_not_unpacked() -> None:
    """A million codes in a few hundred bytes are read as far as one more than agreed."""
    bomb = entropy.pack(np.ones(1_000_000, np.int32), ends_of(np.ones(1_000_000, np.int32)), entropy.LZMA)
    assert len(bomb) < 1000
    with pytest.raises(CodecError, match="holds 201 codes, expected 200"):
        entropy.unpack(bomb, entropy.group_bounds(200, 48, GROUPS), entropy.LZMA)


def test_without_ans_a_payload_of_it_is_refused_and_lzma_is_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.arange(-20, 20, dtype=np.int32)
    packed = entropy.pack(codes, ends_of(codes), entropy.ANS)
    monkeypatch.setattr(entropy, "constriction", None)
    assert entropy.available() == (entropy.LZMA,)
    with pytest.raises(CodecError, match="no `constriction`"):
        entropy.unpack(packed, ends_of(codes), entropy.ANS)
