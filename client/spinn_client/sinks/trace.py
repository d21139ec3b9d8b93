"""`--record-trace`: what a session sees of its link, as a trace that can be replayed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from spinn_stream.errors import ConfigError
from spinn_stream.plan import LinkEstimate, LinkReading
from spinn_stream.trace import LIMITS, csv_end, csv_head, csv_row

FIELDS = ("up_mbps", "rtt_ms")
STEP_S = 1.0

HEAD = (
    "recorded by spinn run: what its own requests saw of the link",
    "up_mbps: of seconds in which they filled the link; in others it holds on, or was found to be at least so much",
    "down_mbps: answers are too small to tell",
)


class TraceRows:
    """Lines of the file, from one reading after the other.

    A reading of a link that was not full is only a lower bound. It is written as a comment, and as a value where the
    value that would hold otherwise is known to be too low.
    """

    def __init__(self, began: float) -> None:
        self._began = began
        self._up_mbps: float | None = None  # what a replay has there
        self._bound = 0.0
        self._rows = 0

    def head(self) -> Iterator[str]:
        return csv_head(FIELDS, FIELDS, HEAD)

    def lines(self, reading: LinkReading, now: float) -> Iterator[str]:
        """What is known of the stretch that ends now; nothing where nothing was seen."""
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
    """Writes a row a second and hands it to the system at once, so that a run that is killed keeps what it had.

    Raises:
        ConfigError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stopped = asyncio.Event()
        try:
            self._file = path.open("w")
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from error

    async def run(self, estimate: LinkEstimate) -> None:
        """Until stopped. Raises as the class says."""
        began = time.monotonic()
        rows = TraceRows(began)
        estimate.reading(began)
        await self._write(rows.head())
        steps = 0
        while not self._stopped.is_set():
            steps += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(began + steps * STEP_S - time.monotonic()):
                    await self._stopped.wait()
                    break
            now = time.monotonic()
            await self._write(rows.lines(estimate.reading(now), now))
        await self._write(rows.end(time.monotonic()))

    def stop(self) -> None:
        """`run` ends soon, with the end written."""
        self._stopped.set()

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise ConfigError(f"cannot write {self._path}: {error.strerror}") from error

    async def _write(self, lines: Iterable[str]) -> None:
        """In another thread: a slow disk delays no answer."""
        await asyncio.to_thread(self._append, list(lines))

    def _append(self, lines: Iterable[str]) -> None:
        try:
            self._file.writelines(f"{line}\n" for line in lines)
            self._file.flush()
        except OSError as error:
            raise ConfigError(f"cannot write {self._path}: {error.strerror}") from error
