"""`spinn run` as a program of the public API: a stream, a live view, files, signals and a summary."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from spinn_client import Event, Noted, PlanChanged, ServerBack, SourceChanged, SourceEnded, Stream, tune_process
from spinn_client.link.estimate import LinkEstimate
from spinn_client.sinks.console import ConsoleLines
from spinn_client.sinks.files import LAST_LINES_S
from spinn_client.sinks.live import LiveView
from spinn_client.sinks.summary import PLANS, PlanUse, Tally, show_summary, summarise
from spinn_client.sinks.trace import TraceRecorder
from spinn_stream.cli.signals import heeded, ignore
from spinn_stream.errors import ReaderGone, SpinnError

PATIENCE_S = 2.0
"""If the start takes longer, it says what it is doing, even with --quiet."""

SOON_S = 1.0
"""How long files may take to be written after a signal."""

FASTER_THAN_PROFILED = 0.7


@dataclass(frozen=True)
class Ended:
    """How a run ended. error: what ended it early; figures: the object of `--summary`."""

    figures: dict[str, Any]
    error: SpinnError | None


class Run:
    """One call of `spinn run`.

    Args:
        make: makes the stream, given the receivers of its results and events. quiet: no live view and no summary, only
            what a user must know. recorder: writes what the link shows.
    """

    def __init__(
        self,
        console: Console,
        make: Callable[[Callable[[Any], object], Callable[[Event], object]], Stream],
        *,
        quiet: bool = False,
        recorder: TraceRecorder | None = None,
    ) -> None:
        self._console = console
        self._quiet = quiet
        self._recorder = recorder
        self._tally = Tally()
        self._plans: deque[PlanUse] = deque(maxlen=PLANS)
        self._at = ""  # what a start is busy with
        self._takes_long = False
        self._server_seen = self._signalled = False
        self._ending: asyncio.Task[None] | None = None
        self._signals = heeded()
        self._lines = ConsoleLines(console, quiet)
        self.stream = make(self._tally.add, self._tell)

    async def main(self) -> Ended:
        """Run to the end. A signal ends it, too.

        Raises:
            SpinnError: it cannot even begin. CancelledError: a signal came before it had begun.
        """
        loop = asyncio.get_running_loop()
        opening = asyncio.ensure_future(self.stream.open())
        patience = loop.call_later(PATIENCE_S, self._say_what_takes_long)
        for number in self._signals:
            loop.add_signal_handler(number, self._hear, opening)
        try:
            await opening
        except BaseException:
            self._lines.close()
            raise
        finally:
            patience.cancel()
        if self._signalled:
            self.stream.stop()
        ended = await self._play()
        for number in self._signals:
            loop.remove_signal_handler(number)
        ignore(self._signals)  # as the summary is still to be written
        return ended

    async def _play(self) -> Ended:
        stream, began = self.stream, time.monotonic()
        ended: dict[str, Any] = {}
        view = LiveView(self._console, self._tally, lambda: ended or live_state(stream))
        if not self._quiet:
            view.start()
        recording = self._record()
        try:
            await stream.ended()
        finally:
            state = stream.state
            ended = live_state(stream)  # closing takes the link away
            await stream.close(SOON_S if self._signalled else LAST_LINES_S)
            error = stream.error or await self._recorded(recording)
            if not self._quiet:
                view.stop()
        figures = summarise(
            self._tally, bundle=stream.bundle, plans=list(self._plans), captured=state.captured, taken=state.taken,
            dropped=Counter(state.dropped), late=state.late, limited=state.limited,
            audits=state.audits, disagreed=state.disagreed, exit_audits=state.exit_audits,
            exit_disagreed=state.exit_disagreed, bytes_up=state.bytes_up, bytes_down=state.bytes_down,
        )  # fmt: skip
        if state.load < FASTER_THAN_PROFILED:
            self._lines.info(
                f"this device ran at {state.load:.2f} of the time in its profile, which was measured on a busy "
                "machine; `spinn profile` measures it again"
            )
        self._lines.close()
        if not self._quiet:
            show_summary(self._console, figures, time.monotonic() - began)
        if error is not None and not isinstance(error, SpinnError):
            raise error
        return Ended(figures, None if isinstance(error, ReaderGone) else error)

    def _say_what_takes_long(self) -> None:
        """From now on, say what the start is doing, even with --quiet."""
        self._takes_long = self._quiet
        if self._quiet and self._at:
            self._lines.event(f"still starting: {self._at}")

    def _hear(self, opening: asyncio.Future[None]) -> None:
        """A signal ends the start, or the source; the next one ends at once. One handler for all of it: a signal that
        comes while a handler is replaced still calls the one before."""
        first, self._signalled = not self._signalled, True
        if not opening.done():
            opening.cancel()
        elif first:
            self.stream.stop()
        elif self._ending is None:
            self._ending = asyncio.create_task(self.stream.close(), name="close")

    def _record(self) -> asyncio.Task[None] | None:
        if self._recorder is None:
            return None
        estimate = LinkEstimate(time.monotonic())
        self.stream.observe_link(estimate)
        return asyncio.create_task(self._recorder.run(estimate), name="record trace")

    async def _recorded(self, recording: asyncio.Task[None] | None) -> Exception | None:
        if self._recorder is None or recording is None:
            return None
        self._recorder.stop()
        with contextlib.suppress(ReaderGone):
            try:
                await recording
            except SpinnError as error:  # answers mattered more
                return error
        return None

    def _tell(self, event: Event) -> None:
        if isinstance(event, PlanChanged):
            if not self._plans:  # all is loaded, and no frame is taken yet
                tune_process()
            self._plans.append(PlanUse(event.plan, event.reason))
        if isinstance(event, Noted):
            self._at = event.what
            if self._takes_long:
                self._lines.event(f"still starting: {self._at}")
        first_server = isinstance(event, ServerBack) and not self._server_seen
        self._server_seen = self._server_seen or isinstance(event, ServerBack)
        plain_end = isinstance(event, SourceEnded) and not event.why
        if first_server or plain_end:
            return
        if isinstance(event, Noted | SourceChanged) or (isinstance(event, PlanChanged) and event.reason is not None):
            self._lines.info(event.text)
        elif not isinstance(event, PlanChanged):
            self._lines.event(event.text)


def live_state(stream: Stream) -> dict[str, Any]:
    """What the live view shows besides results."""
    state, bundle = stream.state, stream.bundle
    plan = state.plan
    threshold = "none" if plan.confidence_threshold is None else f"{plan.confidence_threshold:g}"
    return {
        "link": state.link,
        "rtt_ms": state.rtt_ms,
        "up_mbps": state.up_mbps,
        "load": state.load,
        "plan": f"{plan.id}: split {bundle.cut_points[plan.split].name}, threshold {threshold}, "
                f"codec {plan.codec or 'none'}",
    }  # fmt: skip
