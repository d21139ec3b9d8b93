"""A program's own pictures: a robot's, a browser's, a test's."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spinn_stream.errors import SourceError
from spinn_stream.frame import Pixels

from .pixels import DEPTHS, bits_of, to_bgr

AHEAD_S = 1.0
"""A capture time may be ahead of the clock by this much, since cameras' clocks are not exact."""


@dataclass(frozen=True)
class Taker:
    """The player of a `Pushed`; called by the thread that pushes. take: number, pixels, captured. end: no more will
    come."""

    take: Callable[[int, Pixels, float], None]
    end: Callable[[], None]


class Pushed:
    """A source that a program pushes its pictures into, from any thread, before and while a stream plays it.

    The newest picture wins: if a picture is replaced before it was taken, it is dropped as `superseded`. If several
    streams play the source, one after the other, the numbers continue.

    fps: pictures a second, for planning; None: they are counted. name: for people. one_camera: the pictures follow each
    other as those of a camera, so that frames that have hardly changed may get an earlier answer (docs/repeats.md).
    """

    live = True

    def __init__(self, fps: float | None = None, *, name: str = "pushed pictures", one_camera: bool = False) -> None:
        if fps is not None and not 0.01 <= fps <= 1000:
            raise ValueError(f"fps is {fps}, expected 0.01 to 1000")
        self.name = name
        self.fps = fps
        self.one_camera = one_camera
        self._lock = threading.Lock()
        self._bits = DEPTHS[0]
        self._count = 0  # of pictures pushed
        self._untold = 0  # number of the first that no taker was told of
        self._waiting: tuple[int, Pixels, float] | None = None
        self._taker: Taker | None = None
        self._ended = False

    def push(self, pixels: object, captured: float | None = None) -> int:
        """Push a picture; it is copied. Returns its number, the `frame` of its results. Never waits.

        pixels: see `to_bgr`. captured: when it was captured, in seconds of `time.monotonic`; None: just now.

        Raises:
            ValueError: it is not a picture, or the time is not of that clock.
            SourceError: the source was ended.
        """
        now = time.monotonic()
        if captured is None:
            captured = now
        elif not math.isfinite(captured) or captured > now + AHEAD_S:
            raise ValueError(f"captured is {captured}, expected seconds of time.monotonic(), which is {now:.3f} now")
        if isinstance(pixels, np.ndarray) and pixels.dtype == np.uint16 and pixels.size:
            self._bits = max(self._bits, bits_of(pixels))  # a dark picture has no other scale than the one before
        picture = to_bgr(pixels, self._bits)
        with self._lock:
            if self._ended:
                raise SourceError(f"{self.name} were ended; no more can be pushed")
            number, self._count = self._count, self._count + 1
            if self._taker is None:
                self._waiting = (number, picture, captured)
            else:
                self._untold = self._count
                self._taker.take(number, picture, captured)
        return number

    def end(self) -> None:
        """No more pictures will come: the stream answers those it has, and ends. Idempotent."""
        with self._lock:
            self._ended = True
            if self._taker is not None:
                self._taker.end()

    def attach(self, taker: Taker) -> range:
        """A stream begins to play this: it gets the newest picture, and the end if it has come.

        Returns the numbers of the older pictures, which were not taken.

        Raises:
            SourceError: another stream is playing it.
        """
        with self._lock:
            if self._taker is not None:
                raise SourceError(f"{self.name} are played by another stream already")
            self._taker = taker
            waiting, self._waiting = self._waiting, None
            missed = range(self._untold, self._count if waiting is None else waiting[0])
            self._untold = self._count
            if waiting is not None:
                taker.take(*waiting)
            if self._ended:
                taker.end()
        return missed

    def detach(self) -> None:
        """The stream stops playing this; later pictures wait for the next stream."""
        with self._lock:
            self._taker = None
