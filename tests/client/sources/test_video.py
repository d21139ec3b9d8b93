"""Clips, and clips at an address."""

from __future__ import annotations

import functools
import http.server
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from spinn_client.sources.base import Picture, Unusable, pixels_of
from spinn_client.sources.registry import open_source
from spinn_client.sources.video import UNKNOWN_FPS, Clip
from spinn_stream.errors import SourceError

from .cameras import web_camera
from .clips import jpeg, quarters, turn_clip, write_clip, write_noisy

COUNT = 20
RATE = 25.0


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("video") / "greys.avi", COUNT, fps=RATE)


def played(path: Path | str) -> tuple[list[Picture | Unusable], str]:
    """What a clip gives, and what it says at its end."""
    source = open_source(str(path))
    found, pictures = [], iter(source.pictures())
    while True:
        try:
            found.append(next(pictures))
        except StopIteration as end:
            return found, end.value


def test_a_file_gives_its_frames_in_order_at_its_rate_and_again(video: Path) -> None:
    source = open_source(str(video))
    assert source.fps == RATE and not source.live
    for _ in range(2):
        greys = [pixels.mean() for pixels in pixels_of(source)]
        assert greys == pytest.approx([10 * n for n in range(COUNT)], abs=3)
    source.close()
    assert played(video)[1] == ""


@pytest.mark.parametrize(
    "name",
    ["12:30:05.mp4", "concat:x.mp4", "f%d.mp4", "f%03d.mp4", "-i.mp4", "cam[/x].mp4", "cam [front].mp4", "a\nb.mp4",
     "cam*?.mp4", "é 'x' \"y\" $z.mp4", "a,b|c;d.mp4", "7", "\udcff\udcfe.mp4", "x.txt"],
)  # fmt: skip
def test_a_clip_of_any_name_is_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    write_clip(tmp_path / "made.mp4", 3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for text in (name, str(tmp_path / name)):
        assert len(played(text)[0]) == 3


@pytest.mark.parametrize("fps", [0.01, 0.5, 24000 / 1001, 240.0])
def test_a_clip_is_played_at_its_own_rate_however_slow(tmp_path: Path, fps: float) -> None:
    assert open_source(str(write_clip(tmp_path / "x.avi", 3, fps=fps))).fps == pytest.approx(fps, rel=1e-3)


def test_a_rate_that_nobody_could_play_counts_as_unknown_which_is_said(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.avi", 3)
    data = bytearray(path.read_bytes())
    at = data.index(b"strh") + 8 + 20  # of the stream: scale and rate, in AVI's header
    data[at : at + 8] = (1).to_bytes(4, "little") + (90_000).to_bytes(4, "little")
    path.write_bytes(data)
    assert open_source(str(path)).fps == UNKNOWN_FPS
    assert "does not say its rate: played at 30 frames/s" in played(path)[1]


def test_half_a_clip_says_how_much_of_it_there_was(tmp_path: Path) -> None:
    whole = write_noisy(tmp_path / "whole.mp4", 120, codec="mpeg4", options={"movflags": "faststart"})
    (tmp_path / "half.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert played(whole)[1] == "" and len(played(whole)[0]) == 120
    found, said = played(tmp_path / "half.mp4")
    shown = sum(isinstance(p, Picture) for p in found)
    assert 30 < shown < 90 and f"{shown} of 120 frames" in said and "ended early" in said


def test_damage_in_a_transport_stream_is_counted_and_the_rest_is_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = write_noisy(tmp_path / "x.ts", 100, codec="mpeg2video")
    found, said = played(stream)
    assert (len(found), said) == (100, "")
    data = bytearray(stream.read_bytes())
    packets = len(data) // 188
    for at in np.random.default_rng(0).integers(10, packets, 300):
        data[188 * at + 30 : 188 * at + 180] = bytes(150)
    stream.write_bytes(data)
    found, said = played(stream)
    shown = sum(isinstance(p, Picture) for p in found)
    assert 50 < shown < 100 and said.startswith(f"{shown} of 100 frames")
    assert capfd.readouterr().err == ""


def test_a_clip_whose_size_changes_gives_each_picture_in_its_own(tmp_path: Path) -> None:
    wide, high = jpeg(quarters(90, 160)), jpeg(quarters(120, 90))
    (tmp_path / "x.mjpeg").write_bytes(wide * 3 + high * 3)
    shapes = [p.pixels.shape[:2] for p in played(tmp_path / "x.mjpeg")[0] if isinstance(p, Picture)]
    assert shapes == [(90, 160)] * 3 + [(120, 90)] * 3


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((0, 1, -1, 0), cv2.ROTATE_90_CLOCKWISE),
        ((-1, 0, 0, -1), cv2.ROTATE_180),
        ((0, -1, 1, 0), cv2.ROTATE_90_COUNTERCLOCKWISE),
    ],
)
def test_a_clip_is_shown_upright(tmp_path: Path, matrix: tuple[int, int, int, int], turned: int) -> None:
    path = tmp_path / "x.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, (64, 48))
    writer.write(quarters())
    writer.release()
    [before] = pixels_of(Clip("x", path))
    turn_clip(path, matrix)
    [after] = pixels_of(Clip("x", path))
    assert np.array_equal(after, cv2.rotate(before, turned))


@pytest.mark.parametrize("content", [b"", b"no video", b"\0\0\0\x1cftypisom"])
def test_a_file_that_is_no_clip_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(SourceError, match=r"x\.mp4 is not a video that can be read"):
        next(iter(open_source(str(tmp_path / "x.mp4")).pictures()))


@pytest.fixture
def served(video: Path) -> Iterator[str]:
    """The folder of the video at an address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(video.parent)))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}"
    web.shutdown()
    web.server_close()


def test_a_clip_at_an_address_has_a_rate_and_an_end(served: str) -> None:
    source = open_source(f"{served}/greys.avi")
    assert len(list(source.pictures())) == COUNT
    assert source.fps == RATE and not source.live


def test_a_stream_sets_its_own_pace_and_is_lost_at_its_end() -> None:
    with web_camera([("show", 5, (64, 48))]) as camera:
        source = open_source(camera.address)
        pictures = iter(source.pictures())
        first = next(pictures)
        assert isinstance(first, Picture) and first.pixels.shape == (48, 64, 3)
        assert source.live and source.fps is None
        with pytest.raises(SourceError, match="gives no more pictures"):
            list(pictures)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_refused_connection_is_said_without_the_password(scheme: str) -> None:
    with pytest.raises(SourceError, match=rf"^{scheme}://me:\*\*\*@127.0.0.1:\d+/x: Connection refused$") as error:
        next(iter(open_source(f"{scheme}://me:secret@127.0.0.1:{free_port()}/x").pictures()))
    assert error.value.__cause__ is None and error.value.__suppress_context__


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_an_unknown_host_is_named(scheme: str) -> None:
    with pytest.raises(SourceError, match=r"unknown host no-such-host\.invalid"):
        next(iter(open_source(f"{scheme}://no-such-host.invalid/x").pictures()))


@pytest.mark.parametrize(("status", "said"), [(404, "404 Not Found"), (401, "401 Unauthorized"), (503, "5XX")])
def test_what_a_web_server_answers_is_said(status: int, said: str) -> None:
    with web_camera([("refuse", status)]) as camera, pytest.raises(SourceError, match=said):
        next(iter(open_source(camera.address).pictures()))


def test_what_is_no_video_is_said(served: str, video: Path) -> None:
    shutil.copy(__file__, video.parent / "text.html")
    with pytest.raises(SourceError, match="Invalid data"):
        next(iter(open_source(f"{served}/text.html").pictures()))
