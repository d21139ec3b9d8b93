"""How long the machine let nobody run, so that a test of deadlines need not guess.

A process of its own sleeps 2 ms at a time on each core and writes when it was woken much later than that: a virtual
machine whose processor is lent to another, a quota that is used up, or a core that has more to do than it can. What
happened to a client's frame in such a time is no fault of the client.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

NAP_S = 0.002
LEAST_S = 0.005
"""A shorter delay is none: any process has to wait for its turn."""


class Stalls:
    """Watches from `__init__` to `end`."""

    def __init__(self) -> None:
        command = [sys.executable, "-S", "-E", str(Path(__file__))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._found: list[tuple[float, float]] = []

    @property
    def pid(self) -> int:
        """Of the process that watches."""
        return self._process.pid

    def end(self) -> None:
        """What was seen can be asked for from now on. A second call does nothing."""
        if self._process.returncode is None:
            text, _ = self._process.communicate(timeout=10)  # it ends with its standard input
            self._found = [(float(a), float(b)) for a, b in (line.split() for line in text.splitlines())]

    def within_ms(self, began_s: float, ended_s: float) -> float:
        """The longest of any core's delays in this time, times of `time.monotonic`; delays one after the other add."""
        overlaps = sorted((max(a, began_s), min(b, ended_s)) for a, b in self._found if a < ended_s and b > began_s)
        total, reached = 0.0, began_s
        for start, stop in overlaps:
            total += max(0.0, stop - max(start, reached))
            reached = max(reached, stop)
        return 1000 * total


def _watch(core: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})  # of this thread
    while True:
        began = time.monotonic()
        time.sleep(NAP_S)
        ended = time.monotonic()
        if ended - began > NAP_S + LEAST_S:
            print(began + NAP_S, ended, flush=True)


if __name__ == "__main__":
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    for core in cores:
        threading.Thread(target=_watch, args=(core,), daemon=True).start()
    sys.stdin.read()
