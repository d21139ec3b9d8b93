"""Plays games against a target, and judges what each message costs."""

from __future__ import annotations

import faulthandler
import random
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

SLOWEST_S = 1.0  # CPU time of one message
HANGS_S = 60.0  # of the wall's, of EVERY games: a traceback, and the end of the process
EVERY = 1000
MEMORY_EVERY = 50  # one message in this number has its allocations counted
MEMORY_FACTOR, MEMORY_FIXED = 4, 5 << 18
"""Most bytes for a message: times its size, and this. msgpack takes 256 KiB for any message. It interns names in it,
and after many of them Python rebuilds its table of names, which takes 1 MB; it is no larger afterwards."""
FAULTS_TOLD = 10


@dataclass
class Found:
    """What came of the messages."""

    messages: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_ms: float = 0.0  # CPU time
    memory_share: float = 0.0  # most that a message took of what it may
    faults: list[str] = field(default_factory=list)

    def count(self, outcome: str) -> None:
        self.outcomes[outcome] += 1

    @contextmanager
    def message(self, size: int) -> Iterator[None]:
        """One message is dealt with inside.

        Raises:
            AssertionError: it took too long, or more memory than a message of this size may.
        """
        counted = self.messages % MEMORY_EVERY == 0
        self.messages += 1
        if counted:
            tracemalloc.start()
        began = time.process_time()
        try:
            yield
        finally:
            took = time.process_time() - began
            if counted:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                share = peak / (MEMORY_FACTOR * size + MEMORY_FIXED)
                self.memory_share = max(self.memory_share, share)
                assert share <= 1, f"{peak} bytes allocated for {size} bytes"
            self.slowest_ms = max(self.slowest_ms, took * 1000)
            assert took <= SLOWEST_S, f"{took:.1f} s of CPU time for {size} bytes"

    def as_dict(self) -> dict[str, Any]:
        return {
            "messages": self.messages,
            "outcomes": dict(sorted(self.outcomes.items())),
            "slowest_cpu_ms": round(self.slowest_ms, 1),
            "most_allocated_of_allowed": round(self.memory_share, 3),
            "faults": self.faults,
        }


def fuzz(game: Callable[[random.Random], None], found: Found, messages: int, seed: int) -> None:
    """Play games until `found` has counted this many messages. Game N of a seed is always the same one.

    Whatever a game raises is a fault.
    """
    number = 0
    while found.messages < messages and len(found.faults) < FAULTS_TOLD:
        if number % EVERY == 0:
            faulthandler.dump_traceback_later(HANGS_S, exit=True, file=sys.__stderr__)
        try:
            game(random.Random(seed << 40 | number))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a panic in native code is one
            found.faults.append(f"game {number} of seed {seed}: {type(error).__name__}: {error}"[:1000])
        number += 1
    faulthandler.cancel_dump_traceback_later()
