"""A thread that delivers items to a slow place, so that nothing else waits for that place."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Background(Generic[Item]):
    """Delivers items in order, in a thread of its own.

    deliver: called in that thread with the waiting items, at most at_once of them; it may block. Its first failure ends
    the thread, and is raised when the next item is put. bound: most items that may wait. name: the thread's.
    """

    def __init__(self, deliver: Callable[[list[Item]], None], *, name: str, bound: int, at_once: int = 1) -> None:
        self._deliver = deliver
        self._bound = bound
        self._at_once = at_once
        self._waiting: deque[Item] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._started = False
        self.failure: BaseException | None = None
        self.dropped = 0  # items that `put_newest` pushed out, or that waited when it was closed

    def put(self, item: Item) -> bool:
        """Queue one item. False: it was not taken, because `bound` items wait already, or this is closed.

        Raises:
            BaseException: the failure of `deliver`.
        """
        return self._put(item, make_room=False)

    def put_newest(self, item: Item) -> None:
        """Queue one item. If `bound` items wait already, the oldest is dropped and counted. Raises as `put`."""
        self._put(item, make_room=True)

    def close(self, within_s: float) -> bool:
        """Take nothing more, and wait until all is delivered. False: that took too long, and waiting items are
        dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._started:
            self._thread.join(within_s)
        with self._changed:
            self.dropped += len(self._waiting)
            self._waiting.clear()
        return not self._thread.is_alive()

    def _put(self, item: Item, *, make_room: bool) -> bool:
        with self._changed:
            if self.failure is not None:
                raise self.failure
            if self._closing:
                return False
            if len(self._waiting) >= self._bound:
                if not make_room:
                    return False
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(item)
            self._changed.notify()
            if not self._started:
                self._started = True
                self._thread.start()
        return True

    def _run(self) -> None:
        try:
            while batch := self._next():
                self._deliver(batch)
        except BaseException as failure:  # rich leaves by SystemExit if a pipe is broken
            with self._changed:
                self.failure = failure
                self._waiting.clear()

    def _next(self) -> list[Item]:
        """The waiting items, at least one; empty: closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), self._at_once))]
