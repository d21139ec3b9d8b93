"""What clients are told of how busy the server is."""

from __future__ import annotations

from collections import deque
from statistics import median

from spinn_stream.profile import LoadTracker, Profile

WINDOW_S = 1.0
MOST_WAITS = 256
REFRESH_S = 0.05


class ServerLoad:
    """Queueing delay and load factor over the last second. Times in seconds, on any steady clock.

    Args:
        profile: what runs take when the machine is idle; None: the load factor stays 1.
    """

    def __init__(self, profile: Profile | None) -> None:
        self._profile = profile
        self._waits: deque[tuple[float, float]] = deque(maxlen=MOST_WAITS)  # (when, ms)
        self._runs = LoadTracker()
        self._current: tuple[float, tuple[float, float]] = (-REFRESH_S, (0.0, 1.0))

    def waited(self, ms: float, now: float) -> None:
        """A request waited for an engine."""
        self._waits.append((now, ms))

    def ran(self, start: int, stop: int, *, batch: int, ms: float, now: float) -> None:
        """A batch went from one cut point to another, the exit there included."""
        if self._profile is not None:
            expected = self._profile.expected_ms([(start, stop)], {stop}, batch=batch)
            self._runs.observe((start, stop), observed_ms=ms, expected_ms=expected, now=now)

    def current(self, now: float) -> tuple[float, float]:
        """(median queueing delay in ms, load factor); asked for before every answer, so found anew now and then."""
        at, kept = self._current
        if now - at < REFRESH_S:
            return kept
        recent = [ms for at, ms in self._waits if now - at <= WINDOW_S]
        found = (median(recent) if recent else 0.0), self._runs.factor(now)
        self._current = now, found
        return found
