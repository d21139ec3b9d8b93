"""Messages that are valid, damaged, or never were any: with other fields, other bytes, other lengths."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import msgpack

from spinn_stream.wire import Message, encode
from spinn_stream.wire.messages import MAX_BATCH, MAX_FACTOR, MAX_HEADER_BYTES, MAX_ID, MAX_MS, MAX_TOP

EDGES = (0, 1, MAX_TOP, MAX_BATCH, 10_000, 2**16, 2**31, int(MAX_MS), int(MAX_FACTOR), 10**12, MAX_ID, 2**63)
ODD: list[Any] = [
    *(edge + off for edge in EDGES for off in (-1, 0, 1)), -(2**63), 2**64 - 1,
    0.0, -0.0, 0.5, 1.0, math.nextafter(1.0, 2.0), -1e-300, 1e308, math.nan, math.inf, -math.inf, MAX_MS + 0.5,
    None, True, False, "", "x", "x" * 33, "ä" * 101, "x" * 2048, "x" * 2049, "\x00\x1b[2J", "jpeg", "transform",
    "hello", "welcome", "infer", "result", "reject", "cancel", "load", "profile", "overloaded", "bad_message",
    b"", b"x", b"\xff" * 300, msgpack.ExtType(1, b"x"), msgpack.Timestamp(1, 1),
    [], [[]], [[1, 0.5]], [[1, 0.5], [2, 0.25]], [[1, math.nan]], [[-1, 0.5]], [[1]], [[1, 2, 3]], [[1, 0.1]] * 17,
    [0] * 65, [1, 2, 4], [2, 1], [1, 1], list(range(1, 18)), {}, {"jpeg": 1}, {"jpeg": "1"}, {"": 2**40}, {1: 2},
    {b"a": 1}, {str(n): n for n in range(33)}, {"x" * 33: 1},
]  # fmt: skip
"""Values that a field may get: around every limit, of every type that msgpack has."""

DEEP = [
    b"\x91",
    b"\x81\xa1x",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\x7f\xff\xff\xff",
    b"\xc6\x40\x00\x00\x00",
    b"\xdb\xff\xff\xff\xff",
]
"""Beginnings of msgpack values inside each other, some of which announce more than there can be."""


def message(rng: random.Random, valid: Sequence[Message]) -> bytes:
    """One message, more often valid than not."""
    chosen = rng.choice(valid)
    way = rng.randrange(16)
    if way < 10:
        return encode(chosen)
    if way < 13:
        return _other_fields(rng, chosen)
    return _WAYS[rng.randrange(len(_WAYS))](rng, encode(chosen))


def value(rng: random.Random, depth: int = 0) -> Any:
    """Anything that msgpack can pack."""
    way = rng.randrange(8)
    if way < 5 or depth > 3:
        return rng.choice(ODD)
    if way == 5:
        return rng.randrange(-(2**63), 2**64)
    inner = [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return inner if way == 6 else {str(n): v for n, v in enumerate(inner)}


def frame(header: bytes, payload: bytes = b"", announced: int | None = None) -> bytes:
    """announced: length of the header that is told; None: the true one."""
    return (len(header) if announced is None else announced).to_bytes(2, "big") + header + payload


def _other_fields(rng: random.Random, chosen: Message) -> bytes:
    """One or two other fields, more or fewer of them, or another payload."""
    header = [
        type(chosen).__name__.lower().removeprefix("server"),
        *(getattr(chosen, f.name) for f in fields(chosen) if f.name != "payload"),
    ]
    for _ in range(rng.choice((1, 1, 1, 2))):
        at = rng.randrange(len(header) + 2)
        if at < len(header):
            header[at] = value(rng)
        elif at == len(header):
            header.append(value(rng))
        elif header:
            header.pop()
    payload = getattr(chosen, "payload", b"")
    if rng.randrange(5) == 0:
        payload = rng.choice((b"", b"x", payload[:-1], payload + b"x", bytes(70_000), b"\xff" * 400))
    return frame(msgpack.packb(header), payload)


def _cut(rng: random.Random, good: bytes) -> bytes:
    return good[: rng.randrange(min(len(good), _head(good) + 2))]


def _flip(rng: random.Random, good: bytes) -> bytes:
    data = bytearray(good)
    for _ in range(rng.choice((1, 1, 2, 4))):
        data[rng.randrange(_head(good))] = rng.randrange(256)
    return bytes(data)


def _lie(rng: random.Random, good: bytes) -> bytes:
    """About the header's length."""
    end = _head(good)
    told = rng.choice((0, 1, end - 3, end - 1, len(good), MAX_HEADER_BYTES, MAX_HEADER_BYTES + 1, 65535))
    return frame(good[2:end], good[end:], min(told, 65535))


def _anything(rng: random.Random, good: bytes) -> bytes:
    return frame(msgpack.packb(value(rng)))


def _deep(rng: random.Random, good: bytes) -> bytes:
    return frame(rng.choice(DEEP) * rng.choice((1, 5, 600)) + good[2 : _head(good)])


def _noise(rng: random.Random, good: bytes) -> bytes:
    return rng.choice((b"", b"\x00\x05\x93", good[:3])) + rng.randbytes(rng.choice((0, 1, 2, 9, 60, 5000)))


def _head(good: bytes) -> int:
    """Where the header ends."""
    return 2 + int.from_bytes(good[:2], "big")


_WAYS = (_cut, _flip, _lie, _anything, _deep, _noise)
