"""Any picture is upright and in its colours."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from spinn_client.sources.pixels import bits_of, decode, to_bgr
from spinn_stream.frame import Pixels

from .clips import quarters

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)
AS_BGR = np.repeat(GREY[..., None], 3, axis=2)


@pytest.mark.parametrize(
    "picture",
    [
        GREY,
        GREY[..., None],
        np.dstack([GREY, np.zeros_like(GREY)]),
        AS_BGR,
        np.dstack([AS_BGR, np.zeros_like(GREY)]),
        GREY.astype(np.uint16) << 2,  # values of 10 bits would be up to 1023; 8 of them are kept
        AS_BGR.astype(">u2") << 2,
    ],
    ids=["grey", "one channel", "grey and alpha", "BGR", "BGR and alpha", "10-bit grey", "10-bit BGR, big end first"],
)
def test_pictures_of_every_depth_and_number_of_channels_become_bgr(picture: np.ndarray[Any, Any]) -> None:
    found = to_bgr(picture)
    assert found.dtype == np.uint8 and found.flags.c_contiguous and np.array_equal(found, AS_BGR)
    assert not np.shares_memory(found, picture)


@pytest.mark.parametrize(("brightest", "bits"), [(0, 10), (1023, 10), (1024, 12), (4096, 14), (16384, 16), (65535, 16)])
def test_a_depth_is_the_least_that_holds_the_brightest_value(brightest: int, bits: int) -> None:
    picture = np.array([[0, brightest]], np.uint16)
    assert bits_of(picture) == bits
    assert to_bgr(picture).max() == brightest >> (bits - 8)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((3, 4, 5), np.uint8),
        np.zeros(3, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((3, 4, 3), np.float32),
        np.zeros((3, 4, 3), np.int16),
        [[1, 2]],
        None,
    ],
)
def test_what_is_no_picture_is_refused_with_what_was_got_and_expected(picture: object) -> None:
    with pytest.raises(ValueError, match=r"got a picture of .*, expected "):
        to_bgr(picture)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    into = io.BytesIO()
    picture.save(into, kind, **options)
    return into.getvalue()


def near(found: Pixels, expected: Pixels) -> bool:
    """Alike in the middle of each quarter, as a lossy code keeps it."""
    height, width = expected.shape[:2]
    rows, columns = [height // 4, 3 * height // 4], [width // 4, 3 * width // 4]
    middles = np.ix_(rows, columns)
    return found.shape == expected.shape and bool(
        np.abs(found[middles].astype(int) - expected[middles].astype(int)).max() <= 8
    )


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(1, None), (3, cv2.ROTATE_180), (6, cv2.ROTATE_90_CLOCKWISE), (8, cv2.ROTATE_90_COUNTERCLOCKWISE)],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_is_turned_as_its_exif_says(kind: str, orientation: int, turned: int | None) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    data = encoded(Image.fromarray(quarters()[..., ::-1]), kind, exif=exif)
    assert near(decode(data), quarters() if turned is None else np.asarray(cv2.rotate(quarters(), turned), np.uint8))


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("RGBA", "PNG"), ("RGB", "GIF")])
def test_a_picture_keeps_its_colours_in_other_ways_to_write_them(mode: str, kind: str) -> None:
    assert near(decode(encoded(Image.fromarray(quarters()[..., ::-1]).convert(mode), kind)), quarters())


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_pictures_in_a_file_the_first_is_taken(kind: str) -> None:
    first = Image.fromarray(quarters()[..., ::-1])
    data = encoded(first, kind, save_all=True, append_images=[Image.new("RGB", first.size, (9, 9, 9))])
    assert near(decode(data), quarters())


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_a_picture_of_16_bits_is_as_light_as_one_of_8(extension: str) -> None:
    done, data = cv2.imencode(extension, quarters().astype(np.uint16) * 257)  # 257 = 65535 / 255
    assert done and np.array_equal(decode(data.tobytes()), quarters())


def test_a_picture_of_numbers_with_a_point_is_refused() -> None:
    data = cv2.imencode(".tif", np.zeros((4, 4, 3), np.float32))[1].tobytes()
    with pytest.raises(ValueError, match="type float32, expected"):
        decode(data)
