"""An event loop whose time is a number: it jumps to the next timer instead of waiting for it.

Coroutines, timers and time-outs run as on any loop, in the order of their virtual times. A job of a thread runs at once
when its turn comes, and takes the virtual time that it says it spends.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from contextvars import Context
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Stuck(RuntimeError):
    """Every task waits for something that will never happen."""


class _NoWaiting(selectors.SelectSelector):
    """A selector that tells how long the loop would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Stuck("every task waits, and no timer is set")
        self.waited_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time begins at 0 and is in seconds. Nothing outside can wake it: no sockets, no real threads."""

    def __init__(self) -> None:
        self._waiting = _NoWaiting()
        self._in_job: float | None = None  # the time that the job under way has come to
        super().__init__(self._waiting)

    def time(self) -> float:
        return self._waiting.waited_s

    @property
    def _clock_resolution(self) -> float:
        """asyncio runs timers that are due within this. Here none is early, however little: who asked for it would see
        that it is not time yet and ask again, and time would stand still.
        """
        return math.ulp(self.time())

    @_clock_resolution.setter
    def _clock_resolution(self, seconds: float) -> None:
        """The resolution of the machine's clock, which asyncio sets; no matter here."""

    def clock(self) -> float:
        """The time; inside a job, the job's own time."""
        return self.time() if self._in_job is None else self._in_job

    def spend(self, seconds: float) -> None:
        """The running job takes this much longer. Raises RuntimeError outside of a job."""
        if self._in_job is None:
            raise RuntimeError("time is spent in jobs alone")
        self._in_job += seconds

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """From a job: at the job's own time."""
        if self._in_job is None:
            return self.call_soon(callback, *args, context=context)
        return self.call_at(self._in_job, callback, *args, context=context)

    def job(self, work: Callable[[], object], delay_s: float) -> float:
        """Do `work` now, as if `delay_s` later; gives its end. `work` does not raise."""
        self._in_job = self.time() + delay_s
        try:
            work()
            return self._in_job
        finally:
            self._in_job = None


class VirtualThread(Executor):
    """Does one job after the other, in order. A job sees things as they were when it began.

    Args:
        hand_over_s: from asking until a job begins, and again until its result is there.
    """

    def __init__(self, loop: VirtualLoop, hand_over_s: float = 0.0) -> None:
        self._loop = loop
        self._hand_over_s = hand_over_s
        self._queue: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._busy = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        self._queue.append((future, partial(fn, *args, **kwargs)))
        if not self._busy:
            self._next()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            for future, _ in self._queue:
                future.cancel()
            self._queue.clear()

    def _next(self) -> None:
        while self._queue:
            future, fn = self._queue.popleft()
            if future.set_running_or_notify_cancel():
                self._busy = True
                outcome: list[Any] = []

                def work(fn: Callable[[], Any] = fn, outcome: list[Any] = outcome) -> None:
                    try:
                        outcome.extend((True, fn()))
                    except BaseException as error:  # the waiting caller gets it
                        outcome.extend((False, error))

                end = self._loop.job(work, self._hand_over_s)
                self._loop.call_at(end + self._hand_over_s, self._done, future, *outcome)
                return
        self._busy = False

    def _done(self, future: Future[Any], good: bool, value: Any) -> None:
        if good:
            future.set_result(value)
        else:
            future.set_exception(value)
        self._next()


def run_virtually(loop: VirtualLoop, main: Coroutine[Any, Any, T]) -> T:
    """Run it to its end in virtual time.

    Raises:
        Stuck: it waits for something that never happens.
    """
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main)
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()
