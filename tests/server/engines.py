"""Engines that fail or wait, for tests: the real one with something in its way."""

from __future__ import annotations

import threading

import numpy as np

from spinn_stream.runtime import Engine, ExitOutput
from spinn_stream.runtime.engines.base import Activation


class Wrapped:
    """The real engine."""

    name = "wrapped"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None:
        self._engine.prepare(start, stop, exit=exit, batches=batches)

    def ready(self, start: int, stop: int, *, exit: bool = True) -> bool:
        return self._engine.ready(start, stop, exit=exit)

    def drop(self, start: int, stop: int, *, exit: bool = True) -> None:
        self._engine.drop(start, stop, exit=exit)

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> tuple[Activation, ExitOutput | None]:
        return self._engine.run(start, stop, x, exit=exit)


class Failing(Wrapped):
    """It works until told to fail: the next runs, as many as said."""

    name = "failing"

    def __init__(self, engine: Engine, error: BaseException) -> None:
        super().__init__(engine)
        self._error = error
        self.failures = 0

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> tuple[Activation, ExitOutput | None]:
        if self.failures > 0:
            self.failures -= 1
            raise self._error
        return super().run(start, stop, x, exit=exit)


class Poisoned(Wrapped):
    """It stumbles over one activation: fails, or computes numbers that are none.

    Args:
        poison: (1, C, H, W), as it comes at the start of a piece; None: nothing yet.
    """

    name = "poisoned"

    def __init__(self, engine: Engine, *, fails: bool) -> None:
        super().__init__(engine)
        self._fails = fails
        self.poison: Activation | None = None

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> tuple[Activation, ExitOutput | None]:
        if self.poison is not None and x.shape[1:] == self.poison.shape[1:]:
            bad = [n for n, row in enumerate(x) if np.array_equal(row, self.poison[0])]
            if bad and self._fails:
                raise RuntimeError("illegal instruction")
            x = x.copy()
            x[bad] = np.nan
        return super().run(start, stop, x, exit=exit)


class Held(Wrapped):
    """Runs wait until they are let go."""

    name = "held"

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.running = threading.Event()
        self.let_go = threading.Event()

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> tuple[Activation, ExitOutput | None]:
        self.running.set()
        self.let_go.wait(20)
        return super().run(start, stop, x, exit=exit)


class Prepared(Wrapped):
    """It runs only what was prepared, and several requests only where it was prepared for batches."""

    name = "prepared"

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.batches: dict[tuple[int, int], bool] = {}  # of each piece that is there: whether it takes them
        self.largest = 0

    def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None:
        super().prepare(start, stop, exit=exit, batches=batches)
        self.batches[start, stop] = batches or self.batches.get((start, stop), False)

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> tuple[Activation, ExitOutput | None]:
        if len(x) > 1:
            assert self.batches[start, stop]
        assert (start, stop) in self.batches
        self.largest = max(self.largest, len(x))
        return super().run(start, stop, x, exit=exit)
