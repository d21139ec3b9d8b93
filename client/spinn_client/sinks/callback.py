"""Gives answers to functions of the program that embeds the client."""

from __future__ import annotations

from collections.abc import Callable

from spinn_client.events import Event
from spinn_client.frames.results import Result

from .background import Background

MAX_WAITING = 1000
"""Most results and events that may wait for a slow function; then the oldest is dropped."""

LAST_CALL_S = 1.0


class Callback:
    """Calls a function for each result, and another for each event, in one thread of its own.

    Slow functions delay no answer: if too many results wait, the oldest is dropped and counted in `dropped`. If a
    function raises, the next `add`, or `close`, raises the same.
    """

    def __init__(
        self, on_result: Callable[[Result], object], on_event: Callable[[Event], object] | None = None
    ) -> None:
        self._on_result = on_result
        self._on_event = on_event
        self._thread: Background[Result | Event] = Background(self._call, name="callback", bound=MAX_WAITING)

    @property
    def dropped(self) -> int:
        return self._thread.dropped

    def begin(self, tell: Callable[[str], object]) -> None:
        """Nothing to open."""

    def add(self, result: Result) -> None:
        self._thread.put_newest(result)

    def event(self, event: Event) -> None:
        if self._on_event is not None:
            self._thread.put_newest(event)

    def close(self, within_s: float = LAST_CALL_S) -> None:
        """Wait for calls that are left. Raises what a function raised."""
        self._thread.close(within_s)
        if self._thread.failure is not None:
            raise self._thread.failure

    def _call(self, items: list[Result | Event]) -> None:
        for item in items:
            if not isinstance(item, Event):
                self._on_result(item)
            elif self._on_event is not None:
                self._on_event(item)
