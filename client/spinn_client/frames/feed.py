"""From a blocking source to the event loop: paced, newest frame wins."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass

from spinn_client.sources.video import Source
from spinn_stream.errors import SourceError
from spinn_stream.frame import Pixels


@dataclass(frozen=True)
class Frame:
    """A frame and its place in the source. captured: time.monotonic() when it was there to be used."""

    index: int
    pixels: Pixels
    captured: float


@dataclass(frozen=True)
class FeedConfig:
    """How a source is played."""

    fps: float | None = None  # frames per second; None: the source's own
    unpaced: bool = False  # every frame, as fast as they are taken
    loop: bool = False  # begin again at the end
    max_frames: int | None = None  # stop after so many

    def __post_init__(self) -> None:
        if self.fps is not None and not 0.01 <= self.fps <= 1000:
            raise ValueError(f"fps is {self.fps}, expected 0.01 to 1000")
        if self.max_frames is not None and self.max_frames < 1:
            raise ValueError(f"frames is {self.max_frames}, expected at least 1")
        if self.unpaced and self.fps is not None:
            raise ValueError("--fps and --unpaced exclude each other")


class Feed:
    """Reads a source in a thread of its own and holds one frame: the newest that was not taken yet.

    A frame that is replaced before it was taken counts as dropped, `superseded`. Unpaced, the thread waits
    until its frame is taken instead.
    """

    def __init__(self, source: Source, config: FeedConfig) -> None:
        self._source = source
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._slot: Frame | None = None
        self._arrived = asyncio.Event()
        self._taken = threading.Event()
        self._stopped = threading.Event()
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="source", daemon=True)
        self.captured = 0
        self.dropped: Counter[str] = Counter()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No more frames; the one that waits is dropped."""
        self._stopped.set()
        self._taken.set()
        self._arrived.set()

    async def next(self) -> Frame | None:
        """The newest frame, once there is one; None at the end.

        Raises:
            Exception: what went wrong in the source.
        """
        while True:
            with self._lock:
                frame, self._slot = self._slot, None
                self._arrived.clear()
                ended = self._ended
            if self._stopped.is_set():
                if frame is not None:
                    self.dropped["stopped"] += 1
                return None
            if frame is not None:
                self._taken.set()
                return frame
            if ended:
                if self._error is not None:
                    raise self._error
                return None
            await self._arrived.wait()

    def _read(self) -> None:
        try:
            self._play()
        except BaseException as error:  # handed to whoever waits in `next`
            self._error = error
        finally:
            self._source.close()
            with self._lock:
                self._ended = True
            self._wake()

    def _play(self) -> None:
        rate = None if self._config.unpaced else (self._config.fps or self._source.fps)
        begun = time.monotonic()
        while not self._stopped.is_set():
            before = self.captured
            for pixels in self._source.frames():
                if rate is not None:
                    due = begun + self.captured / rate
                    if self._source.fps is None and time.monotonic() < due:
                        continue  # a camera faster than --fps: as if it had not seen this
                    self._stopped.wait(max(0.0, due - time.monotonic()))
                if self._stopped.is_set():
                    return
                self._put(Frame(self.captured, pixels, time.monotonic()))
                self.captured += 1
                if self.captured == self._config.max_frames:
                    return
            if self._source.fps is None and not self._stopped.is_set():
                raise SourceError(f"{self._source.name} gives no more frames")
            if self.captured == before:
                raise SourceError(f"{self._source.name} has no frame that can be read")
            if not self._config.loop:
                return

    def _put(self, frame: Frame) -> None:
        with self._lock:
            if self._slot is not None:
                self.dropped["superseded"] += 1
            self._slot = frame
            self._taken.clear()
        self._wake()
        if self._config.unpaced:
            self._taken.wait()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:  # the event loop is closed: nobody waits any more
            self._stopped.set()
