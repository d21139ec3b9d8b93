"""What a process runs on: its clock, its threads and the speed of its work. A simulation puts in its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Literal, Protocol

from .threads import builder, worker


@dataclass(frozen=True)
class Step:
    """A piece of work that a thread has done.

    start, stop, exit: of a graph, and whether it computed the exit at its end; other kinds of work have their cut point
    as `start`. batch: number of frames done together. codec: that coded or decoded.
    """

    kind: Literal["preprocess", "graph", "encode", "decode"]
    start: int
    stop: int = 0
    exit: bool = False
    batch: int = 1
    codec: str = ""


class Pace(Protocol):
    """Called in the thread after each piece of its work, with the time at which it began; may take time itself."""

    def __call__(self, step: Step, began: float) -> None: ...


def full_speed(step: Step, began: float) -> None:
    """Takes no time."""


class Slowed:
    """Behaves like a slower processor: it sleeps (factor - 1) times as long as the work took.

    It stands for a small board, but caches, memory and the other core are those of this machine. If the machine takes
    the processor away meanwhile, that time is not multiplied: the work took no more of the process's processor time
    than there was since the work before.

    Args:
        factor: 1 or more; may be changed while it runs.
    """

    def __init__(self, factor: float) -> None:
        if not 1 <= factor <= 1000:
            raise ValueError(f"the slowdown is {factor}, expected 1 to 1000")
        self.factor = factor
        self._used = time.process_time()

    def __call__(self, step: Step, began: float) -> None:
        used = time.process_time()
        took = min(time.monotonic() - began, used - self._used)
        self._used = used
        if self.factor > 1:
            time.sleep((self.factor - 1) * took)


@dataclass(frozen=True)
class Host:
    """The host of a process; by default this machine.

    clock: seconds, never falling; called on the event loop and in threads. worker: makes the thread that runs the
    network, by its name. builder: makes the thread that builds graphs meanwhile. pace: see `Pace`.
    """

    clock: Callable[[], float] = time.monotonic
    worker: Callable[[str], Executor] = worker
    builder: Callable[[str], Executor] = builder
    pace: Pace = full_speed


THIS_MACHINE = Host()
