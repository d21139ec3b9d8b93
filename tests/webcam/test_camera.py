"""The camera: one source at a time, at its own pace, for whoever asked."""

from __future__ import annotations

import queue
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from spinn_client.apps.webcam.camera import LARGEST_JPEG, VISITOR, Camera, Shot, jpeg_size

from ..rtsp import encoded, rtsp_camera

WAIT_S = 20.0


def jpeg(height: int, width: int) -> bytes:
    _, encoded = cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))
    return encoded.tobytes()


@pytest.fixture
def shots() -> queue.Queue[Shot]:
    return queue.Queue()


def test_a_jpeg_says_its_size_before_it_is_decoded() -> None:
    assert jpeg_size(jpeg(24, 40)) == (24, 40)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"GIF89a", b"\xff\xd8\xff\xe0\x00", bytes(LARGEST_JPEG + 1)])
def test_what_is_no_jpeg_of_a_sensible_size_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="JPEG"):
        jpeg_size(data)


def test_a_jpeg_that_claims_a_huge_picture_is_refused_before_memory_is_taken(shots: queue.Queue[Shot]) -> None:
    camera = Camera(shots.put, print)
    camera.use(VISITOR)
    data = jpeg(24, 40)
    at = data.index(b"\xff\xc0") + 5
    huge = data[:at] + (65_000).to_bytes(2, "big") * 2 + data[at + 4 :]
    with pytest.raises(ValueError, match="65000x65000"):
        camera.push_jpeg(huge, 0.0)


def test_a_visitors_picture_keeps_its_jpeg_and_its_time(shots: queue.Queue[Shot]) -> None:
    camera = Camera(shots.put, print)
    camera.use(VISITOR)
    captured = time.monotonic() - 0.05
    camera.push_jpeg(jpeg(24, 40), captured)
    shot = shots.get_nowait()
    assert (shot.pixels.shape, shot.captured, shot.jpeg) == ((24, 40, 3), captured, jpeg(24, 40))


def test_a_time_that_cannot_be_is_replaced_by_now(shots: queue.Queue[Shot]) -> None:
    camera = Camera(shots.put, print)
    camera.use(VISITOR)
    before = time.monotonic()
    for wrong in (float("nan"), 0.0, before + 1e6):
        camera.push_jpeg(jpeg(24, 40), wrong)
        assert before <= shots.get_nowait().captured <= time.monotonic()


def test_a_visitors_pictures_are_left_alone_while_another_source_is_used(shots: queue.Queue[Shot]) -> None:
    camera = Camera(shots.put, print)
    camera.push_jpeg(jpeg(24, 40), 0.0)
    assert shots.empty()


def test_a_source_begins_again_at_its_end(shots: queue.Queue[Shot], tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    clip = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 50.0, (64, 48))
    for grey in (0, 120, 240):
        clip.write(np.full((48, 64, 3), grey, np.uint8))
    clip.release()
    camera = Camera(shots.put, print)
    camera.use(str(path))
    greys = [round(float(shots.get(timeout=10).pixels.mean()), -1) for _ in range(6)]
    camera.close()
    assert greys == [0, 120, 240] * 2


def test_a_source_that_cannot_be_opened_is_said_once_and_tried_again(shots: queue.Queue[Shot], tmp_path: Path) -> None:
    path, said = tmp_path / "later.png", queue.Queue[str]()
    camera = Camera(shots.put, said.put)
    camera.use(str(path))
    assert "no file" in said.get(timeout=10)
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    assert shots.get(timeout=10).pixels.shape == (8, 8, 3)
    camera.close()
    assert said.empty()


def test_an_rtsp_camera_that_is_lost_is_said_and_played_on_once_it_is_back(
    shots: queue.Queue[Shot], tmp_path: Path
) -> None:
    path, said = tmp_path / "clip.avi", queue.Queue[str]()
    clip = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (320, 240))
    for grey in (40, 200):
        clip.write(np.full((240, 320, 3), grey, np.uint8))
    clip.release()
    pictures = encoded(path)
    camera = Camera(shots.put, said.put)
    with rtsp_camera(pictures) as there:
        camera.use(there.address)
        seen = {float(shots.get(timeout=WAIT_S).pixels.mean()) > 120 for _ in range(10)}
        assert seen == {True, False}
    assert said.get(timeout=WAIT_S) == f"{there.address} gives no more pictures; trying again"
    while not shots.empty():
        shots.get_nowait()
    with rtsp_camera(pictures, there.port):
        assert shots.get(timeout=WAIT_S).pixels.shape == (240, 320, 3)
    camera.close()
