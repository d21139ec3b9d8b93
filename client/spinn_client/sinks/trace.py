"""`--record-trace`: what a session sees of its link, as a trace that can be replayed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from spinn_client.link.estimate import LinkEstimate, LinkReading
from spinn_stream.trace import LIMITS, csv_end, csv_head, csv_row

from .files import LineWriter, OutputFile

FIELDS = ("up_mbps", "rtt_ms")
STEP_S = 1.0
LAST_ROW_S = 1.0  # a row is small

HEAD = (
    "recorded by spinn run: what its own requests saw of the link",
    "up_mbps: of seconds in which they filled the link; in others it holds on, or is known to be at least that",
    "down_mbps: answers are too small to tell",
)


class TraceRows:
    """Lines of the file, from one reading after the other.

    If the link was not full, a reading is only a lower bound. It is written as a comment, and as a value, too, if the
    value before is lower.
    """

    def __init__(self, began: float) -> None:
        self._began = began
        self._up_mbps: float | None = None  # what a replay has there
        self._bound = 0.0
        self._rows = 0

    def head(self) -> Iterator[str]:
        return csv_head(FIELDS, FIELDS, HEAD)

    def lines(self, reading: LinkReading, now: float) -> Iterator[str]:
        """The lines for the time since the last reading; none if nothing was seen."""
        t_s = round(max(0.0, now - self._began - STEP_S), 3)
        up_mbps = reading.up_mbps
        if up_mbps is not None:
            up_mbps = min(float(f"{up_mbps:.4g}"), LIMITS["up_mbps"])
            if reading.full:
                self._up_mbps = up_mbps
            elif self._up_mbps is not None and up_mbps > self._up_mbps:
                yield f"# up_mbps at {t_s:g} s is a lower bound"
                self._up_mbps = up_mbps
            else:
                if self._up_mbps is None and up_mbps > 1.1 * self._bound:
                    self._bound = up_mbps
                    yield f"# up_mbps at {t_s:g} s: at least {up_mbps:g}; the link was not full"
                up_mbps = None
        rtt_ms = None if reading.rtt_ms is None else min(round(reading.rtt_ms, 1), LIMITS["rtt_ms"])
        if up_mbps is not None or rtt_ms is not None:
            self._rows += 1
            yield csv_row(t_s, (up_mbps, rtt_ms))

    def end(self, now: float) -> Iterator[str]:
        if self._rows:
            yield csv_end(round(now - self._began, 3), FIELDS)


class TraceRecorder:
    """Writes a row a second, at once, so that the rows are kept if the run is killed.

    The file is created or emptied when `run` begins.

    Raises:
        ConfigError: the file cannot be written; it was not touched.
    """

    def __init__(self, output: OutputFile | Path) -> None:
        self._stopped = asyncio.Event()
        output = output if isinstance(output, OutputFile) else OutputFile(output)
        self._lines: LineWriter[list[str]] = LineWriter(output, lambda lines: "".join(f"{line}\n" for line in lines))

    async def run(self, estimate: LinkEstimate) -> None:
        """Until stopped.

        Raises:
            ReaderGone, ConfigError: the file cannot be written.
        """
        began = time.monotonic()
        rows = TraceRows(began)
        estimate.reading(began)
        self._lines.add(list(rows.head()))
        steps = 0
        try:
            while not self._stopped.is_set():
                steps += 1
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(began + steps * STEP_S - time.monotonic()):
                        await self._stopped.wait()
                        break
                now = time.monotonic()
                self._lines.add(list(rows.lines(estimate.reading(now), now)))
            self._lines.add(list(rows.end(time.monotonic())))
        finally:
            await asyncio.to_thread(self._lines.close, LAST_ROW_S)

    def stop(self) -> None:
        """`run` ends soon, with the end written."""
        self._stopped.set()

    def close(self) -> None:
        """Let go of the file. Raises as `run`, if that did not."""
        self._lines.close(LAST_ROW_S)
