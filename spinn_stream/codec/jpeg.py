"""JPEG: the frame itself at split 0, in few bytes. docs/decisions/0002-frame-payload.md

It codes the picture that the network sees, cropped and resized, not the camera's.
"""

from __future__ import annotations

import contextlib
import struct

import cv2
import numpy as np

from spinn_stream.bundle import Bundle
from spinn_stream.errors import CodecError
from spinn_stream.frame import Pixels, normalise

from .base import CodingCost, Floats, StatelessCodec

NAME = "jpeg"

_OVERHEAD_BYTES = 4096  # headers and tables


class Jpeg(StatelessCodec):
    """Quality 1 to 100."""

    name = NAME
    qualities = range(1, 101)
    default_quality = 95
    table_qualities = (30, 50, 70, 85, 95, 100)
    of_frames = True
    cost = CodingCost(0.0, 1.75, 0.0, 2.3)  # quality 95 of 128 x 128, benchmarks/results/frame_payload.json

    def max_payload_bytes(self, elements: int) -> int:
        """Halving chroma both ways leaves half of the numbers; none takes more than two bytes."""
        return elements + _OVERHEAD_BYTES

    def guessed_bytes(self, elements: int, quality: int | None) -> float:
        return elements / 12  # two bits a pixel

    def encode(self, bundle: Bundle, quality: int | None, activation: Floats, picture: Pixels) -> bytes:
        assert quality is not None
        return encode(picture, quality)

    def decode(self, bundle: Bundle, split: int, payload: bytes) -> Floats:
        return normalise(decode(payload, bundle.input.size), bundle.input)


def encode(picture: Pixels, quality: int) -> bytes:
    """(H, W, 3) RGB -> JPEG bytes, chroma at half resolution.

    Raises:
        CodecError: OpenCV cannot write the picture.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise CodecError(f"OpenCV could not write a picture of shape {picture.shape} as JPEG")
    return data.tobytes()


_JPEG_START = b"\xff\xd8\xff"
_JPEG_FRAMES = frozenset((0xC0, 0xC1, 0xC2))  # baseline, extended, progressive; ITU-T T.81, table B.1
_JPEG_TABLES = frozenset((0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE))  # what may stand before: tables, APPn, comment


def decode(payload: bytes, size: int) -> Pixels:
    """JPEG bytes -> (size, size, 3) RGB.

    The frame header is checked before OpenCV allocates the picture.

    Raises:
        CodecError: not a JPEG of 8-bit colour in the size that was agreed, or a damaged one.
    """
    announced = _jpeg_frame(payload)
    if announced != (8, size, size, 3):
        raise CodecError(
            "the payload is not a JPEG" if announced is None
            else f"the JPEG is {announced[2]}x{announced[1]} with {announced[3]} channels of {announced[0]} bits, "
            f"expected {size}x{size} with 3 of 8"
        )  # fmt: skip
    with contextlib.suppress(cv2.error):
        picture = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        if picture is not None and picture.shape == (size, size, 3):
            return np.asarray(picture, np.uint8)
    raise CodecError("the JPEG does not decode")


def _jpeg_frame(payload: bytes) -> tuple[int, int, int, int] | None:
    """(bits, height, width, channels) of the first frame header; None: there is none."""
    if not payload.startswith(_JPEG_START):
        return None
    at = 2
    while at + 4 <= len(payload) and payload[at] == 0xFF:
        marker, length = payload[at + 1], int.from_bytes(payload[at + 2 : at + 4], "big")
        if marker in _JPEG_FRAMES and at + 10 <= len(payload):
            bits, height, width, channels = struct.unpack_from(">BHHB", payload, at + 4)
            return bits, height, width, channels
        if length < 2 or marker not in _JPEG_TABLES:
            return None  # others may have no length, so that a decoder would find the frame header elsewhere
        at += 2 + length
    return None
