"""Times contestants in turn, each in a process of its own.

In a shared process, each would influence where, and in which pages, the weights of the others lie. Each process works
only when it is its turn.
"""

from __future__ import annotations

import gc
import multiprocessing
import random
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

from spinn_stream.runtime.measure.timing import StopRule

ANSWER_TIMEOUT_S = 300.0
"""Building a graph and running it some times takes seconds."""

Run = Callable[[], object]
Maker = Callable[[], Run]
"""Builds the timed function. It is a module's function or a partial of one, since it is sent to another process."""


class Contestant:
    """One maker in a process of its own. A context manager: the process ends with it.

    Args:
        warm_up: runs that are not counted when it was built.
    """

    def __init__(self, maker: Maker, *, warm_up: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, maker, warm_up), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self._process.kill()
        self._process.join()

    def build(self) -> None:
        """Anew. Raises RuntimeError: its process ended, what it printed says why."""
        self._ask(0)

    def streak(self, runs: int) -> list[float]:
        """Times in ms of `runs` runs in a row, but for the first one: the others have taken the caches."""
        return self._ask(runs)

    def _ask(self, runs: int) -> list[float]:
        try:
            self._ours.send(runs)
            if not self._ours.poll(ANSWER_TIMEOUT_S):
                raise RuntimeError(f"a contestant did not answer within {ANSWER_TIMEOUT_S:.0f} s")
            times: list[float] = self._ours.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError("a contestant's process ended") from error
        return times


def _serve(asked: Connection, maker: Maker, warm_up: int) -> None:
    run: Run | None = None
    while True:
        try:
            runs = asked.recv()
        except EOFError:
            return
        if run is None or not runs:
            run = None  # freed first
            gc.collect()
            gc.disable()
            run = maker()
            for _ in range(warm_up):
                run()
        times = []
        for _ in range(runs):
            began = time.perf_counter()
            run()
            times.append((time.perf_counter() - began) * 1000)
        asked.send(times[1:])


def turns(
    contestants: Sequence[Contestant], rule: StopRule, *, streak: int, draw: random.Random
) -> list[list[list[float]]]:
    """Build all anew, then run them in turn, in an order that is drawn for each turn, until the rule is met.

    Returns:
        For each contestant its streaks; the same number for all, at least one.
    """
    for contestant in contestants:
        contestant.build()
    found: list[list[list[float]]] = [[] for _ in contestants]
    end = time.monotonic() + rule.budget_s
    for done in range(1, rule.most + 1):
        for i in draw.sample(range(len(contestants)), len(contestants)):
            found[i].append(contestants[i].streak(streak))
        met = done % 4 == 0 and all(rule.is_met([ms for part in streaks for ms in part]) for streaks in found)
        if met or time.monotonic() > end:
            break
    return found
