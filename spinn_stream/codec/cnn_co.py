"""CNN-CO, SPINN's communication optimiser: 8-bit linear quantisation, bit shuffling, LZ4.

Laskaridis et al., "SPINN", MobiCom 2020 (arXiv 2008.06402). One range per activation: the smallest and
the largest value become codes 0 and 255. Payload, little-endian:

    offset  bytes  what
    0       4      low, float32: the value of code 0
    4       4      step, float32: value = low + code * step
    8       ...    one LZ4 block of the bit-shuffled codes (element i's bit b goes to plane b)
"""

from __future__ import annotations

import math
import struct

import lz4.block
import numpy as np
import numpy.typing as npt

from ..errors import CodecError

NAME = "cnn-co"
VERSION = 1

_RANGE = struct.Struct("<ff")
_LEVELS = 255


def max_payload_bytes(elements: int) -> int:
    """The largest payload an honest sender makes: LZ4's bound for incompressible input (lz4.h)."""
    shuffled = (elements + 7) // 8 * 8
    return _RANGE.size + shuffled + shuffled // 255 + 16


def encode(activation: npt.NDArray[np.float32]) -> bytes:
    """float32 activation of any shape -> payload. The error of each value is at most half a step.

    A range below 3e-36, too small for a normal float32 step, is coded as a constant.

    Raises:
        CodecError: no elements, another type, or values that are NaN or infinite.
    """
    if activation.dtype != np.float32 or activation.size == 0:
        raise CodecError(f"got {activation.size} elements of {activation.dtype}, expected float32 and at least one")
    values = activation.reshape(-1)
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        nans, infs = int(np.isnan(values).sum()), int(np.isinf(values).sum())
        raise CodecError(
            f"the activation has {nans} NaN and {infs} infinite of {values.size} values; "
            "only finite ones can be quantised"
        )
    # The step is rounded to float32 once, here, so that both ends compute with the same number. One ulp
    # up, where rounding went down: code 255 then still reaches `high`.
    step = np.float32((high - low) / _LEVELS)
    if float(step) * _LEVELS < high - low:
        step = np.nextafter(step, np.float32(np.inf))
    if step < np.finfo(np.float32).tiny:  # constant, or a range too small for a normal step
        step = np.float32(0)
        codes = np.zeros(values.size, np.uint8)
    elif high - low > 1e37:  # differences would overflow float32
        codes = np.rint((values.astype(np.float64) - low) / float(step)).clip(0, _LEVELS).astype(np.uint8)
    else:
        scaled = values - np.float32(low)
        scaled /= step
        np.rint(scaled, out=scaled)
        np.minimum(scaled, _LEVELS, out=scaled)
        codes = scaled.astype(np.uint8)
    block: bytes = lz4.block.compress(_shuffle(codes), store_size=False)
    return _RANGE.pack(low, step) + block


def decode(payload: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Payload -> float32 activation of the shape that was agreed beforehand.

    Allocates what the shape says and nothing that the payload says.

    Raises:
        CodecError: too short, a range that is not finite, or not exactly as many codes as the shape needs.
    """
    elements = math.prod(shape)
    if not _RANGE.size < len(payload) <= max_payload_bytes(elements):
        raise CodecError(f"got {len(payload)} bytes, expected {_RANGE.size + 1} to {max_payload_bytes(elements)}")
    low, step = _RANGE.unpack_from(payload)
    highest = low + _LEVELS * step
    if not (math.isfinite(low) and step >= 0 and abs(highest) <= float(np.finfo(np.float32).max) * (1 + 1e-6)):
        raise CodecError(f"the range starts at {low} with steps of {step}, expected finite values")
    shuffled_bytes = (elements + 7) // 8 * 8
    try:
        shuffled = lz4.block.decompress(payload[_RANGE.size :], uncompressed_size=shuffled_bytes)
    except lz4.block.LZ4BlockError as error:
        raise CodecError(f"the LZ4 block is damaged or holds more than {shuffled_bytes} bytes") from error
    if len(shuffled) != shuffled_bytes:
        raise CodecError(f"the LZ4 block holds {len(shuffled)} bytes, expected {shuffled_bytes}")
    codes = _unshuffle(shuffled)[:elements]
    if highest - low > 1e37 or abs(highest) > 1e37:
        wide: npt.NDArray[np.float64] = np.minimum(low + codes * np.float64(step), float(np.finfo(np.float32).max))
        return wide.astype(np.float32).reshape(shape)
    values: npt.NDArray[np.float32] = codes.astype(np.float32)
    values *= np.float32(step)
    values += np.float32(low)
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
