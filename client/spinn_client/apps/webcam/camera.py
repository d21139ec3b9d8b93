"""Pictures at their own pace, from a source or from a visitor's browser, for all streams at once."""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from spinn_client import SourceError, Unusable, open_source

log = logging.getLogger(__name__)

VISITOR = "browser"
"""Means the camera of a visitor of the page."""

SILENT_S = 5.0
"""A camera without a picture for this time counts as silent."""

PAUSES_S = (0.5, 1.0, 2.0, 5.0)
"""Pauses between tries to open a source again; the last one repeats."""

SLIDES_FPS = 1.0
"""The pace of a folder of pictures."""

LARGEST_JPEG = 2_000_000
LARGEST_SIDE = 4096


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture. pixels: (H, W, 3) uint8 BGR. captured: of `time.monotonic`. jpeg: its bytes, if it came as a
    JPEG."""

    pixels: npt.NDArray[np.uint8]
    captured: float
    jpeg: bytes | None = None


class Camera:
    """Plays one source at a time in a thread of its own. Clips begin again at their end; cameras are opened again.

    Args:
        on_shot: gets each picture, in the thread that reads it. say: gets one line for people.
    """

    def __init__(self, on_shot: Callable[[Shot], object], say: Callable[[str], object]) -> None:
        self._on_shot, self._say = on_shot, say
        self._lock = threading.Lock()
        self._playing = 0  # which reader counts: the newest
        self._changed = threading.Event()
        self._last = time.monotonic()
        self.source = ""

    @property
    def silent_s(self) -> float:
        """Time since the last picture, in seconds."""
        return time.monotonic() - self._last

    def use(self, source: str) -> None:
        """Play this from now on; VISITOR: what `push_jpeg` is given."""
        with self._lock:
            self._playing += 1
            self._changed.set()
            self._changed = threading.Event()
            self.source, self._last = source, time.monotonic()
            if source != VISITOR and source:
                reader = threading.Thread(
                    target=self._read, args=(source, self._playing, self._changed), name="camera", daemon=True
                )
                reader.start()

    def close(self) -> None:
        """No more pictures. If the camera hangs, its thread is left behind."""
        self.use("")

    def push_jpeg(self, jpeg: bytes, captured: float) -> None:
        """A visitor's picture. Takes some milliseconds: not for an event loop.

        Raises:
            ValueError: it is no picture, or a very large one.
        """
        height, width = jpeg_size(jpeg)
        if max(height, width) > LARGEST_SIDE:
            raise ValueError(f"a picture of {width}x{height}, expected at most {LARGEST_SIDE} on each side")
        pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ValueError("a picture that cannot be decoded")
        if self.source == VISITOR:
            now = time.monotonic()
            if not now - SILENT_S < captured < now:  # the page does not know our clock yet
                captured = now
            self._give(Shot(np.asarray(pixels, np.uint8), captured, jpeg), self._playing)

    def _read(self, text: str, number: int, changed: threading.Event) -> None:
        failures = 0
        while not changed.is_set():
            why = None
            try:
                if self._play(text, number, changed):
                    failures = 0
            except SourceError as error:
                why = str(error)
            except Exception as error:  # of a decoder, or of a receiver of pictures
                log.exception("playing %s failed", text)
                why = f"{text}: {type(error).__name__}: {error}"
            if why is None:
                continue
            if not changed.is_set() and failures == 0:
                self._say(f"{why}; trying again")
            changed.wait(PAUSES_S[min(failures, len(PAUSES_S) - 1)])
            failures += 1

    def _play(self, text: str, number: int, changed: threading.Event) -> bool:
        """Play the source once. Returns whether there was a picture.

        Raises:
            SourceError: it cannot be opened, or is lost, or has no picture.
        """
        source = open_source(text)
        due, any_yet = time.monotonic(), False
        for picture in source.pictures():
            if changed.is_set():
                return any_yet
            if isinstance(picture, Unusable):
                continue
            if not source.live:
                due = max(due + 1 / (source.fps or SLIDES_FPS), time.monotonic() - 0.1)
                if changed.wait(max(0.0, due - time.monotonic())):
                    return any_yet
            any_yet = True
            now = time.monotonic()
            captured = now if not source.live or picture.captured is None else picture.captured
            self._give(Shot(picture.pixels, captured), number)
        if source.live or not any_yet:
            raise SourceError(f"{source.name} gives no more pictures")
        return any_yet

    def _give(self, shot: Shot, number: int) -> None:
        if number == self._playing:
            self._last = time.monotonic()
            self._on_shot(shot)


def jpeg_size(jpeg: bytes) -> tuple[int, int]:
    """Height and width as a JPEG's header says, so that they are checked before memory is allocated.

    Raises:
        ValueError: it is none.
    """
    if len(jpeg) > LARGEST_JPEG or jpeg[:2] != b"\xff\xd8":
        raise ValueError(f"{len(jpeg)} bytes that are no JPEG of at most {LARGEST_JPEG}")
    at = 2
    while at + 9 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame's head, not a table
            height, width = struct.unpack(">HH", jpeg[at + 5 : at + 9])
            return height, width
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    raise ValueError("a JPEG without a size")
