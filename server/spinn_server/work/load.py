"""The queueing delay that clients are told."""

from __future__ import annotations

from collections import deque
from statistics import median

WINDOW_S = 1.0
MOST_WAITS = 256
REFRESH_S = 0.05


class Waits:
    """Queueing delay over the last second. Times in seconds, on any steady clock."""

    def __init__(self) -> None:
        self._waits: deque[tuple[float, float]] = deque(maxlen=MOST_WAITS)  # (when, ms)
        self._current: tuple[float, float] = (-REFRESH_S, 0.0)

    def waited(self, ms: float, now: float) -> None:
        """A request waited `ms` for an engine."""
        self._waits.append((now, ms))

    def median_ms(self, now: float) -> float:
        """The median; 0 if none waited. It is read before every answer, so it is computed anew only from time to
        time."""
        at, kept = self._current
        if now - at < REFRESH_S:
            return kept
        recent = [ms for at, ms in self._waits if now - at <= WINDOW_S]
        found = median(recent) if recent else 0.0
        self._current = now, found
        return found
