"""The demo as a process, and a real browser that looks at it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from spinn_client import Picture
from spinn_client.sources.demo import DemoSource

from ..browser import Browsers, Seen, browser
from ..bundles import SMALL

__all__ = ["browser"]  # a fixture

START_S = 60.0
END_S = 20.0
TRIES_MS = 30_000

DEADLINE_MS = 250
"""Of the page that most tests look at."""

FAKE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""Flags of a Chromium that has a camera, and may use it."""

FPS = 30
CODE_PX = 16
"""The clip says its second in its upper left corner: four squares, one a bit."""


@dataclass
class Demo:
    """A running `spinn webcam`."""

    process: subprocess.Popen[str]
    address: str


@contextlib.contextmanager
def demo(*options: str) -> Iterator[Demo]:
    """`spinn webcam` on a free port until the block ends; it must end well."""
    command = [sys.executable, "-m", "spinn_stream", "webcam", "--port", "0", "--runtime", "onnxruntime", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    timer = threading.Timer(START_S, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        timer.cancel()
        assert line.startswith("open http"), f"got {line!r}: {process.stderr.read() if process.stderr else ''}"
        yield Demo(process, line.split()[1])
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=END_S)
        assert process.returncode == 0 and "Traceback" not in errors, errors
    finally:
        timer.cancel()
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Clip:
    """The built-in photographs under a moving camera, each second with its number in a corner."""

    mjpeg: Path  # for Chromium's fake camera
    video: Path  # for `spinn run`
    seconds: int


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("clip")
    found = Clip(folder / "clip.mjpeg", folder / "clip.avi", 12)
    video = cv2.VideoWriter(str(found.video), cv2.VideoWriter.fourcc(*"MJPG"), float(FPS), (640, 360))
    with found.mjpeg.open("wb") as frames:
        for index, picture in enumerate(DemoSource().pictures()):
            assert isinstance(picture, Picture)
            pixels = np.ascontiguousarray(picture.pixels[60:420])
            for bit in range(4):
                lit = index // FPS >> bit & 1
                pixels[:CODE_PX, bit * CODE_PX : (bit + 1) * CODE_PX] = 255 * lit
            frames.write(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
            video.write(pixels)
    video.release()
    return found


@pytest.fixture(scope="module")
def running() -> Iterator[Demo]:
    with demo("--source", "demo", "--device-slowdown", "6", "--deadline-ms", str(DEADLINE_MS), *SMALL) as started:
        yield started


@pytest.fixture(scope="module")
def chromium(browser: Browsers) -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def seen() -> Seen:
    return Seen()


@pytest.fixture(scope="module")
def page(chromium: Any, running: Demo, seen: Seen) -> Iterator[Any]:
    """The page, once the server is there and answers are shown: for all tests of a file, which leave it as it was."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(TRIES_MS)
    seen.watch(page)
    page.goto(running.address)
    page.wait_for_selector(".answer[data-kind]")
    page.wait_for_selector(".chip.good >> text=server")
    yield page
    page.close()
    assert seen.errors == []


def click(page: Any, name: str) -> None:
    page.get_by_role("button", name=name).click()
