"""PNG: the frame itself at split 0, without loss. docs/decisions/0002-frame-payload.md"""

from __future__ import annotations

import contextlib
import struct

import cv2
import numpy as np

from spinn_stream.bundle import Bundle
from spinn_stream.errors import CodecError
from spinn_stream.frame import Pixels, normalise

from .base import CodingCost, Floats, StatelessCodec

NAME = "png"

_OVERHEAD_BYTES = 4096  # headers, row filters, and what deflate adds to noise for each of its blocks


class Png(StatelessCodec):
    """It has no quality: nothing is lost."""

    name = NAME
    qualities = None
    default_quality = None
    table_qualities = (None,)
    of_frames = True
    lossless = True
    cost = CodingCost(0.0, 10.9, 0.0, 6.6)  # 128 x 128, benchmarks/results/frame_payload.json

    def max_payload_bytes(self, elements: int) -> int:
        return elements + elements // 255 + _OVERHEAD_BYTES

    def encode(self, bundle: Bundle, quality: int | None, activation: Floats, picture: Pixels) -> bytes:
        return encode(picture)

    def decode(self, bundle: Bundle, split: int, payload: bytes) -> Floats:
        return normalise(decode(payload, bundle.input.size), bundle.input)


def encode(picture: Pixels) -> bytes:
    """(H, W, 3) RGB -> PNG bytes: lossless, see docs/decisions/0002-frame-payload.md.

    Raises:
        CodecError: OpenCV cannot write the picture.
    """
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise CodecError(f"OpenCV could not write a picture of shape {picture.shape} as PNG")
    return data.tobytes()


_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_HEADER = struct.Struct(">IIBBBBB")  # width, height, bit depth, colour type, compression, filter, interlace
_CHUNKS = frozenset((b"IDAT", b"IEND", b"sRGB", b"gAMA", b"pHYs"))  # no text, no profiles, no animations


def decode(payload: bytes, size: int) -> Pixels:
    """PNG bytes -> (size, size, 3) RGB.

    The header (W3C PNG, IHDR) and each chunk are checked before OpenCV allocates memory.

    Raises:
        CodecError: not a PNG of 8-bit RGB in the size that was agreed, or a damaged one.
    """
    if not payload.startswith(_START) or len(payload) < len(_START) + _HEADER.size:
        raise CodecError("the payload is not a PNG")
    width, height, depth, colour, *_ = _HEADER.unpack_from(payload, len(_START))
    if (width, height, depth, colour) != (size, size, 8, 2):
        raise CodecError(
            f"the PNG is {width}x{height} of depth {depth} and colour type {colour}, "
            f"expected {size}x{size}, depth 8, colour type 2"
        )
    _check_chunks(payload)
    with contextlib.suppress(cv2.error):
        picture = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR_RGB)
        if picture is not None and picture.shape == (size, size, 3):
            return np.asarray(picture, np.uint8)
    raise CodecError("the PNG does not decode")


def _check_chunks(payload: bytes) -> None:
    """Check that every chunk behind the header is of a needed kind and inside the payload, and that the last one ends
    it."""
    at, kind = len(_START) + _HEADER.size + 4, b""
    while kind != b"IEND":
        length, kind = int.from_bytes(payload[at : at + 4], "big"), payload[at + 4 : at + 8]
        at += 12 + length
        if kind not in _CHUNKS or at > len(payload):
            raise CodecError(f"the PNG has a chunk {kind!r} of {length} bytes that ends at {at} of {len(payload)}")
