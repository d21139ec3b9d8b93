"""CNN-CO, SPINN's communication optimiser: 8-bit linear quantisation, bit shuffling, LZ4.

Laskaridis et al., "SPINN", MobiCom 2020 (arXiv 2008.06402). The smallest and the largest value become codes
0 and 255: of each channel, or of the whole activation where channels are so small that their ranges would
weigh too much (see `groups`). Payload, little-endian:

    bytes          what
    4 x groups     low, float32: the value of code 0
    4 x groups     step, float32: value = low + code * step
    ...            one LZ4 block of the bit-shuffled codes (element i's bit b goes to plane b)
"""

from __future__ import annotations

import math

import lz4.block
import numpy as np
import numpy.typing as npt

from ..errors import CodecError

NAME = "cnn-co"
VERSION = 1

_LEVELS = 255
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_SMALLEST_STEP = np.finfo(np.float32).tiny
_WIDE = 1e37  # beyond this, float32 differences and products may overflow

PIXELS_FOR_OWN_RANGE = 64
"""A channel of at least so many elements has its own range: 8 bytes on 64 codes. docs/decisions/0005-codec-ranges.md"""


def groups(shape: tuple[int, ...]) -> int:
    """How many ranges an activation of this shape has: one, or one for each channel of (..., C, H, W).

    Only a batch of one has a range for each channel.
    """
    if len(shape) >= 3 and math.prod(shape[:-3]) == 1 and shape[-1] * shape[-2] >= PIXELS_FOR_OWN_RANGE:
        return shape[-3]
    return 1


def max_payload_bytes(shape: tuple[int, ...]) -> int:
    """The largest payload an honest sender makes: LZ4's bound for incompressible input (lz4.h), and the ranges."""
    shuffled = (math.prod(shape) + 7) // 8 * 8
    return 8 * groups(shape) + shuffled + shuffled // 255 + 16


def encode(activation: npt.NDArray[np.float32]) -> bytes:
    """float32 activation of any shape -> payload. The error of each value is at most half a step of its range.

    A range below 3e-36, too small for a normal float32 step, is coded as a constant.

    Raises:
        CodecError: no elements, another type, or values that are NaN or infinite.
    """
    if activation.dtype != np.float32 or activation.size == 0:
        raise CodecError(f"got {activation.size} elements of {activation.dtype}, expected float32 and at least one")
    values = activation.reshape(groups(activation.shape), -1)
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        nans, infs = int(np.isnan(values).sum()), int(np.isinf(values).sum())
        raise CodecError(
            f"the activation has {nans} NaN and {infs} infinite of {values.size} values; "
            "only finite ones can be quantised"
        )
    # The step is rounded to float32 once, here, so that both ends compute with the same number. One ulp up,
    # where rounding went down: code 255 then still reaches `high`.
    spread = high.astype(np.float64) - low
    step = (spread / _LEVELS).astype(np.float32)
    step = np.where(step.astype(np.float64) * _LEVELS < spread, np.nextafter(step, np.float32(np.inf)), step)
    flat = step < _SMALLEST_STEP  # constant, or nearly
    divisor = np.where(flat, np.float32(1), step)
    if spread.max() > _WIDE:
        scaled = ((values.astype(np.float64) - low) / divisor).astype(np.float32)
    else:
        scaled = values - low
        scaled /= divisor
    np.rint(scaled, out=scaled)
    np.minimum(scaled, _LEVELS, out=scaled)
    codes = np.where(flat, np.uint8(0), scaled.astype(np.uint8)) if flat.any() else scaled.astype(np.uint8)
    block: bytes = lz4.block.compress(_shuffle(codes.reshape(-1)), store_size=False)
    ranges = np.concatenate([low, np.where(flat, np.float32(0), step)]).astype("<f4")  # (2 * groups, 1)
    return bytes(ranges.tobytes()) + block


def decode(payload: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Payload -> float32 activation of the shape that was agreed beforehand.

    Allocates what the shape says and nothing that the payload says.

    Raises:
        CodecError: too short, a range that is not finite, or not exactly as many codes as the shape needs.
    """
    ranges, elements = groups(shape), math.prod(shape)
    if not 8 * ranges < len(payload) <= max_payload_bytes(shape):
        raise CodecError(f"got {len(payload)} bytes, expected {8 * ranges + 1} to {max_payload_bytes(shape)}")
    low = np.frombuffer(payload, "<f4", ranges).astype(np.float64)[:, None]
    step = np.frombuffer(payload, "<f4", ranges, offset=4 * ranges).astype(np.float64)[:, None]
    highest = low + _LEVELS * step
    # `highest` may lie a rounding above the largest float32; NaN fails every comparison
    if not ((np.abs(low) <= _FLOAT32_MAX) & (step >= 0) & (np.abs(highest) <= _FLOAT32_MAX * (1 + 1e-6))).all():
        raise CodecError(
            f"a range starts at {low.ravel()[:3]} with steps of {step.ravel()[:3]}, expected finite values"
        )
    shuffled_bytes = (elements + 7) // 8 * 8
    try:
        shuffled = lz4.block.decompress(payload[8 * ranges :], uncompressed_size=shuffled_bytes)
    except lz4.block.LZ4BlockError as error:
        raise CodecError(f"the LZ4 block is damaged or holds more than {shuffled_bytes} bytes") from error
    if len(shuffled) != shuffled_bytes:
        raise CodecError(f"the LZ4 block holds {len(shuffled)} bytes, expected {shuffled_bytes}")
    codes = _unshuffle(shuffled)[:elements].reshape(ranges, -1)
    values: npt.NDArray[np.float32]
    if np.abs(highest).max() > _WIDE or np.abs(low).max() > _WIDE:
        values = np.minimum(low + codes * step, _FLOAT32_MAX).astype(np.float32)
    else:
        values = codes.astype(np.float32)
        values *= step.astype(np.float32)
        values += low.astype(np.float32)
    return values.reshape(shape)


def _shuffle(codes: npt.NDArray[np.uint8]) -> bytes:
    """Bit planes one after the other, element count padded with zeros to a multiple of 8 (Masui et al. 2015)."""
    padded = np.zeros((codes.size + 7) // 8 * 8, np.uint8)
    padded[: codes.size] = codes
    bits = np.unpackbits(padded).reshape(-1, 8)  # (elements, bit)
    return np.packbits(np.ascontiguousarray(bits.T)).tobytes()


def _unshuffle(shuffled: bytes) -> npt.NDArray[np.uint8]:
    bits = np.unpackbits(np.frombuffer(shuffled, np.uint8)).reshape(8, -1)  # (bit, elements)
    return np.packbits(np.ascontiguousarray(bits.T))
