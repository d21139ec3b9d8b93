"""One frame, between the threads that give frames and the event loop that takes them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from spinn_stream.frame import Pixels

log = logging.getLogger(__name__)

MOST_UNTOLD = 10_000
"""Things that the event loop was not told of yet; a reader waits if there are more."""


@dataclass(frozen=True)
class Frame:
    """A picture and its number in the stream.

    captured: when it was captured, in seconds of `time.monotonic`. origin: the file that it came from, if it had one of
    its own.
    """

    index: int
    pixels: Pixels
    captured: float
    origin: str | None = None


class Slot:
    """Holds the newest frame that was not taken yet, counts all, and tells the event loop of each drop in its order.

    `changed` is the lock of everything here, and is notified of whatever a reader may wait for. Methods take it
    themselves; it may be held already.

    most: frames after which no more are wanted. on_drop: called on the event loop with a frame's number and the reason.
    """

    def __init__(self, most: int | None, on_drop: Callable[[int, str], object]) -> None:
        self._most = most
        self._on_drop = on_drop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._frame: Frame | None = None
        self._counted = False  # whether that is one of the stream's
        self._notes: deque[Callable[[], object]] = deque()
        self._arrived = asyncio.Event()
        self.on_arrival: Callable[[], object] = lambda: None
        self._told = False
        self.changed = threading.Condition()
        self.begun: float | None = None  # when frames began to be counted
        self.stopped = False
        self.ended = False
        self.error: BaseException | None = None
        self.captured = 0
        self.dropped: Counter[str] = Counter()

    def use(self, loop: asyncio.AbstractEventLoop) -> None:
        """Whom to tell."""
        self._loop = loop

    @property
    def over(self) -> bool:
        """Whether no more frames are wanted."""
        enough = self._most is not None and self.captured >= self._most
        return self.stopped or self.ended or enough

    @property
    def free(self) -> bool:
        """Whether no frame waits."""
        return self._frame is None

    def age(self, now: float) -> float | None:
        """How old the frame is that waits; None: none does. 0.0 if there will be none."""
        frame = self._frame
        if frame is None:
            return 0.0 if self.over else None
        return now - frame.captured

    @property
    def crowded(self) -> bool:
        """Whether there is more to tell than the event loop keeps up with."""
        return len(self._notes) > MOST_UNTOLD

    def start(self, *, count_kept: bool) -> None:
        """Count from here on. count_kept: the frame that is there counts as the first."""
        with self.changed:
            self.begun = time.monotonic()
            if self._frame is not None and count_kept:
                self.captured += 1
                self._counted = True
            self.changed.notify_all()
        self.wake()

    def put(self, frame: Frame, *, counted: bool) -> None:
        """Keep a frame in the place of the one that waits. counted: it is one of the stream's."""
        with self.changed:
            before, self._frame = self._frame, frame
            self._counted = counted
            if counted:
                if before is not None:
                    self._tell_drop(before.index, "superseded")
                self.captured += 1
        self.wake()

    def drop(self, index: int, reason: str) -> None:
        """Count a frame that was never put here."""
        with self.changed:
            self.captured += 1
            self._tell_drop(index, reason)

    def refuse(self, index: int, reason: str) -> None:
        """A frame that was taken is not used after all."""
        with self.changed:
            self._tell_drop(index, reason)

    def take(self) -> Frame | None:
        """The frame that waits, if there is one and counting has begun."""
        with self.changed:
            self._arrived.clear()
            if self.begun is None or self.stopped:
                return None
            frame, self._frame = self._frame, None
            if frame is not None:
                self.changed.notify_all()
            return frame

    async def wait(self) -> None:
        """Until something has changed since the last `take`."""
        await self._arrived.wait()

    def stop(self) -> None:
        """No more frames; the one that waits is dropped."""
        with self.changed:
            waiting, self._frame, self.stopped = self._frame, None, True
            if waiting is not None and self._counted:
                self._tell_drop(waiting.index, "stopped")
            self.changed.notify_all()
        self.wake()

    def finish(self, error: BaseException | None) -> None:
        """No more frames but the one that waits. error: for whoever wants another."""
        with self.changed:
            self.ended, self.error = True, error
            self.changed.notify_all()
        self.wake()

    def note(self, tell: Callable[[], object]) -> None:
        """Call something on the event loop, in the order of everything that happens here."""
        self._notes.append(tell)
        self.wake()

    def _tell_drop(self, index: int, reason: str) -> None:
        self.dropped[reason] += 1
        self.note(partial(self._on_drop, index, reason))

    def wake(self) -> None:
        """Let the event loop look: from any thread. It is told once until it does."""
        if not self._told:
            self._told = True
            self.post(self._look)

    def post(self, call: Callable[..., object], *arguments: object) -> None:
        """Call something on the event loop soon: from any thread."""
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(call, *arguments)
            except RuntimeError:  # the event loop is closed: nobody waits any more
                self.stopped = True

    def _look(self) -> None:
        self._told = False
        self._arrived.set()
        self.on_arrival()
        self.tell()

    def tell(self) -> None:
        """Pass on what happened; on the event loop."""
        while self._notes:
            try:
                self._notes.popleft()()
            except Exception:
                log.exception("whoever is told of a source's frames failed")
        with self.changed:
            self.changed.notify_all()


class FrameSource(Protocol):
    """What gives the pipeline its frames: a `Feed`, or what stands for one in a simulation."""

    @property
    def name(self) -> str: ...

    @property
    def fps(self) -> float | None: ...

    @property
    def one_camera(self) -> bool:
        """Whether the pictures follow each other as those of a camera; not so for photographs, or if nobody knows."""

    @property
    def captured(self) -> int:
        """Pictures so far."""

    @property
    def dropped(self) -> Counter[str]:
        """How many of them were dropped, by reason."""

    def age(self, now: float) -> float | None:
        """How old a frame is that `next` gives at once, in seconds; None: it has to wait for one. 0.0 at the end."""

    async def open(self) -> None: ...

    def start(self, arrived: Callable[[], object]) -> None:
        """arrived: called on the event loop if another frame may wait."""

    def drop(self, index: int, reason: str) -> None:
        """A frame that was given is not taken in after all."""

    def stop(self) -> None: ...

    async def next(self) -> Frame | None: ...

    async def close(self) -> None: ...
