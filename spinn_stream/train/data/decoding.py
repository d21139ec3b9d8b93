"""Encoded images -> square pictures of one size in one array, with limits on what a file may ask for."""

from __future__ import annotations

import contextlib
import os
import re
import struct
from pathlib import Path

import cv2
import numpy as np

from spinn_stream.errors import DataError
from spinn_stream.frame import Pixels, crop

MAX_PIXELS = 100_000_000  # of one image: the largest camera sensors; 300 MB once decoded


def decode_square(image: bytes | Path | None, side: int) -> Pixels | str:
    """A square RGB picture, at its own size if that fits, or else side x side; or the reason why it is skipped."""
    if isinstance(image, Path):
        try:
            image = image.read_bytes()
        except OSError as error:
            return f"cannot be read: {error.strerror}"
    if not image:
        return "holds no image bytes"
    width, height = announced_size(image)
    picture = None
    if width * height <= MAX_PIXELS:
        with contextlib.suppress(cv2.error):
            picture = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            return f"does not decode as an image (got {len(image)} bytes)"
        height, width = picture.shape[:2]
    if picture is None or width * height > MAX_PIXELS:
        return f"is {width}x{height}, more than {MAX_PIXELS // 1_000_000} megapixels"
    return crop(np.asarray(picture, np.uint8), width if width == height <= side else side)


_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # ITU-T T.81, table B.1: SOF0 to SOF15


def announced_size(data: bytes) -> tuple[int, int]:
    """(width, height) from the header, before memory is allocated for the picture; (0, 0) where none is found.

    PNG (W3C, IHDR), JPEG (ITU-T T.81, B.2.2), WebP (RFC 9649), BMP. For other formats OpenCV's own limit holds, 2^30.
    """
    size: tuple[int, int] = (0, 0)
    with contextlib.suppress(struct.error):
        if data.startswith(b"\x89PNG"):
            size = struct.unpack_from(">II", data, 16)
        elif data.startswith(b"BM"):
            size = struct.unpack_from("<ii", data, 18)
        elif data.startswith(b"RIFF") and data[12:16] == b"VP8X":
            size = int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        elif data.startswith(b"RIFF") and data[12:16] == b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif data.startswith(b"RIFF") and data[12:16] == b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            size = width & 0x3FFF, height & 0x3FFF
        elif data.startswith(b"\xff\xd8"):
            at = 2
            while data[at : at + 1] == b"\xff":
                marker, length, height, width = struct.unpack_from(">xBHxHH", data, at)
                if marker in _JPEG_FRAMES:
                    size = width, height
                    break
                at += 1 if marker == 0xFF else 2 + length  # bytes 0xFF may fill the space before a marker
    return abs(size[0]), abs(size[1])


class PictureArray:
    """Pictures of one size in one array. If a second size turns up, the size of all becomes `side`."""

    def __init__(self, total: int, side: int) -> None:
        self._total, self._side = total, side
        self._pixels: Pixels | None = None  # (total, size, size, 3), the first `count` of them taken
        self.count = 0

    def add(self, picture: Pixels) -> None:
        if self._pixels is None:
            self._pixels = self._allocate(len(picture))
        elif len(picture) != self._pixels.shape[1]:
            picture = _resized(picture, self._side)
            if self._pixels.shape[1] != self._side:
                larger = self._allocate(self._side)
                for row in range(self.count):
                    larger[row] = _resized(self._pixels[row], self._side)
                self._pixels = larger
        self._pixels[self.count] = picture
        self.count += 1

    def taken(self) -> Pixels:
        """(count, size, size, 3), a view; of none at all, size is `side`."""
        if self._pixels is None:
            self._pixels = self._allocate(self._side)
        return self._pixels[: self.count]

    def _allocate(self, size: int) -> Pixels:
        needed, free = self._total * size * size * 3, free_memory_bytes()
        if needed > free:
            raise DataError(
                f"{self._total} images of {size}x{size} take {needed / 1e9:.2f} GB of memory, {free / 1e9:.2f} GB "
                f"are free; pass fewer files or smaller images"
            )
        return np.empty((self._total, size, size, 3), np.uint8)


def _resized(picture: Pixels, side: int) -> Pixels:
    return crop(np.ascontiguousarray(picture[..., ::-1]), side)  # it takes BGR


def free_memory_bytes() -> int:
    """Memory that is available without swapping. Linux says it, caches included; elsewhere it is all memory."""
    with contextlib.suppress(OSError, AttributeError):
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text("ascii"), re.MULTILINE)
        if found is not None:
            return int(found[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
