"""A thread that builds graphs while another one runs the network."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

NICENESS = 10
"""Of the building thread, where the system has one for threads (Linux): running comes first."""


def builder(name: str) -> ThreadPoolExecutor:
    """An executor of one thread that gives way to others."""
    return ThreadPoolExecutor(1, thread_name_prefix=name, initializer=_give_way)


def _give_way() -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
