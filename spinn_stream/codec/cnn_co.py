"""CNN-CO, SPINN's communication optimiser, exactly as published: linear codes, bit shuffling, LZ4. The baseline.

Laskaridis et al., "SPINN", MobiCom 2020 (arXiv 2008.06402), with 8 bits there. The smallest and the largest value
of the activation become codes 0 and 2^bits - 1. Payload, little-endian:

    1 byte    bits, 2 to 8
    4 bytes   low, float32: the value of code 0
    4 bytes   step, float32: value = low + code * step
    ...       one LZ4 block of the bit-shuffled codes (element i's bit b is bit i of plane b)
"""

from __future__ import annotations

import math
import struct

import lz4.block
import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle
from spinn_stream.errors import CodecError
from spinn_stream.frame import Pixels

from .base import CodingCost, Floats, StatelessCodec

NAME = "cnn-co"
VERSION = 2
BITS = range(2, 9)

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_SMALLEST_STEP = float(np.finfo(np.float32).tiny)
_HEAD = struct.Struct("<Bff")


class CnnCo(StatelessCodec):
    """Quality: bits."""

    name = NAME
    version = VERSION
    qualities = BITS
    default_quality = 8
    table_qualities = (4, 8)
    cost = CodingCost(0.013, 4.3, 0.007, 5.4)  # 8 bits, 5,632 to 24,576 numbers, docs/scheduler/prediction.md

    def max_payload_bytes(self, elements: int) -> int:
        return max_payload_bytes(elements)

    def encode(self, bundle: Bundle, quality: int | None, activation: Floats, picture: Pixels) -> bytes:
        assert quality is not None
        return encode(activation, quality)

    def decode(self, bundle: Bundle, split: int, payload: bytes) -> Floats:
        return decode(payload, (1, *bundle.cut_points[split].shape))


def max_payload_bytes(elements: int) -> int:
    """The largest payload an honest sender makes: LZ4's bound for incompressible input (lz4.h), and the range."""
    shuffled = _plane_bytes(elements) * BITS[-1]
    return _HEAD.size + shuffled + shuffled // 255 + 16


def encode(activation: npt.NDArray[np.float32], bits: int = 8) -> bytes:
    """float32 activation of any shape -> payload. The error of each value is at most half a step.

    A range below 3e-36, too small for a normal float32 step, is coded as a constant.

    Raises:
        CodecError: no elements, another type, values that are NaN or infinite, or another number of bits.
    """
    if activation.dtype != np.float32 or activation.size == 0:
        raise CodecError(f"got {activation.size} elements of {activation.dtype}, expected float32 and at least one")
    if bits not in BITS:
        raise CodecError(f"{bits} bits, expected {BITS[0]} to {BITS[-1]}")
    values = activation.reshape(-1)
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        nans, infs = int(np.isnan(values).sum()), int(np.isinf(values).sum())
        raise CodecError(
            f"the activation has {nans} NaN and {infs} infinite of {values.size} values; "
            "only finite ones can be quantised"
        )
    # The step is rounded to float32 once, here, so that both ends compute with the same number. One ulp up,
    # where rounding went down: the last code then still reaches `high`.
    levels = (1 << bits) - 1
    step = float(np.float32((high - low) / levels))
    if step * levels < high - low:
        step = float(np.nextafter(np.float32(step), np.float32(np.inf)))
    if step < _SMALLEST_STEP:  # constant, or nearly
        step, codes = 0.0, np.zeros(values.size, np.uint8)
    elif high - low > 1e37:  # float32 differences may overflow
        codes = np.minimum(np.rint((values.astype(np.float64) - low) / step), levels).astype(np.uint8)
    else:
        scaled = values - np.float32(low)
        scaled /= np.float32(step)
        np.rint(scaled, out=scaled)
        codes = np.minimum(scaled, levels, out=scaled).astype(np.uint8)
    block: bytes = lz4.block.compress(_shuffle(codes, bits), store_size=False)
    return _HEAD.pack(bits, low, step) + block


def decode(payload: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Payload -> float32 activation of the agreed shape.

    Allocates memory by the shape, never by what the payload says.

    Raises:
        CodecError: too short, a range that is not finite, or not exactly as many codes as the shape needs.
    """
    elements = math.prod(shape)
    if not _HEAD.size < len(payload) <= max_payload_bytes(elements):
        raise CodecError(f"got {len(payload)} bytes, expected {_HEAD.size + 1} to {max_payload_bytes(elements)}")
    bits, low, step = _HEAD.unpack_from(payload)
    if bits not in BITS:
        raise CodecError(f"{bits} bits, expected {BITS[0]} to {BITS[-1]}")
    levels = (1 << bits) - 1
    # the highest value may lie a rounding above the largest float32; NaN fails every comparison
    if not (abs(low) <= _FLOAT32_MAX and step >= 0 and low + levels * step <= _FLOAT32_MAX * (1 + 1e-6)):
        raise CodecError(f"the range starts at {low} with steps of {step}, expected finite values")
    planes = _plane_bytes(elements) * bits
    try:
        shuffled = lz4.block.decompress(payload[_HEAD.size :], uncompressed_size=planes)
    except lz4.block.LZ4BlockError as error:
        raise CodecError(f"the LZ4 block is damaged or holds more than {planes} bytes") from error
    if len(shuffled) != planes:
        raise CodecError(f"the LZ4 block holds {len(shuffled)} bytes, expected {planes}")
    codes = _unshuffle(shuffled, bits)[:elements]
    values: npt.NDArray[np.float32]
    if max(abs(low), abs(low + levels * step)) > 1e37:
        values = np.minimum(low + codes * step, _FLOAT32_MAX).astype(np.float32)
    else:
        values = codes.astype(np.float32)
        values *= np.float32(step)
        values += np.float32(low)
    return values.reshape(shape)


def _plane_bytes(elements: int) -> int:
    return (elements + 7) // 8


def _shuffle(codes: npt.NDArray[np.uint8], bits: int) -> bytes:
    """Bit planes one after the other, element count padded with zeros to a multiple of 8 (Masui et al. 2015)."""
    padded = np.zeros(_plane_bytes(codes.size) * 8, np.uint8)
    padded[: codes.size] = codes
    own = np.unpackbits(padded).reshape(-1, 8)[:, 8 - bits :]  # (elements, bit)
    return np.packbits(np.ascontiguousarray(own.T)).tobytes()


def _unshuffle(shuffled: bytes, bits: int) -> npt.NDArray[np.uint8]:
    own = np.unpackbits(np.frombuffer(shuffled, np.uint8)).reshape(bits, -1)  # (bit, elements)
    whole = np.zeros((own.shape[1], 8), np.uint8)
    whole[:, 8 - bits :] = own.T
    return np.packbits(whole)
