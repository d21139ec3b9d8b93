"""Any picture, as an array or as a file's bytes -> upright (H, W, 3) uint8 BGR."""

from __future__ import annotations

import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from spinn_stream.frame import Pixels

DEPTHS = (10, 12, 14, 16)
"""Numbers of bits that cameras use in 16-bit pictures."""

_PNG = b"\x89PNG\r\n\x1a\n"


def to_bgr(picture: object, bits: int | None = None) -> Pixels:
    """An array -> (H, W, 3) uint8 BGR, in memory of its own.

    picture: (H, W) or (H, W, 1) grey, (H, W, 2) grey and alpha, (H, W, 3) BGR, (H, W, 4) BGR and alpha; uint8 or
    uint16. Alpha is left out. bits: of a uint16 picture; None: as `bits_of` finds.

    Raises:
        ValueError: says what was got and what was expected.
    """
    if not isinstance(picture, np.ndarray):
        raise ValueError(f"got a picture of type {type(picture).__name__}, expected a numpy array")
    array: npt.NDArray[Any] = picture
    right_type = array.dtype.kind == "u" and array.dtype.itemsize <= 2
    right_shape = array.ndim == 2 or (array.ndim == 3 and 1 <= array.shape[2] <= 4)
    if not right_type or not right_shape or 0 in array.shape:
        raise ValueError(
            f"got a picture of shape {array.shape} and type {array.dtype}, "
            "expected (H, W) or (H, W, 1 to 4), uint8 or uint16"
        )
    if array.dtype.itemsize == 2:
        array = np.minimum(array >> ((bits or bits_of(array)) - 8), 255).astype(np.uint8)
    if array.ndim == 3 and array.shape[2] >= 3:
        return np.array(array[..., :3], np.uint8, order="C")
    grey = array if array.ndim == 2 else array[..., 0]
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(grey, np.uint8), cv2.COLOR_GRAY2BGR), np.uint8)


def bits_of(picture: npt.NDArray[np.uint16]) -> int:
    """The fewest bits of `DEPTHS` that hold a picture, since a camera does not say its number of bits."""
    brightest = int(picture.max())
    return next(bits for bits in DEPTHS if brightest < 1 << bits)


def decode(data: bytes) -> Pixels:
    """The bytes of a picture file -> (H, W, 3) uint8 BGR, turned as its EXIF says; the first of several pictures.

    Raises:
        ValueError: OpenCV cannot read it, or it is not whole.
    """
    if not data:
        raise ValueError("is empty")
    if data.startswith(_PNG) and not _is_whole_png(data):
        raise ValueError("is not a picture that OpenCV can read: not whole, or damaged")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        picture = None
    if picture is None:
        raise ValueError("is not a picture that OpenCV can read")
    return to_bgr(picture)


def _is_whole_png(data: bytes) -> bool:
    """Whether every chunk is there and right. If not, libpng would write to standard error, and cannot be silenced."""
    at, kind = len(_PNG), b""
    while kind != b"IEND":
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return False
        kind = data[at + 4 : at + 8]
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return False
        at = end
    return True
