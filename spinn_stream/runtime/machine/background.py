"""What lets a process answer in time while it also builds: a thread that gives way, and short pauses."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

NICENESS = 10
"""Of the building thread, where the system has one for threads (Linux): running comes first."""

SWITCH_S = 0.0005
"""How long a thread that computes in Python, as one that sets up the scheduler's tables, may keep the others waiting:
a frame takes the interpreter's lock dozens of times, and Python's own 5 ms each would cost it its deadline."""


def shorten_pauses() -> None:
    """Call once all is loaded, in a process that answers by a deadline; concerns the whole process.

    What is alive now is never again looked through for garbage: some 60,000 objects of the libraries, 20 to 50 ms.
    """
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()


def builder(name: str) -> ThreadPoolExecutor:
    """An executor of one thread that gives way to others."""
    return ThreadPoolExecutor(1, thread_name_prefix=name, initializer=_give_way)


def _give_way() -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
