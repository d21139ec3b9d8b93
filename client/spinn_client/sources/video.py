"""Where frames come from: a file, a folder, a camera, a stream, or the demo. All of it blocks; runs in a thread."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from spinn_stream.errors import SourceError
from spinn_stream.frame import Pixels

from .folder import ImageFolder

STREAM_TIMEOUT_MS = 5000
STREAM_SCHEMES = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://")


class Source(Protocol):
    """Frames in order.

    fps: the rate the frames were recorded at; None for a live source, which sets its own pace.
    """

    name: str
    fps: float | None

    def frames(self) -> Iterator[Pixels]:
        """(H, W, 3) uint8 BGR pictures from the first on; each call begins again where that is possible."""

    def close(self) -> None:
        """Let go of the device or file."""


class VideoSource:
    """Anything OpenCV opens: a video file, a camera by number, a stream by URL."""

    def __init__(self, target: str | int, *, live: bool) -> None:
        self.name = f"camera {target}" if isinstance(target, int) else target
        self._target = target
        self._live = live
        self._capture = self._open()
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = None if live else (rate if 1 <= rate <= 1000 else 30.0)

    def frames(self) -> Iterator[Pixels]:
        if not self._live and self._capture.get(cv2.CAP_PROP_POS_FRAMES) > 0:
            self.close()
            self._capture = cv2.VideoCapture(self._target)
        while True:
            read, frame = self._capture.read()
            if not read or frame is None:
                return
            yield np.asarray(frame, np.uint8)

    def close(self) -> None:
        self._capture.release()

    def _open(self) -> cv2.VideoCapture:
        with _quiet_libraries():
            if isinstance(self._target, int):
                capture = cv2.VideoCapture(self._target)
            elif self._live:
                capture = cv2.VideoCapture(self._target, cv2.CAP_FFMPEG, [
                    cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, STREAM_TIMEOUT_MS,
                    cv2.CAP_PROP_READ_TIMEOUT_MSEC, STREAM_TIMEOUT_MS,
                ])  # fmt: skip
            else:
                capture = cv2.VideoCapture(self._target)
        if capture.isOpened():
            return capture
        if isinstance(self._target, int):
            raise SourceError(f"camera {self._target} cannot be opened; is it plugged in, free, and readable by you?")
        if self._live:
            raise SourceError(f"{self._target} gives no stream within {STREAM_TIMEOUT_MS / 1000:.0f} s")
        raise SourceError(f"{self._target} is not a video that OpenCV can read")


def open_source(text: str) -> Source:
    """The source that `--source` names: FILE, FOLDER, a camera's number, a stream's URL, or `demo`.

    Raises:
        SourceError: it is not there or cannot be opened.
    """
    if text == "demo":
        from .demo import DemoSource

        return DemoSource()
    if text.isdecimal():
        return VideoSource(int(text), live=True)
    if text.lower().startswith(STREAM_SCHEMES):
        return VideoSource(text, live=True)
    path = Path(text)
    if text and path.is_dir():
        return ImageFolder(path)
    expected = "expected a video file, a folder of images, a camera's number, rtsp://... or demo"
    if not path.exists():
        raise SourceError(f"no file {text!r}; {expected}")
    if not path.is_file():
        raise SourceError(f"{text!r} is not a file; {expected}")
    return VideoSource(text, live=False)


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep the C libraries behind OpenCV from printing warnings of their own beside our one line.

    Swaps the process's standard error, so it is used before other threads write there.
    """
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(null)
        os.close(kept)
