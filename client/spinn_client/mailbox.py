"""A queue on one event loop that never makes its writer wait: the oldest is dropped if nobody reads."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Holds at most `limit` items; one reader.

    dropped: items that were thrown away unread.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[T] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        if len(self._items) >= self._limit:
            self._items.popleft()
            self.dropped += 1
        self._items.append(item)
        self._changed.set()

    def end(self) -> None:
        """No more items will come. Those that are there can still be read."""
        self._ended = True
        self._changed.set()

    async def get(self) -> T | None:
        """The oldest item, as soon as there is one; None: all were read, and no more will come."""
        while not self._items:
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        item = self._items.popleft()
        self._changed.set()
        return item

    async def until_fewer_than(self, count: int) -> None:
        """Wait until fewer items than this wait to be read, or the end."""
        while len(self._items) >= count and not self._ended:
            self._changed.clear()
            await self._changed.wait()
