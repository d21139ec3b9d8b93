"""JPEG and PNG: the frame itself as a payload."""

from __future__ import annotations

import contextlib
import resource
import struct
import zlib
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest

from spinn_stream.bundle import Bundle
from spinn_stream.codec import jpeg, max_payload_bytes, png
from spinn_stream.errors import CodecError
from spinn_stream.frame import crop


def picture_of_noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)


def test_a_png_comes_back_exactly_and_only_in_the_agreed_size() -> None:
    picture = picture_of_noise()
    payload = png.encode(picture)
    assert np.array_equal(png.decode(payload, 64), picture)
    with pytest.raises(CodecError, match="expected 128x128"):
        png.decode(payload, 128)


def test_a_png_of_noise_stays_within_the_bound_of_split_0(bundle: Bundle) -> None:
    size = bundle.input.size
    noise = np.random.default_rng(2).integers(0, 256, (size, size, 3), np.uint8)  # incompressible
    assert len(png.encode(noise)) <= max_payload_bytes(bundle, 0)


@pytest.mark.parametrize(("at", "said"), [(16, "4278190144x64"), (24, "depth 255"), (25, "colour type 255")])
def test_a_png_that_announces_something_else_is_refused_by_its_header(at: int, said: str) -> None:
    payload = bytearray(png.encode(picture_of_noise()))
    payload[at] = 255  # first byte of the width; bit depth; colour type
    with pytest.raises(CodecError, match=said):
        png.decode(bytes(payload), 64)


@pytest.mark.parametrize("payload", [b"", b"\x89PNG", b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(100), b"\xff" * 100])
def test_what_is_no_png_is_refused(payload: bytes) -> None:
    with pytest.raises(CodecError, match="not a PNG"):
        png.decode(payload, 64)


def test_a_damaged_png_is_refused_or_decodes_to_the_agreed_size() -> None:
    payload = png.encode(picture_of_noise())
    for at in range(0, len(payload), 97):
        for damaged in (payload[:at], payload[:at] + b"\x00\x01\x02" + payload[at + 3 :]):
            with contextlib.suppress(CodecError):
                assert png.decode(damaged, 64).shape == (64, 64, 3)


def peak_mb() -> float:
    """Most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def refused_without_memory(decode: Callable[[bytes, int], object], payload: bytes, said: str) -> None:
    before = peak_mb()
    with pytest.raises(CodecError, match=said):
        decode(payload, 64)
    assert peak_mb() - before < 16, "memory was taken for what the payload only says"


def chunk(kind: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    whole = kind + body
    return struct.pack(">I", len(body) if length is None else length) + whole + struct.pack(">I", zlib.crc32(whole))


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"IDAT", length=2**31 - 1),  # OpenCV 5 allocates it before it looks whether it is there
        chunk(b"IDAT", length=2**32 - 1),
        chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)),
        chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)),
        chunk(b"fcTL", bytes(26)),
        chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(30_000_000))),
        chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(30_000_000))),
        b"",
    ],
    ids=["2 GB", "4 GB", "another header", "an animation", "a frame", "a text", "a profile", "no end"],
)
def test_a_png_with_chunks_that_no_picture_needs_is_refused_before_memory_is_taken(extra: bytes) -> None:
    payload = png.encode(picture_of_noise())
    behind_header = 8 + 25
    refused_without_memory(png.decode, payload[:behind_header] + extra + payload[behind_header:-12], "has a chunk b'")


def segments(whole: bytes) -> Iterator[tuple[int, int, int]]:
    """Where a segment begins, its marker and its length, up to the first scan."""
    at, marker = 2, 0
    while marker != 0xDA:
        marker, length = whole[at + 1], int.from_bytes(whole[at + 2 : at + 4], "big")
        yield at, marker, length
        at += 2 + length


def with_frame_header(whole: bytes, **announced: int) -> bytes:
    """The same JPEG, whose frame header (ITU-T T.81, B.2.2) announces something else."""
    data = bytearray(whole)
    at = next(at for at, marker, _ in segments(whole) if marker == 0xC0)
    if "marker" in announced:
        data[at + 1] = announced["marker"]
    for name, form, offset in (("bits", ">B", 4), ("height", ">H", 5), ("width", ">H", 7), ("channels", ">B", 9)):
        if name in announced:
            struct.pack_into(form, data, at + offset, announced[name])
    return bytes(data)


@pytest.mark.parametrize(("quality", "most"), [(30, 12), (85, 5), (100, 2)])
def test_a_jpeg_comes_back_nearly_and_only_in_the_agreed_size(
    photographs: list[np.ndarray], quality: int, most: float
) -> None:
    picture = crop(photographs[0], 64)
    payload = jpeg.encode(picture, quality)
    found = jpeg.decode(payload, 64)
    assert found.shape == (64, 64, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - picture).mean() <= most
    with pytest.raises(CodecError, match="the JPEG is 64x64 with 3 channels of 8 bits, expected 128x128 with 3 of 8"):
        jpeg.decode(payload, 128)


def test_a_jpeg_keeps_red_red() -> None:
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 200
    assert (np.abs(jpeg.decode(jpeg.encode(red, 85), 64).astype(int) - red) <= 4).all()


@pytest.mark.parametrize("quality", [1, 50, 100])
def test_a_jpeg_of_noise_stays_within_the_bound_of_split_0(bundle: Bundle, quality: int) -> None:
    size = bundle.input.size
    noise = np.random.default_rng(2).integers(0, 256, (size, size, 3), np.uint8)
    assert len(jpeg.encode(noise, quality)) <= max_payload_bytes(bundle, 0)


@pytest.mark.parametrize(
    ("announced", "said"),
    [
        ({"height": 65_535, "width": 65_535}, "the JPEG is 65535x65535"),
        ({"height": 20_000, "width": 20_000}, "the JPEG is 20000x20000"),
        ({"height": 0}, "64x0"),
        ({"channels": 1}, "with 1 channels"),
        ({"channels": 4}, "with 4 channels"),
        ({"bits": 12}, "of 12 bits"),
        ({"marker": 0xC3}, "not a JPEG"),  # lossless
        ({"marker": 0xC9}, "not a JPEG"),  # arithmetic
    ],
)
def test_a_jpeg_that_announces_something_else_is_refused_by_its_header(announced: dict[str, int], said: str) -> None:
    refused_without_memory(jpeg.decode, with_frame_header(jpeg.encode(picture_of_noise(), 85), **announced), said)


def test_a_grey_jpeg_is_refused() -> None:
    payload = cv2.imencode(".jpg", picture_of_noise()[..., 0])[1].tobytes()
    with pytest.raises(CodecError, match="64x64 with 1 channels of 8 bits"):
        jpeg.decode(payload, 64)


@pytest.mark.parametrize("hidden_by", [b"\xff\x01", b"\xff\xd0", b"\xff\xd8", b"\xff\x00", b"\xff\xff"])
def test_a_frame_header_that_only_a_decoder_would_find_is_not_believed(hidden_by: bytes) -> None:
    """A marker without a length, read as if it had one, leads past the real header to a harmless one in a comment."""
    whole = jpeg.encode(picture_of_noise(), 85)
    at, _, length = next(s for s in segments(whole) if s[1] == 0xC0)
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 2 + length) + whole[at : at + 2 + length]
    large = with_frame_header(whole, height=20_000, width=20_000)
    payload = whole[:2] + hidden_by + struct.pack(">H", 2 + 4) + comment + large[2:]
    refused_without_memory(jpeg.decode, payload, "not a JPEG")


@pytest.mark.parametrize("payload", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"GIF89a", b"\xff" * 100, bytes(100)])
def test_what_is_no_jpeg_is_refused(payload: bytes) -> None:
    with pytest.raises(CodecError, match="not a JPEG"):
        jpeg.decode(payload, 64)


def test_a_png_is_no_jpeg_and_a_jpeg_no_png() -> None:
    with pytest.raises(CodecError, match="not a JPEG"):
        jpeg.decode(png.encode(picture_of_noise()), 64)
    with pytest.raises(CodecError, match="not a PNG"):
        png.decode(jpeg.encode(picture_of_noise(), 85), 64)


def test_a_damaged_jpeg_is_refused_or_decodes_to_the_agreed_size() -> None:
    payload = jpeg.encode(picture_of_noise(), 85)
    for at in range(0, len(payload), 7):
        for damaged in (payload[:at], payload[:at] + b"\x00\x01\x02" + payload[at + 3 :]):
            with contextlib.suppress(CodecError):
                assert jpeg.decode(damaged, 64).shape == (64, 64, 3)
