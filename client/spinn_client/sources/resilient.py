"""When a live source is opened again, and when it is given up. It only decides; `now` is an argument.

    opening  ── a picture ──► playing ── it fails, or is silent for too long ──► pausing ── pause over ──► opening
       └── it fails, or takes too long ──► pausing, or given up if it never worked

A source that has worked is away while it is opening or pausing. The pauses grow from 0.1 s to 5 s.
"""

from __future__ import annotations

import random
from enum import Enum, auto

from spinn_client.backoff import Backoff

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


class State(Enum):
    OPENING = auto()
    PLAYING = auto()
    PAUSING = auto()


class Act(Enum):
    """What is to be done now."""

    LEAVE = auto()  # leave the reader that gives nothing
    OPEN = auto()
    GIVE_UP = auto()


class Resilience:
    """One live source, from its first opening on.

    timeout_s: longest silence. open_s: longest time to open. give_up_after_s: longest time away; None: no limit.
    reopens: False: it is not opened again, since it comes back by itself, like pictures that a program pushes.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        timeout_s: float,
        open_s: float,
        give_up_after_s: float | None = None,
        reopens: bool = True,
    ) -> None:
        self._backoff = Backoff(rng, first_s=FIRST_PAUSE_S, limit_s=LONGEST_PAUSE_S)
        self._timeout_s = timeout_s
        self._open_s = open_s
        self._give_up_after_s = give_up_after_s
        self._reopens = reopens
        self._state = State.PAUSING
        self._until = float("inf")  # of what the state waits for
        self.last: float | None = None  # when the newest picture came
        self._since = 0.0  # when it began to play

    @property
    def worked(self) -> bool:
        """Whether a picture has ever come."""
        return self.last is not None

    @property
    def playing(self) -> bool:
        """Whether pictures come."""
        return self._state is State.PLAYING

    def opening(self, now: float) -> None:
        """It is being opened."""
        self._state, self._until = State.OPENING, now + self._open_s

    def delivered(self, now: float) -> tuple[bool, float | None]:
        """A picture came. Gives whether it begins to play now, and for how long it was away if it was lost, in
        seconds."""
        began, before = self._state is not State.PLAYING, self.last
        self.last, self._state, self._until = now, State.PLAYING, now + self._timeout_s
        if not began:
            return False, None
        self._since = now
        return True, None if before is None else now - before

    def failed(self, now: float) -> bool:
        """It ended, was silent for too long, or could not be opened. Gives whether it is lost from now on."""
        lost = self._state is State.PLAYING
        if lost and now - self._since >= LONGEST_PAUSE_S:  # one that only just came back is not tried more often
            self._backoff.reset()
        self._state = State.PAUSING
        self._until = now + self._backoff.next_s() if self._reopens else float("inf")
        return lost

    def timer(self) -> float | None:
        """When to ask `due` again; None: nothing is waited for."""
        when = min(self._until, self._given_up_at())
        return when if when < float("inf") else None

    def due(self, now: float) -> Act | None:
        """What is to be done now."""
        if now >= self._given_up_at():
            return Act.GIVE_UP
        if now < self._until:
            return None
        return Act.OPEN if self._state is State.PAUSING else Act.LEAVE

    def _given_up_at(self) -> float:
        if self._state is State.PLAYING or self.last is None or self._give_up_after_s is None:
            return float("inf")
        return self.last + self._give_up_after_s
