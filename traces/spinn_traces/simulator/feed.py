"""A source played in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable

from spinn_client.frames.feed import Frame
from spinn_stream.frame import Pixels


class VirtualFeed:
    """As `spinn_client.frames.feed.Feed`: holds one frame, the newest that was not taken yet.

    Args:
        picture: makes the picture of a frame, (H, W, 3) uint8 BGR, by its number, when it is captured; None: no more.
        fps: None: each as soon as the one before was taken.
        began: called when the first frame is about to come. one_camera: see `FrameSource`.
    """

    name = "pictures"

    def __init__(
        self,
        picture: Callable[[int], Pixels | None],
        fps: float | None,
        clock: Callable[[], float],
        began: Callable[[], object] = lambda: None,
        one_camera: bool = False,
    ) -> None:
        self._picture = picture
        self.fps = fps
        self._now = clock
        self._began = began
        self.one_camera = one_camera
        self._slot: Frame | None = None
        self._changed = asyncio.Event()
        self._arrived: Callable[[], object] = lambda: None
        self._taken = asyncio.Event()
        self._ended = False
        self._player: asyncio.Task[None] | None = None
        self.captured = 0
        self.dropped: Counter[str] = Counter()

    async def open(self) -> None:
        """Nothing to do."""

    def age(self, now: float) -> float | None:
        """See `FrameSource`."""
        if self._slot is None:
            return 0.0 if self._ended else None
        return now - self._slot.captured

    def start(self, arrived: Callable[[], object]) -> None:
        self._arrived = arrived
        self._began()
        self._player = asyncio.create_task(self._play(), name="source")

    def drop(self, index: int, reason: str) -> None:
        """See `Feed`."""
        self.dropped[reason] += 1

    def stop(self) -> None:
        """See `Feed`."""
        if self._player is not None:
            self._player.cancel()
        if self._slot is not None:
            self.drop(self._slot.index, "stopped")
            self._slot = None
        self._ended = True
        self._changed.set()
        self._arrived()

    async def close(self) -> None:
        self.stop()

    async def next(self) -> Frame | None:
        """See `Feed`."""
        while self._slot is None and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        frame, self._slot = self._slot, None
        self._taken.set()
        return frame

    async def _play(self) -> None:
        began = self._now()
        for index in itertools.count():
            if self.fps is not None:
                await asyncio.sleep(began + index / self.fps - self._now())
            picture = self._picture(index)
            if picture is None:
                break
            if self._slot is not None:
                self.drop(self._slot.index, "superseded")
            self._slot = Frame(index, picture, self._now())
            self.captured += 1
            self._taken.clear()
            self._changed.set()
            self._arrived()
            if self.fps is None:
                await self._taken.wait()
        self._ended = True
        self._changed.set()
        self._arrived()
