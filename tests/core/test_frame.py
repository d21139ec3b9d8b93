"""Frames: cropping, normalising, and the frame itself as a payload."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from spinn_stream.codec import max_payload_bytes
from spinn_stream.errors import CodecError
from spinn_stream.frame import crop, decode_png, encode_png, normalise
from spinn_stream.model.bundle import Bundle, InputSpec


def test_the_central_square_is_kept_and_colours_are_turned_to_rgb() -> None:
    frame = np.zeros((100, 200, 3), np.uint8)
    frame[:, 50:150] = (10, 20, 30)  # BGR in the middle square, black beside it
    picture = crop(frame, 64)
    assert picture.shape == (64, 64, 3)
    assert (picture == (30, 20, 10)).all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 500, 3), (64, 64, 3), (1080, 1920, 3)])
def test_any_size_of_frame_gives_the_input_size(shape: tuple[int, int, int]) -> None:
    assert crop(np.full(shape, 7, np.uint8), 64).shape == (64, 64, 3)


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        crop(bad, 64)


def test_normalising_is_pixel_minus_mean_times_scale_in_channel_order() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0, 1] = (255, 127, 0)
    x = normalise(picture, InputSpec(size=2, mean=127.0, scale=1 / 128))
    assert x.shape == (1, 3, 2, 2) and x.dtype == np.float32
    assert x[0, :, 0, 1].tolist() == [1.0, 0.0, -127 / 128]


def picture_of_noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)


def test_a_png_comes_back_exactly_and_only_in_the_agreed_size() -> None:
    picture = picture_of_noise()
    payload = encode_png(picture)
    assert np.array_equal(decode_png(payload, 64), picture)
    with pytest.raises(CodecError, match="expected 128x128"):
        decode_png(payload, 128)


def test_a_png_of_noise_stays_within_the_bound_of_split_0(bundle: Bundle) -> None:
    size = bundle.input.size
    noise = np.random.default_rng(2).integers(0, 256, (size, size, 3), np.uint8)  # incompressible
    assert len(encode_png(noise)) <= max_payload_bytes(bundle, 0)


@pytest.mark.parametrize(("at", "said"), [(16, "4278190144x64"), (24, "depth 255"), (25, "colour type 255")])
def test_a_png_that_announces_something_else_is_refused_by_its_header(at: int, said: str) -> None:
    payload = bytearray(encode_png(picture_of_noise()))
    payload[at] = 255  # first byte of the width; bit depth; colour type
    with pytest.raises(CodecError, match=said):
        decode_png(bytes(payload), 64)


@pytest.mark.parametrize("payload", [b"", b"\x89PNG", b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(100), b"\xff" * 100])
def test_what_is_no_png_is_refused(payload: bytes) -> None:
    with pytest.raises(CodecError, match="not a PNG"):
        decode_png(payload, 64)


def test_a_damaged_png_is_refused_or_decodes_to_the_agreed_size() -> None:
    payload = encode_png(picture_of_noise())
    for at in range(0, len(payload), 97):
        for damaged in (payload[:at], payload[:at] + b"\x00\x01\x02" + payload[at + 3 :]):
            with contextlib.suppress(CodecError):
                assert decode_png(damaged, 64).shape == (64, 64, 3)
