"""When frames wait for link and server, so that those that are sent are young: the newest is taken when there is room.

A frame whose answer would come too late even on the link at its best is not sent: the device's own answer is given at
once, not at the deadline, and the next frame does not wait behind bytes that are of no use.
"""

from __future__ import annotations

import math
from typing import Protocol

HOLD, LEAST_SPARE_S = 1.5, 0.05
"""A frame is held back for at most HOLD times what link and server seemed to need at first, or for LEAST_SPARE_S more,
if that is later: a server's services scatter, and a device that gives up on them for nothing works for long itself."""

LEAST_HOLD_S = 0.002
"""A shorter wait is none: the event loop is not more punctual."""

EARLY = 1.25
"""A frame is begun EARLY times what the last one took to be ready before the link is free: heads waver, and an idle
link is worse than a frame that waits a little."""


class Room(Protocol):
    """What is known of link and server. Times in seconds."""

    def busy_s(self, now: float) -> float | None:
        """How long they will have no room, after what was sent; None: the link is down, and nothing waits for it."""

    def answer_s(self, now: float, size: int) -> float:
        """How long after it is given to a free link a request of `size` bytes is answered at the earliest."""


class SendGate:
    """Says how long to wait, in seconds. 0.0: there is room now; inf: there is none in time; else ask again then.

    One frame at a time asks; what it was told before is forgotten with its last answer.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0  # of the last frame that was to be sent, bytes
        self._until: float | None = None  # of the wait that is under way: when it has gone on for long enough

    def to_begin(self, now: float, head_s: float, most_s: float, deadline_s: float) -> float:
        """Before the newest frame is taken: until its head will be done when the link is free. Never inf.

        Args:
            head_s: from here until a frame can be sent. most_s: if the link is busy for longer, there is no waiting:
                the device is to answer meanwhile. deadline_s: of frames, from their capture on; if no answer would
                come by then, there is no waiting either.
        """
        busy = self._room.busy_s(now)
        if self._until is None and (
            busy is None or busy > most_s or head_s + self._room.answer_s(now, self._size) > deadline_s
        ):
            return 0.0
        wait = self._wait(now, busy, EARLY * head_s, most_s)
        return 0.0 if wait == math.inf else wait

    def to_send(self, now: float, size: int, left_s: float, answer_by: float | None) -> float:
        """Before a frame is sent: until the link is free.

        Args:
            size: of its payload, bytes. left_s: how long the frame can still wait. answer_by: the time after which an
                answer is of no use; None: it is sent whenever that comes, to learn of the link.
        """
        self._size = size
        busy = self._room.busy_s(now)
        if self._until is None and self._in_vain(now, size, busy, answer_by):
            return math.inf
        return self._wait(now, busy, 0.0, left_s)

    def forget(self) -> None:
        """Whoever waited does not ask again."""
        self._until = None

    def _in_vain(self, now: float, size: int, busy: float | None, answer_by: float | None) -> bool:
        """Whether its answer would be of no use even on the link at its best."""
        if answer_by is None or busy is None:
            return False
        return now + busy + self._room.answer_s(now, size) > answer_by

    def _wait(self, now: float, busy: float | None, before_s: float, left_s: float) -> float:
        if busy is None or (wait := busy - before_s) <= LEAST_HOLD_S:
            self._until = None
            return 0.0
        if self._until is None:
            self._until = now + max(HOLD * wait, wait + LEAST_SPARE_S)
        left = min(self._until - now, left_s)
        if left <= LEAST_HOLD_S:
            self._until = None
            return math.inf
        return min(wait, left)
