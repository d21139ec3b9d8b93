"""Whole numbers <-> bytes, close to their entropy: a table of frequencies for each group, and an ANS coder.

The numbers come in groups of similar ones (components of an activation, the strongest first). For each group the sender
picks the fixed table that makes it shortest, and names it in a byte. So the coder follows any content without learning,
and nothing need be agreed beforehand. A group of zeros takes only this byte.

    1 byte a group   its table; + 128 in the first: there are numbers beyond +-126
    4 bytes          only with those: how many, and for each
    2 bytes          by how much it lies beyond +-127, which takes its place
    rest             the coder's


The coder is the ANS of `constriction` (Bamler 2022, arXiv 2201.01741; Duda 2013, arXiv 1311.2540). If that is missing
(no wheel: Linux on arm64), a sender uses the range coder of LZMA, which is in Python's standard library and makes
payloads a fifth to 60 % larger. docs/decisions/0013-transform-codec.md has the measurements.
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from spinn_stream.errors import CodecError

try:
    import constriction
except ImportError:  # pragma: no cover - the other coder is tested by naming it
    constriction = None

Codes = npt.NDArray[np.int32]

LARGEST = 127
"""Symbols are -127..127, 255 of them; the outermost two also stand for numbers beyond."""

MAX_CODE = 32_000

ANS, LZMA = 0, 1
CODERS = (ANS, LZMA)

_ONE = 1 << 32  # fixed point
_TOTAL = 1 << 22  # what the frequencies of a table add up to, about
_SHARES_OF_ZEROS = (256, 640, 1152, 1664, 2176, 2560, 2880, 3168, 3400, 3600, 3750, 3870, 3950, 4006, 4046, 4070, 4083,
                    4090)  # of 4096  # fmt: skip
_BEYOND = 128
_ZEROS = 0  # the table of a group that holds nothing else
_LZMA_FILTERS = [{"id": lzma.FILTER_LZMA1, "lc": 0, "lp": 0, "pb": 0, "dict_size": 4096, "nice_len": 64}]


def available() -> tuple[int, ...]:
    """The installed coders, the best first."""
    return (ANS, LZMA) if constriction is not None else (LZMA,)


def max_bytes(elements: int, groups: int) -> int:
    """Upper bound of the bytes of `pack`: one table is flat, at 8 bits a number; LZMA may need somewhat more."""
    return groups + 4 + 2 * elements + elements + elements // 64 + 128


@cache
def group_bounds(elements: int, first: int, groups: int) -> tuple[int, ...]:
    """The ends of groups: the first holds `first` numbers, and each next one more by a constant factor.

    The strongest components come first and differ most.
    """
    ends = np.unique(np.round(np.geomspace(min(first, elements), elements, groups)).astype(int))
    return tuple(int(end) for end in ends)


def _spread(weights: Sequence[int]) -> npt.NDArray[np.float64]:
    """Weights of 0, 1, 2, ... as shares of the symbols -127..127, none of them 0."""
    total = 2 * sum(weights[1:]) + weights[0]
    half = [max(1, weight * _TOTAL // total) for weight in weights]
    shares = np.array([*half[:0:-1], *half], np.float64)
    return shares / _TOTAL  # exact: both ends compute the same in any order


def _geometric(zero: int, ratio: int) -> npt.NDArray[np.float64]:
    """Share `zero`/4096 of zeros, each further number `ratio`/64 as likely as the one before."""
    tail, weight = [], _ONE * 16
    for _ in range(LARGEST):
        tail.append(weight)
        weight = weight * ratio // 64
    return _spread([2 * sum(tail) * zero // (4096 - zero), *tail])


def _gaussian(ratio: int) -> npt.NDArray[np.float64]:
    """exp(-k^2 / 2 s^2) by whole-number arithmetic; `ratio`/2^32 is exp(-1 / 2 s^2)."""
    weights, weight, step = [], _ONE * 16, ratio
    for _ in range(LARGEST + 1):
        weights.append(weight)
        weight = weight * step // _ONE  # ratio^(2k + 1)
        step = step * ratio // _ONE * ratio // _ONE
    return _spread(weights)


@cache
def tables() -> npt.NDArray[np.float64]:
    """(tables, 255): row 0 is not used, row 1 is flat. The same numbers on every machine: whole-number arithmetic."""
    flat = np.full(2 * LARGEST + 1, 1 / 256)
    shapes = [flat, flat]
    for zero in _SHARES_OF_ZEROS:
        shapes += [_geometric(zero, ratio) for ratio in (2, 10, 21, 36)]
    shapes += [_geometric(16 * zero, ratio) for zero, ratio in ((3, 62), (5, 60), (8, 58), (12, 54), (20, 50))]
    s2 = 3  # 16 s^2: from a standard deviation of 0.4, rising by a tenth a time
    while s2 < 16 * 48**2:
        shapes.append(_gaussian(_exp_minus(8, s2)))
        s2 = max(s2 + 1, s2 * 100 // 78)
    return np.stack(shapes)


def _exp_minus(numerator: int, denominator: int) -> int:
    """exp(-numerator / denominator) in 32 bits behind the point, by its series; no libm, which may differ."""
    # halve the argument until it is small, then square back
    halvings = max(0, (8 * numerator // denominator).bit_length())
    x = (numerator << 64) // (denominator << halvings)
    term = total = 1 << 64
    for n in range(1, 24):
        term = -(term * x >> 64) // n
        total += term
    for _ in range(halvings):
        total = total * total >> 64
    return max(1, total >> 32)


@cache
def _lengths() -> npt.NDArray[np.float32]:
    """(255, tables): bits that a symbol takes."""
    return np.ascontiguousarray(-np.log2(tables()).T, np.float32)


@cache
def _model(table: int) -> Any:
    return constriction.stream.model.Categorical(tables()[table], perfect=False)


def pack(codes: Codes, ends: Sequence[int], coder: int) -> bytes:
    """Codes, (N,) of at most +-MAX_CODE, in groups that end at `ends` -> bytes."""
    beyond = b""
    inner = codes
    if max(int(codes.max()), -int(codes.min())) >= LARGEST:
        inner = np.clip(codes, -LARGEST, LARGEST)
        outer = (codes - inner)[np.abs(inner) == LARGEST]
        beyond = struct.pack("<I", len(outer)) + outer.astype("<i2").tobytes()
    symbols = inner + LARGEST
    starts = (0, *ends[:-1])
    counts = np.stack([np.bincount(symbols[a:b], minlength=2 * LARGEST + 1) for a, b in zip(starts, ends, strict=True)])
    chosen = (counts.astype(np.float32) @ _lengths())[:, 1:].argmin(axis=1) + 1
    chosen[counts[:, LARGEST] == counts.sum(axis=1)] = _ZEROS
    if beyond:
        chosen[0] |= _BEYOND
    head: bytes = chosen.astype(np.uint8).tobytes() + beyond
    if beyond:
        chosen[0] &= ~_BEYOND
    if coder == LZMA:
        own = inner.astype(np.int8).tobytes()
        return b"".join((head, lzma.compress(own, lzma.FORMAT_RAW, filters=_LZMA_FILTERS))) if chosen.any() else head
    ans = constriction.stream.stack.AnsCoder()
    for table, a, b in reversed(list(zip(chosen.tolist(), starts, ends, strict=True))):
        if table != _ZEROS:
            ans.encode_reverse(symbols[a:b], _model(table))
    words: npt.NDArray[np.uint32] = ans.get_compressed()
    return b"".join((head, words.astype("<u4").tobytes()))


def unpack(data: bytes | memoryview, ends: Sequence[int], coder: int) -> Codes:
    """Bytes -> codes, (N,) int32. Allocates memory by `ends`, never by what the bytes say.

    Raises:
        CodecError: the bytes are damaged, or the coder is not installed.
    """
    groups = len(ends)
    if len(data) < groups:
        raise CodecError(f"got {len(data)} bytes of entropy code, expected {groups} or more")
    chosen, body = list(data[:groups]), bytes(data[groups:])
    outer = None
    if chosen[0] & _BEYOND:
        chosen[0] &= ~_BEYOND
        count = int.from_bytes(body[:4], "little")
        if len(body) < 4 + 2 * count:
            raise CodecError(f"{count} large numbers are announced in {len(body)} bytes")
        outer, body = np.frombuffer(body, "<i2", count, 4), body[4 + 2 * count :]
    if max(chosen) >= len(tables()):
        raise CodecError(f"table {max(chosen)} of the entropy coder, expected 0 to {len(tables()) - 1}")
    if not any(chosen):
        if body or outer is not None:
            raise CodecError(f"{len(body)} bytes behind codes that are all zero")
        return np.zeros(ends[-1], np.int32)
    codes = _unpack_lzma(body, ends[-1]) if coder == LZMA else _unpack_ans(body, chosen, ends)
    if outer is not None:
        places = np.flatnonzero(np.abs(codes) == LARGEST)
        if len(places) != len(outer):
            raise CodecError(f"{len(outer)} large numbers are announced, {len(places)} are there")
        codes[places] += outer
    return codes


def _unpack_ans(body: bytes, chosen: Sequence[int], ends: Sequence[int]) -> Codes:
    if constriction is None:
        raise CodecError("the payload is coded with ANS, and this installation has no `constriction`")
    if len(body) % 4:
        raise CodecError(f"{len(body)} bytes of ANS code, expected a multiple of 4")
    codes = np.zeros(ends[-1], np.int32)
    try:
        ans = constriction.stream.stack.AnsCoder(np.frombuffer(body, "<u4").astype(np.uint32))
        start = 0
        for table, end in zip(chosen, ends, strict=True):
            if table != _ZEROS:
                codes[start:end] = ans.decode(_model(table), end - start)
                codes[start:end] -= LARGEST
            start = end
        left = not ans.is_empty()
    except ValueError as error:
        raise CodecError(f"the ANS code is damaged: {error}") from error
    if left:
        raise CodecError("the ANS code is damaged: something is left behind the last code")
    return codes


def _unpack_lzma(body: bytes, elements: int) -> Codes:
    decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_LZMA_FILTERS)
    try:
        own = decoder.decompress(body, max_length=elements + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise CodecError(f"the LZMA code is damaged: {error}") from error
    if len(own) != elements:
        raise CodecError(f"the LZMA code holds {len(own)} codes, expected {elements}")
    codes = np.frombuffer(own, np.int8).astype(np.int32)
    if codes.min() < -LARGEST:
        raise CodecError(f"code {codes.min()}, expected -{LARGEST} to {LARGEST}")
    return codes
