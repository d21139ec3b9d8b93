"""Where frames wait for link and server, so that those that are sent are young: the newest is taken when there is room.

A frame whose answer would come too late even on the link at its best is not sent: the device's own answer is given at
once, not at the deadline, and the next frame does not wait behind bytes that are of no use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

HOLD, LEAST_SPARE_S = 1.5, 0.05
"""A frame is held back for so many times as long as link and server seemed to need at first, or for so much longer, if
that is more: a server's services scatter, and a device that gives up on them for nothing works for long itself."""

LEAST_HOLD_S = 0.002
"""A shorter wait is none: the event loop is not more punctual."""

EARLY = 1.25
"""A frame is begun with so many times what the last one took to be ready before the link is free: heads waver, and an
idle link is worse than a frame that waits a little."""


class SendGate:
    """Waits until link and server have room, as far as one can tell. Runs on the event loop.

    Args:
        busy_s: how long they will have none, after what was sent; None: the link is down, and nothing waits for it.
        answer_s: how long after it is given to a free link a request of so many bytes is answered at the earliest.
        now: the host's clock, seconds.
    """

    def __init__(
        self, busy_s: Callable[[], float | None], answer_s: Callable[[int], float], now: Callable[[], float]
    ) -> None:
        self._busy_s = busy_s
        self._answer_s = answer_s
        self._now = now
        self._size = 0  # of the last frame that was to be sent, bytes

    async def wait_to_begin(self, head_s: float, most_s: float, deadline_s: float) -> None:
        """Before the newest frame is taken: until its head will be done when the link is free.

        Args:
            head_s: from here until a frame can be sent. most_s: where the link is busy for longer, there is no waiting:
                the device is to answer meanwhile. deadline_s: of frames, from their capture on; where no answer would
                come by then, there is no waiting either.
        """
        busy = self._busy_s()
        if busy is not None and busy <= most_s and head_s + self._answer_s(self._size) <= deadline_s:
            await self._wait(EARLY * head_s, lambda: most_s)

    async def wait_to_send(self, size: int, left_s: Callable[[], float], answer_by: float | None) -> bool:
        """Before a frame is sent: until the link is free.

        Args:
            size: of its payload, bytes. left_s: how long the frame can wait from now on. answer_by: the time after
                which an answer is of no use; None: it is sent whenever that comes, to learn of the link.

        Returns:
            False: the link is not free in time, or its answer would be late, and the device should work on the frame.
        """
        self._size = size
        if answer_by is not None and self._in_vain(size, answer_by):
            return False
        return await self._wait(0.0, left_s)

    def _in_vain(self, size: int, answer_by: float) -> bool:
        busy = self._busy_s()
        return busy is not None and self._now() + busy + self._answer_s(size) > answer_by

    async def _wait(self, before_s: float, left_s: Callable[[], float]) -> bool:
        until: float | None = None
        while (busy := self._busy_s()) is not None and (wait := busy - before_s) > LEAST_HOLD_S:
            if until is None:
                until = self._now() + max(HOLD * wait, wait + LEAST_SPARE_S)
            left = min(until - self._now(), left_s())
            if left <= LEAST_HOLD_S:
                return False
            await asyncio.sleep(min(wait, left))
        return True
