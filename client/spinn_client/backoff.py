"""When to try again: exponential back-off with jitter."""

from __future__ import annotations

import random


class Backoff:
    """Delays that double up to a limit, each between half and the whole of its size.

    The limit is small, because a device without its server answers with weaker exits: it should connect within about a
    second of the server's return. The jitter keeps a thousand devices from coming back at the same moment.
    """

    def __init__(self, rng: random.Random, *, first_s: float = 0.1, limit_s: float = 1.0) -> None:
        if not 0 < first_s <= limit_s:
            raise ValueError(f"expected 0 < first_s <= limit_s, got {first_s} and {limit_s}")
        self._rng = rng
        self._first_s = first_s
        self._limit_s = limit_s
        self._attempts = 0

    def next_s(self) -> float:
        """How long to wait before the next attempt, in seconds."""
        size = min(self._limit_s, self._first_s * 2.0 ** min(self._attempts, 30))
        self._attempts += 1
        return size * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """An attempt succeeded: start again with the shortest delay."""
        self._attempts = 0
