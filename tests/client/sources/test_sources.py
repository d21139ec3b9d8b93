"""Sources: a file, a stream by URL, the demo's photographs; and what is said where there is none."""

from __future__ import annotations

import functools
import http.server
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from spinn_client.sources.demo import FPS, PHOTOGRAPHS, SECONDS_EACH, VIEW
from spinn_client.sources.registry import open_source
from spinn_stream.errors import SourceError

COUNT = 20
RATE = 25.0


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Motion-JPEG file of 20 grey frames, each lighter than the one before."""
    path = tmp_path_factory.mktemp("video") / "greys.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, (64, 48))
    for n in range(COUNT):
        writer.write(np.full((48, 64, 3), 10 * n, np.uint8))
    writer.release()
    return path


def test_a_file_gives_its_frames_in_order_at_its_rate_and_again(video: Path) -> None:
    source = open_source(str(video))
    assert source.fps == RATE
    for _ in range(2):
        greys = [frame.mean() for frame in source.frames()]
        assert greys == pytest.approx([10 * n for n in range(COUNT)], abs=3)
    source.close()


@pytest.fixture
def served(video: Path) -> Iterator[str]:
    """The video at an address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(video.parent)))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}/{video.name}"
    web.shutdown()


def test_a_stream_sets_its_own_pace(served: str) -> None:
    source = open_source(served)
    assert source.fps is None
    assert len(list(source.frames())) == COUNT
    source.close()


def test_a_file_cut_off_in_the_middle_gives_what_it_has(video: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.avi"
    broken.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    try:
        frames = list(open_source(str(broken)).frames())
    except SourceError as error:
        assert "is not a video" in str(error)
    else:
        assert len(frames) < COUNT


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere.mp4", "no file 'nowhere.mp4'"),
        ("", "'' is not a file"),
        (str(Path(__file__).parent), "no image in .*sources, expected some of .bmp, .jpeg, .jpg"),
        (__file__, "is not a video"),
        ("96", "camera 96 cannot be opened"),
        ("http://127.0.0.1:1/x", "gives no stream"),
        ("rtsp://127.0.0.1:1/x", "gives no stream"),
    ],
)
def test_what_is_not_there_is_named(text: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        open_source(text)


def test_the_demo_moves_over_each_photograph() -> None:
    source = open_source("demo")
    each = int(FPS * SECONDS_EACH)
    frames = list(itertools.islice(source.frames(), each * len(PHOTOGRAPHS) + 1))
    assert len(frames) == each * len(PHOTOGRAPHS)
    assert {f.shape for f in frames} == {(*VIEW, 3)} and {f.dtype.name for f in frames} == {"uint8"}
    for photograph in range(len(PHOTOGRAPHS)):
        shots = frames[photograph * each : (photograph + 1) * each]
        assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(shots))
        assert min(f.std() for f in shots) > 10  # a picture, not a blank
