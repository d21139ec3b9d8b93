"""A source played in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from spinn_client.frames.feed import Frame
from spinn_stream.frame import Pixels


class VirtualFeed:
    """As `spinn_client.frames.feed.Feed`: holds one frame, the newest that was not taken yet.

    Args:
        pictures: (H, W, 3) uint8 BGR each, played in order and again from the first.
        frames: how many to play. fps: None: each as soon as the one before was taken.
    """

    def __init__(self, pictures: Sequence[Pixels], frames: int, fps: float | None, clock: Callable[[], float]) -> None:
        self._pictures = pictures
        self._frames = frames
        self._fps = fps
        self._now = clock
        self._slot: Frame | None = None
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._ended = False
        self._player: asyncio.Task[None] | None = None
        self.captured = 0
        self.dropped: Counter[str] = Counter()

    def start(self) -> None:
        self._player = asyncio.create_task(self._play(), name="source")

    def stop(self) -> None:
        """See `Feed`."""
        if self._player is not None:
            self._player.cancel()
        if self._slot is not None:
            self._slot = None
            self.dropped["stopped"] += 1
        self._ended = True
        self._changed.set()

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
        for index in range(self._frames):
            if self._fps is not None:
                await asyncio.sleep(began + index / self._fps - self._now())
            if self._slot is not None:
                self.dropped["superseded"] += 1
            self._slot = Frame(index, self._pictures[index % len(self._pictures)], self._now())
            self.captured += 1
            self._taken.clear()
            self._changed.set()
            if self._fps is None:
                await self._taken.wait()
        self._ended = True
        self._changed.set()
