"""The process of `spinn serve`: its signals, its limit of files, and an end that no thread can block."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from spinn_stream.cli.signals import heeded

T = TypeVar("T")

FILES_OF_OUR_OWN = 16
"""Files that are kept for logs, for loading models, and for connections that are being refused."""

MOST_FILES = 65_536
"""Largest limit that is asked for."""

COME_BACK_S = 1.0
"""Time for threads to end by themselves when the process ends."""


def first_signal() -> asyncio.Future[None]:
    """Done at the first signal that asks the process to end; the next one ends it at once.

    If a signal is ignored already, it stays ignored, as `nohup` wants it.
    """
    loop = asyncio.get_running_loop()
    heard: asyncio.Future[None] = loop.create_future()
    numbers = heeded()

    def hear() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        heard.set_result(None)

    for number in numbers:
        loop.add_signal_handler(number, hear)
    return heard


def room_for_sockets() -> int:
    """The number of sockets that the process may have open, after raising its limit of files."""
    if sys.platform == "win32":
        return MOST_FILES
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    used = len(os.listdir("/dev/fd"))  # noqa: PTH208  # as Linux and macOS have it
    return max(1, most - used - FILES_OF_OUR_OWN)


def in_thread_of_its_own(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run `work` in a thread that the end of the process does not wait for."""
    done: Future[T] = Future()

    def run() -> None:
        done.set_running_or_notify_cancel()
        try:
            done.set_result(work())
        except BaseException as error:  # the waiting caller gets it
            done.set_exception(error)

    threading.Thread(target=run, name="set-up", daemon=True).start()
    return asyncio.wrap_future(done)


def leave_if_stuck(code: int, last_words: str = "") -> None:
    """End the process now if a thread does not come back, from an engine that hangs, for instance."""
    end = time.monotonic() + COME_BACK_S
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    for thread in others:
        thread.join(max(0.0, end - time.monotonic()))
    if any(thread.is_alive() for thread in others):
        if last_words:
            print(last_words, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
