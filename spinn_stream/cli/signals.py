"""Signals that ask a process to end, and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

ENDS = tuple(
    number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None
)  # fmt: skip


def heeded() -> list[int]:
    """Those that the process was not started to ignore, as `nohup` starts one."""
    return [number for number in ENDS if signal.getsignal(number) is not signal.SIG_IGN]


def ignore(numbers: Sequence[int]) -> None:
    """For the moments in which a process that is done tidies up: nothing may break that off."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def leave_on(numbers: Sequence[int], code: int) -> None:
    """Let a signal end the process at once with this exit code: all is done, and something may still hang."""
    for number in numbers:
        signal.signal(number, lambda *_: os._exit(code))


def leave(code: int) -> NoReturn:
    """End the process. It does not tidy up if a thread still works: a library that is torn down under it aborts."""
    if any(thread.daemon for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)
