"""A camera frame -> the network's input, and the frame itself as a payload (split 0).

What is sent at split 0 is the picture the network sees, cropped and resized, not the camera's.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .errors import CodecError

Pixels = npt.NDArray[np.uint8]
"""A picture: (H, W, 3) uint8; BGR as OpenCV's cameras give it, RGB once cropped."""


@dataclass(frozen=True)
class InputSpec:
    """How a frame becomes the network's input: (pixel - mean) * scale, RGB, (3, size, size)."""

    size: int
    mean: float
    scale: float


def crop(frame: Pixels, size: int) -> Pixels:
    """The largest central square of a BGR frame, resized to (size, size, 3), RGB.

    Raises:
        ValueError: not an (H, W, 3) uint8 picture.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
        raise ValueError(f"got a frame of shape {frame.shape} and type {frame.dtype}, expected (H, W, 3) uint8")
    height, width = frame.shape[:2]
    side = min(height, width)
    halves = max(0, (side // size).bit_length() - 1)
    side = side >> halves << halves  # it can be halved so often
    top, left = (height - side) // 2, (width - side) // 2
    square = frame[top : top + side, left : left + side]
    for _ in range(halves):  # OpenCV has a fast way for this one: docs/decisions/0017-resizing.md
        side //= 2
        square = np.asarray(cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    small = cv2.resize(square, (size, size), interpolation=cv2.INTER_LINEAR) if side != size else square
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), np.uint8)


def normalise(picture: Pixels, spec: InputSpec) -> npt.NDArray[np.float32]:
    """(size, size, 3) RGB -> the network's input, (1, 3, size, size) float32: (pixel - mean) * scale."""
    x = np.empty((1, 3, *picture.shape[:2]), np.float32)
    np.subtract(picture.transpose(2, 0, 1), np.float32(spec.mean), out=x[0], dtype=np.float32)
    x *= np.float32(spec.scale)
    return x


def encode_png(picture: Pixels) -> bytes:
    """(H, W, 3) RGB -> PNG bytes: lossless, see docs/decisions/0002-frame-payload.md.

    Raises:
        CodecError: OpenCV cannot write the picture.
    """
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise CodecError(f"OpenCV could not write a picture of shape {picture.shape} as PNG")
    return data.tobytes()


MAX_PICTURE_OVERHEAD_BYTES = 4096
"""Headers, tables and row filters of a PNG or JPEG beyond its pixels."""


def encode_jpeg(picture: Pixels, quality: int) -> bytes:
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


def decode_jpeg(payload: bytes, size: int) -> Pixels:
    """JPEG bytes -> (size, size, 3) RGB.

    What the frame header announces is checked before OpenCV allocates the picture.

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
    """(bits, height, width, channels) of the first frame header; None where there is none."""
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


_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_PNG_HEADER = struct.Struct(">IIBBBBB")  # width, height, bit depth, colour type, compression, filter, interlace
_PNG_CHUNKS = frozenset((b"IDAT", b"IEND", b"sRGB", b"gAMA", b"pHYs"))  # no text, no profiles, no animations


def decode_png(payload: bytes, size: int) -> Pixels:
    """PNG bytes -> (size, size, 3) RGB.

    What the header (W3C PNG, IHDR) and each chunk announce is checked before OpenCV allocates memory for it.

    Raises:
        CodecError: not a PNG of 8-bit RGB in the size that was agreed, or a damaged one.
    """
    if not payload.startswith(_PNG_START) or len(payload) < len(_PNG_START) + _PNG_HEADER.size:
        raise CodecError("the payload is not a PNG")
    width, height, depth, colour, *_ = _PNG_HEADER.unpack_from(payload, len(_PNG_START))
    if (width, height, depth, colour) != (size, size, 8, 2):
        raise CodecError(
            f"the PNG is {width}x{height} of depth {depth} and colour type {colour}, "
            f"expected {size}x{size}, depth 8, colour type 2"
        )
    _check_png_chunks(payload)
    with contextlib.suppress(cv2.error):
        picture = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR_RGB)
        if picture is not None and picture.shape == (size, size, 3):
            return np.asarray(picture, np.uint8)
    raise CodecError("the PNG does not decode")


def _check_png_chunks(payload: bytes) -> None:
    """Every chunk behind the header is of a kind that a picture needs and lies in the payload; the last one ends it."""
    at, kind = len(_PNG_START) + _PNG_HEADER.size + 4, b""
    while kind != b"IEND":
        length, kind = int.from_bytes(payload[at : at + 4], "big"), payload[at + 4 : at + 8]
        at += 12 + length
        if kind not in _PNG_CHUNKS or at > len(payload):
            raise CodecError(f"the PNG has a chunk {kind!r} of {length} bytes that ends at {at} of {len(payload)}")
