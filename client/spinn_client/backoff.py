"""When to try again: exponential back-off with decorrelated jitter."""

from __future__ import annotations

import random


class Backoff:
    """Delays drawn between the first and three times the one before, up to a limit.

    Each client's delays drift apart from every other's, so that a thousand devices do not return together (M. Brooker,
    Exponential Backoff and Jitter, AWS Architecture Blog, 2015). The limit is small because a device without its server
    is answering from weaker exits: it should be back within a second of the server.
    """

    def __init__(self, rng: random.Random, *, first_s: float = 0.1, limit_s: float = 1.0) -> None:
        if not 0 < first_s <= limit_s:
            raise ValueError(f"expected 0 < first_s <= limit_s, got {first_s} and {limit_s}")
        self._rng = rng
        self._first_s = first_s
        self._limit_s = limit_s
        self._last_s = first_s / 3

    def next_s(self) -> float:
        """How long to wait before the next attempt, in seconds."""
        self._last_s = self._rng.uniform(self._first_s, min(self._limit_s, max(self._first_s, 3 * self._last_s)))
        return self._last_s

    def reset(self) -> None:
        """All is well: start again with the shortest delay."""
        self._last_s = self._first_s / 3
