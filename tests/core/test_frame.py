"""Frames: cropping and normalising."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from spinn_stream.bundle import InputSpec
from spinn_stream.frame import crop, normalise


def test_the_central_square_is_kept_and_colours_are_turned_to_rgb() -> None:
    frame = np.zeros((100, 200, 3), np.uint8)
    frame[:, 50:150] = (10, 20, 30)  # BGR in the middle square, black beside it
    picture = crop(frame, 64)
    assert picture.shape == (64, 64, 3)
    assert (picture == (30, 20, 10)).all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 500, 3), (64, 64, 3), (1080, 1920, 3)])
def test_any_size_of_frame_gives_the_input_size(shape: tuple[int, int, int]) -> None:
    assert crop(np.full(shape, 7, np.uint8), 64).shape == (64, 64, 3)


@pytest.mark.parametrize("shape", [(720, 1280, 3), (719, 1281, 3), (480, 640, 3), (1080, 1920, 3), (200, 130, 3)])
def test_a_resized_picture_is_near_the_mean_of_the_pixels_it_stands_for(shape: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    frame = cv2.GaussianBlur(noise, (0, 0), 3)
    side = min(shape[:2])
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    exact = cv2.resize(frame[top : top + side, left : left + side], (128, 128), interpolation=cv2.INTER_AREA)
    off = np.abs(crop(frame, 128)[..., ::-1].astype(int) - exact).mean()
    assert off < 0.3 * np.std(exact)


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
