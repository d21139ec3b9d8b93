"""Plays a stream over and over in a thread, so that the node goes on if its camera fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from spinn_client import Result, SpinnError, SyncStream

from .health import Health, health_of

RETRY_S = 2.0


class Player:
    """Opens the stream, passes each final result on, and begins again if it ended or could not be opened.

    make: a stream that is not open yet. give: called with each result, in the player's thread.
    """

    def __init__(self, make: Callable[[], SyncStream], give: Callable[[Result], object]) -> None:
        self._make, self._give = make, give
        self._stream: SyncStream | None = None
        self._why_not = ""
        self._last_s = time.monotonic()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="player", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the stream; takes at most the time that leaving one may take."""
        self._ending.set()
        stream = self._stream
        if stream is not None:
            stream.close()
        self._thread.join(RETRY_S)

    def health(self) -> Health:
        """The present health; any thread may call it."""
        stream = self._stream
        return health_of(None if stream is None else stream.state, self._why_not, time.monotonic() - self._last_s)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._play()
                self._why_not = "the source ended"
            except SpinnError as error:
                self._why_not = str(error)
            except Exception as error:
                self._why_not = f"{type(error).__name__}: {error}"
            self._stream = None
            self._ending.wait(RETRY_S)

    def _play(self) -> None:
        with self._make() as stream:
            self._last_s, self._stream = time.monotonic(), stream
            for result in stream:
                if result.kind == "final":
                    self._last_s = time.monotonic()
                    self._give(result)
