"""The `transform` codec: an activation in its cut point's basis, alone or as its change since another one.

Payload, little-endian:

    1 byte    kind: 0 key frame, 1 change; + 16: the entropy coder is LZMA, not ANS
    1 byte    bits, 2 to 10: how fine
    8 bytes   changes only: id of the reference modulo 2^32, and the CRC-32 of what it is on the grid
    rest      the codes (see `entropy`)

The grid has steps of 10 bits (see `basis`); b bits are steps of 2^(10-b) of it. A key frame is coded in the cosine
transform of 8x8 places with twice that step: it is as good for one picture and much smaller. A change is coded place
by place: value - reference, in whole steps. A value that changed by less than 0.8 of a step stays at the reference: so
noise in a still scene costs almost nothing, and the error stays below 0.8 steps.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from spinn_stream.errors import CodecError, ReferenceMissing

from . import entropy
from .basis import GRID_LIMIT, Basis, Floats, Grid

NAME = "transform"
VERSION = 1
BITS = range(2, 11)

STAYS = 0.8
"""A value that moves by at most this share of a step is not coded anew. docs/decisions/0013-transform-codec.md"""

KEY_STEPS = 2
"""A key frame's step, in steps of a change; at the finest setting it is the grid's own."""

KEY_IS_NEAR = 0.9
"""If a change takes this share of a key frame's bytes, a key frame is tried, too."""

GROUPS = 8
FIRST_OF_KEY, FIRST_OF_CHANGE = 48, 64  # numbers in the first group

_KEY, _CHANGE = 0, 1
_LZMA_FLAG = 16
_REFERENCE = struct.Struct("<II")
ID_MODULUS = 2**32


def max_payload_bytes(elements: int) -> int:
    """The largest payload that an honest sender makes."""
    return 2 + _REFERENCE.size + entropy.max_bytes(elements, GROUPS)


def checksum(grid: Grid) -> int:
    """The checksum that tells two references apart."""
    return zlib.crc32(grid.astype("<i2").tobytes())


def is_key(payload: bytes) -> bool:
    """Whether a payload is a key frame, which can be decoded alone."""
    return payload[0] & ~_LZMA_FLAG == _KEY


def encode_key(basis: Basis, bits: int, activation: Floats, coder: int | None = None) -> tuple[bytes, Grid]:
    """An activation alone.

    Args:
        activation: (C, H, W), or (1, C, H, W).

    Returns:
        The payload, and its decoded values on the grid.

    Raises:
        CodecError: values that cannot be coded: NaN, infinite or far too large.
    """
    return _key(basis, bits, _on_grid(basis, activation), _coder(coder))


def encode(
    basis: Basis,
    bits: int,
    activation: Floats,
    reference: tuple[int, Grid],
    coder: int | None = None,
    *,
    key_bytes: int | None = None,
) -> tuple[bytes, Grid]:
    """The smaller of a key frame and the change since the reference (its id, and its values on the grid).

    Args:
        key_bytes: of a recent key frame. A key frame is tried only if a change comes near that; None: if a change takes
            more than a bit an element.

    Returns and raises: see `encode_key`.
    """
    coder = _coder(coder)
    z = _on_grid(basis, activation)
    request, held = reference
    step = _step(bits)
    change = z - held
    codes = np.rint(change * np.float32(1 / step))
    codes[np.abs(change) < STAYS * step] = 0
    whole = np.clip(codes, -entropy.MAX_CODE, entropy.MAX_CODE, out=codes).astype(np.int32)
    body = entropy.pack(whole.reshape(-1), _ends(basis, FIRST_OF_CHANGE), coder)
    head = bytes((_CHANGE | coder * _LZMA_FLAG, bits)) + _REFERENCE.pack(request % ID_MODULUS, checksum(held))
    if len(body) > (basis.elements // 8 if key_bytes is None else KEY_IS_NEAR * key_bytes):
        key, grid = _key(basis, bits, z, coder)
        if len(key) < len(head) + len(body):
            return key, grid
    return head + body, _moved(held, whole, step)


def decode(basis: Basis, payload: bytes, find: Callable[[int], Grid | None]) -> Grid:
    """A payload -> its values on the grid.

    Args:
        find: the reference of this id modulo 2^32; None: it is not held.

    Raises:
        CodecError: the payload is damaged. ReferenceMissing: its reference is not held, or differs.
    """
    if not 2 <= len(payload) <= max_payload_bytes(basis.elements):
        raise CodecError(f"got {len(payload)} bytes, expected 2 to {max_payload_bytes(basis.elements)}")
    kind, bits = payload[0] & ~_LZMA_FLAG, payload[1]
    coder = entropy.LZMA if payload[0] & _LZMA_FLAG else entropy.ANS
    if kind not in (_KEY, _CHANGE) or bits not in BITS:
        raise CodecError(f"kind {kind} with {bits} bits, expected 0 or 1 and {BITS[0]} to {BITS[-1]}")
    if kind == _KEY:
        codes = entropy.unpack(memoryview(payload)[2:], _ends(basis, FIRST_OF_KEY), coder)
        return basis.from_frequencies(codes, key_step(bits))
    if len(payload) < 2 + _REFERENCE.size:
        raise CodecError(f"got {len(payload)} bytes, expected {2 + _REFERENCE.size} or more")
    request, expected = _REFERENCE.unpack_from(payload, 2)
    held = find(request)
    if held is None:
        raise ReferenceMissing(f"reference {request} is not held; send a key frame")
    if held.shape != (basis.shape[0], basis.shape[1] * basis.shape[2]) or checksum(held) != expected:
        raise ReferenceMissing(f"reference {request} is another one here; send a key frame")
    codes = entropy.unpack(memoryview(payload)[2 + _REFERENCE.size :], _ends(basis, FIRST_OF_CHANGE), coder)
    return _moved(held, codes.reshape(held.shape), _step(bits))


def _on_grid(basis: Basis, activation: Floats) -> Floats:
    if activation.dtype != np.float32 or activation.size != basis.elements:
        raise CodecError(f"got {activation.dtype} {activation.shape}, expected float32 {basis.shape}")
    return basis.to_grid(activation)


def _key(basis: Basis, bits: int, z: Floats, coder: int) -> tuple[bytes, Grid]:
    step = key_step(bits)
    codes = np.rint(basis.to_frequencies(z) * np.float32(1 / step))
    whole = np.clip(codes, -entropy.MAX_CODE, entropy.MAX_CODE, out=codes).astype(np.int32)
    body = entropy.pack(whole, _ends(basis, FIRST_OF_KEY), coder)
    return bytes((_KEY | coder * _LZMA_FLAG, bits)) + body, basis.from_frequencies(whole, step)


def _moved(held: Grid, codes: npt.NDArray[np.int32], step: int) -> Grid:
    moved = held + codes * step  # int32
    return np.clip(moved, -GRID_LIMIT, GRID_LIMIT, out=moved).astype(np.int16)


def _step(bits: int) -> int:
    if bits not in BITS:
        raise CodecError(f"{bits} bits, expected {BITS[0]} to {BITS[-1]}")
    return 1 << (BITS[-1] - bits)


def key_step(bits: int) -> int:
    """Of a key frame, in units of the grid."""
    step = _step(bits)
    return KEY_STEPS * step if step > 1 else step


def _coder(asked: int | None) -> int:
    return entropy.available()[0] if asked is None else asked


def _ends(basis: Basis, first: int) -> tuple[int, ...]:
    return entropy.group_bounds(basis.elements, first, GROUPS)
