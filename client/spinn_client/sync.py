"""The stream for programs without asyncio."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from spinn_client.events import Event
from spinn_client.frames.results import Result
from spinn_client.state import State
from spinn_client.steering.guide import FixedPlan
from spinn_client.stream import Stream
from spinn_stream.errors import StreamEnded
from spinn_stream.plan import Plan

CLOSE_S = 2.0
"""Longest time to leave a stream."""

T = TypeVar("T")


class SyncStream:
    """A `Stream` whose event loop runs in a thread of its own.

        with SyncStream(0, server="ws://127.0.0.1:8765") as stream:
            for result in stream: ...

    Callbacks run in that thread. All methods may be called in any thread.

    Args: as of `Stream`.
    """

    def __init__(self, source: Any, **options: Any) -> None:
        self._stream = Stream(source, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ending = threading.Lock()
        self._ended = False

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def open(self) -> None:
        """See `Stream.open`. Ctrl-C ends it at any time."""
        if self._thread is not None:
            raise StreamEnded("a stream is opened once")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop,), name="stream", daemon=True)
        self._thread.start()
        try:
            self._call(self._stream.open())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """See `Stream.close`. If another thread closes it already, wait for that."""
        with self._ending:
            if not self._ended and self._loop is not None and self._thread is not None:
                self._ended = True
                self._close(self._loop, self._thread)

    def _close(self, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
        closing = asyncio.run_coroutine_threadsafe(self._stream.close(), loop)
        try:
            closing.result(CLOSE_S)
        except (TimeoutError, concurrent.futures.CancelledError):
            pass  # a callback holds the loop: the thread, a daemon, ends when it is done
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(0.2)

    def __iter__(self) -> Iterator[Result]:
        """Results as they are ready, until the stream ends. If an error ended it, raises that."""
        while True:
            try:
                yield self._call(anext(self._stream))
            except (StopAsyncIteration, StreamEnded):
                return

    def events(self) -> Iterator[Event]:
        """Events from now on. It waits for the next event, so read it in a thread, or use `on_event`."""
        events = self._on_loop(self._stream.events)
        while True:
            try:
                yield self._call(anext(events))
            except (StopAsyncIteration, StreamEnded):
                return

    def ask(self, pixels: npt.NDArray[np.generic], captured: float | None = None) -> Result:
        """See `Stream.ask`."""
        return self._call(self._stream.ask(pixels, captured))

    def agree(
        self, sla: str | None = None, *, policy: str | None = None, deadline_ms: float | None = None,
        plan: FixedPlan | Plan | None = None,
    ) -> None:  # fmt: skip
        """See `Stream.agree`."""
        self._call(self._stream.agree(sla, policy=policy, deadline_ms=deadline_ms, plan=plan))

    def stop(self) -> None:
        """See `Stream.stop`."""
        self._on_loop(self._stream.stop)

    @property
    def state(self) -> State:
        """See `Stream.state`."""
        return self._stream.state

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it in the loop and wait for it; Ctrl-C ends the wait and the work.

        Raises:
            StreamEnded: there is no loop any more.
        """
        loop = self._loop
        if loop is None or loop.is_closed():
            work.close()
            raise StreamEnded("the stream has ended, or was never opened")
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise StreamEnded("the stream was closed meanwhile") from error
        except BaseException:
            future.cancel()
            raise

    def _on_loop(self, function: Any) -> Any:
        async def call() -> Any:
            return function()

        return self._call(call())
