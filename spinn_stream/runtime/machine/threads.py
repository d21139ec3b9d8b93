"""Threads that work for an event loop, and the one call that tunes a whole process for answering by a deadline."""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

NICENESS = 10
"""Niceness of the building thread, if the system has it for threads (Linux): running comes first."""

SWITCH_S = 0.0005
"""How long a thread that computes in Python (to set up the scheduler's tables, say) may keep others waiting. A frame
takes the interpreter's lock dozens of times: with Python's own 5 ms each, it would miss its deadline."""


def shorten_pauses() -> None:
    """Call this after loading, in a process that answers by a deadline. It changes the whole process.

    The garbage collector never again searches the present objects: some 60,000 of the libraries, 20 to 50 ms each time.
    """
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()


class OneThread(Executor):
    """One thread that does one thing after the other.

    It is a daemon, so a process can end even if a library never returns from a call.

    Args:
        begin: called in the thread before anything else.
    """

    def __init__(self, name: str, begin: Callable[[], object] = lambda: None) -> None:
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._closed = False
        self._begin = begin
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._closed:
            raise RuntimeError(f"the thread {self._thread.name} was told to end")
        future: Future[T] = Future()
        self._work.put((future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._closed = True
        while cancel_futures:
            try:
                item = self._work.get_nowait()
            except queue.Empty:
                break
            if item is not None:
                item[0].cancel()
        self._work.put(None)
        if wait:
            self._thread.join()

    def _run(self) -> None:
        self._begin()
        while (item := self._work.get()) is not None:
            future, work = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # the waiting caller gets it
                future.set_exception(error)
            del item, future, work  # nothing of it is kept until the next one comes


def worker(name: str) -> Executor:
    """A thread for urgent work."""
    return OneThread(name)


def builder(name: str) -> Executor:
    """A thread that gives way to others."""
    return OneThread(name, _give_way)


def _give_way() -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
