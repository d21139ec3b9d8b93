"""Clips as data: frames as a device prepares them, and files that are none."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from spinn_stream.errors import ConfigError, DataError
from spinn_stream.frame import crop
from spinn_stream.train.data import clips
from spinn_stream.train.data.clips import is_clip, load_clip

FRAMES = 12


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Grey frames that become lighter, 40 x 24 pixels, 15 a second."""
    video = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 15.0, (40, 24))
    for n in range(FRAMES):
        video.write(np.full((24, 40, 3), 20 * n, np.uint8))
    video.release()
    return tmp_path / "clip.avi"


def test_frames_come_in_their_order_and_size_with_the_file_s_rate(clip: Path) -> None:
    told: list[tuple[int, int]] = []
    found = load_clip(clip, side=16, progress=lambda done, total: told.append((done, total)))
    assert found.pixels.shape == (FRAMES, 16, 16, 3) and (found.fps, found.damaged) == (15.0, 0)
    assert np.diff(found.pixels.mean((1, 2, 3))).min() > 10
    assert [done for done, _ in told] == list(range(1, FRAMES + 1)) and told[-1][1] == FRAMES


def test_a_turned_recording_is_upright(tmp_path: Path) -> None:
    """As a telephone records: the picture lies on its side, and the file says by how much to turn it."""
    path, lying = tmp_path / "turned.mp4", np.zeros((64, 64, 3), np.uint8)
    lying[:32] = 200
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=Fraction(10))
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(lying, format="bgr24")))
        file.mux(stream.encode())
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # ISO/IEC 14496-12, 8.3.2: a track's matrix, here a quarter turn
    one, minus = (1 << 16).to_bytes(4, "big"), (-(1 << 16)).to_bytes(4, "big", signed=True)
    none, last = bytes(4), (1 << 30).to_bytes(4, "big")
    data[matrix : matrix + 36] = none + one + none + minus + none + none + none + none + last
    path.write_bytes(data)
    picture = load_clip(path, side=64).pixels[0].astype(int)
    sides = picture[:, 40:].mean() - picture[:, :24].mean()
    assert abs(sides) > 100 and abs(picture[:24].mean() - picture[40:].mean()) < 30


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Noise, so that the file is large."""
    video, rng = tmp_path / "large.avi", np.random.default_rng(0)
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 15.0, (160, 120))
    for _ in range(FRAMES):
        writer.write(rng.integers(0, 256, (120, 160, 3), np.uint8))
    writer.release()
    return video


def test_a_file_that_ends_in_the_middle_gives_what_is_there(large: Path) -> None:
    large.write_bytes(large.read_bytes()[: large.stat().st_size * 6 // 10])
    assert 1 <= len(load_clip(large, side=16).pixels) < FRAMES


def test_damaged_parts_are_counted_and_a_file_of_nothing_else_is_refused(large: Path) -> None:
    data = large.read_bytes()
    starts = [at for at in range(len(data)) if data.startswith(b"\xff\xd8", at)]
    for damaged in (3, FRAMES):
        broken = bytearray(data)
        for at in starts[:damaged]:
            broken[at : at + 600] = bytes(600)
        large.write_bytes(broken)
        if damaged < FRAMES:
            found = load_clip(large, side=16)
            assert found.damaged == damaged and len(found.pixels) == FRAMES - damaged
        else:
            with pytest.raises(DataError, match="no picture of it can be decoded"):
                load_clip(large, side=16)


def test_the_crop_is_that_of_a_device(clip: Path) -> None:
    with av.open(str(clip)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="bgr24")
    assert (load_clip(clip, side=16).pixels[0] == crop(np.asarray(frame, np.uint8), 16)).all()


def test_a_parquet_file_a_folder_and_nothing_are_no_clips(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"PAR1 and more")
    assert is_clip(clip) and not any(map(is_clip, (tmp_path / "data", tmp_path, tmp_path / "none")))


def test_what_cannot_be_read_is_said(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_text("no video")
    with pytest.raises(DataError, match="neither a parquet file nor a video"):
        load_clip(tmp_path / "text", side=16)
    with av.open(str(tmp_path / "sound.wav"), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        file.mux(stream.encode(sound))
    with pytest.raises(DataError, match="has no pictures"):
        load_clip(tmp_path / "sound.wav", side=16)
    with monkeypatch.context() as small:
        small.setattr(clips, "free_memory_bytes", lambda: 2 * 3 * 16 * 16 * 3)
        with pytest.raises(DataError, match="more than 3 frames, which is all that memory holds"):
            load_clip(clip, side=16)
    with monkeypatch.context() as few:
        few.setattr(clips, "MAX_PIXELS", 100)
        with pytest.raises(DataError, match="frames of 40x24, expected up to 100 pixels"):
            load_clip(clip, side=16)


def test_without_pyav_it_is_said_what_to_install(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"pip install 'spinn-stream\[train\]'"):
        load_clip(clip, side=16)


def test_a_file_that_may_not_be_read_is_said(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, *args: object, **options: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ConfigError, match="Permission denied"):
        is_clip(clip)
