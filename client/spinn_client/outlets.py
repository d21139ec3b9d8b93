"""Where a stream's results and events go: to iterators, to `ask`, to callbacks and to sinks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from spinn_client.events import Event, Warned
from spinn_client.frames.results import Result
from spinn_client.mailbox import Mailbox
from spinn_client.sinks.base import Sink
from spinn_stream.errors import FrameDropped, SpinnError, StreamEnded
from spinn_stream.runtime.machine.threads import OneThread

log = logging.getLogger(__name__)

MOST_UNREAD = 1024
"""Results that wait for their reader at most. Then the oldest is dropped and counted; if every frame is wanted, the
source waits instead."""


class Outlets:
    """All methods but the constructor run on the event loop.

    Args:
        sinks: closed by `close`. on_result, on_event: called back; their exceptions are reported once and change
            nothing.
        failed: called with the error of a sink that can take no more results.
        clock: seconds, as of events.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        on_result: Callable[[Result], object] | None,
        on_event: Callable[[Event], object] | None,
        failed: Callable[[SpinnError], object],
        clock: Callable[[], float],
    ) -> None:
        self._sinks = tuple(sinks)
        self._on_result, self._on_event = on_result, on_event
        self._failed = failed
        self._now = clock
        self.results: Mailbox[Result] = Mailbox(MOST_UNREAD)
        self._boxes: list[Mailbox[Event]] = []
        self._questions: dict[int, asyncio.Future[Result]] = {}
        self._ended = self._told_of_callback = False

    def emit(self, result: Result) -> None:
        """Give one result to all of them."""
        if self._on_result is None:
            self.results.put(result)
        else:
            self._call(self._on_result, result)
        for sink in self._sinks:
            try:
                sink.add(result)
            except SpinnError as error:
                self._failed(error)
        question = self._questions.get(result.frame)
        if question is not None and result.kind == "final" and not question.done():
            question.set_result(result)

    def tell(self, event: Event) -> None:
        """Give one event to all of them."""
        for box in self._boxes:
            box.put(event)
        for sink in self._sinks:
            sink.event(event)
        if self._on_event is not None:
            self._call(self._on_event, event)

    def events(self) -> AsyncIterator[Event]:
        """Events from now on; if nobody reads them, the oldest are dropped."""
        box: Mailbox[Event] = Mailbox(MOST_UNREAD)
        self._boxes.append(box)
        if self._ended:
            box.end()
        return self._read(box)

    async def _read(self, box: Mailbox[Event]) -> AsyncIterator[Event]:
        try:
            while (event := await box.get()) is not None:
                yield event
        finally:
            self._boxes.remove(box)

    async def answer(self, frame: int) -> Result:
        """The final result of a frame that was just handed in.

        Raises:
            FrameDropped: it was never taken in. StreamEnded: there will be none.
        """
        question: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._questions[frame] = question
        try:
            return await question
        finally:
            self._questions.pop(frame, None)

    def dropped(self, frame: int, reason: str) -> None:
        """A frame was not taken in."""
        question = self._questions.get(frame)
        if question is not None and not question.done():
            question.set_exception(FrameDropped(frame, reason))

    async def wait_for_reader(self) -> None:
        """Wait until the iterator has read most of the results; returns at once if results go elsewhere."""
        if self._on_result is None and not self._sinks:
            await self.results.until_fewer_than(MOST_UNREAD // 2)

    def no_more_results(self) -> None:
        self.results.end()
        for question in self._questions.values():
            if not question.done():
                question.set_exception(StreamEnded("the stream ended before this frame was answered"))

    async def close(self, most_s: float) -> None:
        """Close all sinks at the same time, and end the events. most_s: time for them to write what they have."""
        self._ended = True
        self.no_more_results()
        loop = asyncio.get_running_loop()
        threads = [OneThread("closing a sink") for _ in self._sinks]
        give_up_s = 0.75 * most_s  # and the rest is for saying so
        closing = [loop.run_in_executor(t, s.close, give_up_s) for t, s in zip(threads, self._sinks, strict=True)]
        if closing:
            await asyncio.wait(closing, timeout=most_s)
        for future in closing:
            error = future.exception() if future.done() else SpinnError(f"a sink took more than {most_s:g} s to end")
            if isinstance(error, SpinnError):
                self._failed(error)
            elif error is not None:
                log.error("closing a sink failed", exc_info=error)
        for thread in threads:
            thread.shutdown(wait=False)
        for box in self._boxes:
            box.end()

    def _call(self, callback: Callable[[Any], object], what: Result | Event) -> None:
        try:
            callback(what)
        except Exception as error:
            if not self._told_of_callback:
                self._told_of_callback = True
                log.exception("a callback of the stream failed")
                self.tell(Warned(self._now(), f"a callback failed: {type(error).__name__}: {error}"))
