"""An engine that gives a piece to the next engine if the first cannot build it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from spinn_stream.errors import EngineError
from spinn_stream.runtime.engines.base import Activation, Engine, ExitOutput

log = logging.getLogger(__name__)


class FallbackEngine:
    """See `Engine`: the first engine of a list that works, and the others for what it cannot do.

    Engines are opened when they are needed. If one cannot build or run a piece, the next one does, with one warning for
    each engine and reason. Pieces of different engines fit together, since all use the same cut points.
    """

    def __init__(
        self, openers: Sequence[tuple[str, Callable[[], Engine]]], *, warn: Callable[[str], object] = log.warning
    ) -> None:
        """
        Args:
            openers: name and opener of each engine, best first.

        Raises:
            EngineError: none of them opens; gives the reason of each.
        """
        self._waiting = list(openers)
        self._warn = warn
        self._engines: list[Engine] = []
        self._refusals: list[str] = []
        self._moved: dict[tuple[int, int, bool], int] = {}  # piece -> place of the engine that runs it
        self._warned: set[str] = set()
        if not self._has(0):
            raise EngineError("no engine works here: " + "; ".join(self._refusals))
        self.name = self._engines[0].name

    def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None:
        place = self._moved.get((start, stop, exit), 0)
        first: EngineError | None = None
        while self._has(place):
            try:
                self._engines[place].prepare(start, stop, exit=exit, batches=batches)
            except EngineError as error:
                first = first or error
                place += 1
                continue
            if first is not None:
                self._move(start, stop, exit, place, first)
            return
        assert first is not None  # the loop ran: there is an engine at every place that pieces moved to
        raise first

    def ready(self, start: int, stop: int, *, exit: bool = True) -> bool:
        return self._engines[self._moved.get((start, stop, exit), 0)].ready(start, stop, exit=exit)

    def drop(self, start: int, stop: int, *, exit: bool = True) -> None:
        for engine in self._engines:
            engine.drop(start, stop, exit=exit)

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> tuple[Activation, ExitOutput | None]:
        place = self._moved.get((start, stop, exit), 0)
        try:
            return self._engines[place].run(start, stop, x, exit=exit)
        except EngineError as error:
            first = error
        while self._has(place + 1):  # what the next one runs, this one could not; what none runs, was a wrong input
            place += 1
            try:
                result = self._engines[place].run(start, stop, x, exit=exit)
            except EngineError:
                continue
            self._move(start, stop, exit, place, first)
            return result
        raise first

    def _move(self, start: int, stop: int, exit: bool, place: int, error: EngineError) -> None:
        """Another engine runs this piece from now on."""
        self._moved[start, stop, exit] = place
        self._say(f"{error}; {self._engines[place].name} runs it instead")

    def _has(self, place: int) -> bool:
        """Whether there is an engine at this place, opened if need be."""
        while len(self._engines) <= place and self._waiting:
            name, opener = self._waiting.pop(0)
            try:
                self._engines.append(opener())
            except EngineError as error:
                self._refusals.append(str(error))
                left = self._waiting[0][0] if self._waiting else "none"
                self._say(f"engine {name} cannot be used: {error}; the next one: {left}")
        return len(self._engines) > place

    def _say(self, text: str) -> None:
        if text not in self._warned and len(self._warned) < 100:
            self._warned.add(text)
            self._warn(text)
