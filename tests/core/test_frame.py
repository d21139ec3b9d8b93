"""Frames: cropping, normalising, and the frame itself as a payload."""

from __future__ import annotations

import numpy as np
import pytest
from spinn_stream.errors import CodecError
from spinn_stream.frame import crop, decode_jpeg, encode_jpeg, normalise
from spinn_stream.model.bundle import InputSpec


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


def test_a_jpeg_comes_back_close_and_only_in_the_agreed_size() -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    picture = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 90, np.uint8)], 2)
    payload = encode_jpeg(picture)
    assert np.abs(decode_jpeg(payload, 64).astype(int) - picture).max() <= 8
    with pytest.raises(CodecError, match="64x64, expected 128x128"):
        decode_jpeg(payload, 128)


def test_a_jpeg_that_announces_a_huge_picture_is_refused_by_its_header() -> None:
    payload = bytearray(encode_jpeg(np.zeros((64, 64, 3), np.uint8)))
    at = payload.index(b"\xff\xc0")  # start of frame: length 2, precision 1, height 2, width 2
    payload[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(CodecError, match="65535x65535"):
        decode_jpeg(bytes(payload), 64)


@pytest.mark.parametrize("payload", [b"", b"\xff\xd8", b"GIF89a", b"\xff\xd8\xff\xe0\x00\x00" * 5, b"\xff" * 100])
def test_what_is_no_jpeg_is_refused(payload: bytes) -> None:
    with pytest.raises(CodecError):
        decode_jpeg(payload, 64)


def test_a_cut_off_jpeg_is_refused_or_decodes_to_the_agreed_size() -> None:
    rng = np.random.default_rng(1)
    payload = encode_jpeg(rng.integers(0, 255, (64, 64, 3), np.uint8))
    for keep in range(0, len(payload), 97):
        try:
            assert decode_jpeg(payload[:keep], 64).shape == (64, 64, 3)
        except CodecError:
            pass
