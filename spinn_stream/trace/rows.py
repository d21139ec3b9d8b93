"""Makes a trace of a file's rows. Every value is checked while its line number is known."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence

import numpy as np

from spinn_stream.errors import TraceError

from .trace import LIMITS, MAX_DURATION_S, MAX_SAMPLES, Array, Trace

UNITS = {"up_mbps": "Mb/s", "down_mbps": "Mb/s", "rtt_ms": "ms", "loss": "as a fraction"}


class Rows:
    """Collects rows of some fields and checks each.

    name: what errors begin with, the file. same_time: rows of the same time are averaged; otherwise they are refused.
    `add` takes a time in seconds from anywhere; the first becomes 0. Times are kept to a microsecond.
    """

    def __init__(self, name: str, fields: Sequence[str], *, same_time: bool = False) -> None:
        self._name = name
        self._fields = tuple(fields)
        self._limits = [LIMITS[field] for field in fields]
        self._same_time = same_time
        self._times = array("d")
        self._columns = [array("d") for _ in fields]
        self._counts = [0] * len(self._fields)  # how many values of the last time each field is the mean of
        self._first = 0.0
        self._line = 0
        self.rows = 0
        self.filled = dict.fromkeys(self._fields, 0)
        """For each field, the number of rows that had it."""
        self.medians: dict[str, float] = {}
        """Median of each field over the rows that had it; available after `finish`."""
        self.notes: list[str] = []
        """What had to be assumed, for the user."""

    def error(self, line: int, text: str) -> TraceError:
        return TraceError(f"{self._name}:{line}: {text}")

    def add(self, line: int, t_s: float, values: Sequence[float | None]) -> None:
        """One row; None: it does not have this field.

        Raises:
            TraceError: a time that goes back, a value out of its limits, too many rows.
        """
        if not self._times:
            if not math.isfinite(t_s):
                raise self.error(line, f"the time is {t_s}, expected a number")
            self._first = t_s
        at = round(t_s - self._first, 6)
        last = self._times[-1] if self._times else -1.0
        if not last < at <= MAX_DURATION_S and not (at == last and self._same_time):
            raise self._bad_time(line, t_s, at, last)
        for field, limit, value in zip(self._fields, self._limits, values, strict=True):
            if value is not None and not 0 <= value <= limit:
                raise self.error(line, f"{field} is {value:g}, expected 0 to {limit:g} {UNITS[field]}")
        self._line = line
        self.rows += 1
        if at == last:
            self._average(values)
            return
        if len(self._times) == MAX_SAMPLES:
            raise self.error(line, f"more than {MAX_SAMPLES} samples; cut the file into pieces")
        self._times.append(at)
        for i, value in enumerate(values):
            self._columns[i].append(math.nan if value is None else value)
            self._counts[i] = value is not None
            self.filled[self._fields[i]] += value is not None

    def _bad_time(self, line: int, t_s: float, at: float, last: float) -> TraceError:
        if at == last:
            return self.error(line, f"the time {t_s:.10g} s again, expected a later one than in the row before")
        if at < last:
            before = self._first + last
            return self.error(line, f"the time goes back from {before:.10g} to {t_s:.10g} s, expected rising times")
        return self.error(line, f"the time is {t_s:g} s, {at:g} after the first, expected at most {MAX_DURATION_S:g}")

    def _average(self, values: Sequence[float | None]) -> None:
        for i, value in enumerate(values):
            if value is not None:
                self._counts[i] += 1
                before = self._columns[i][-1] if self._counts[i] > 1 else value
                self._columns[i][-1] = before + (value - before) / self._counts[i]
                self.filled[self._fields[i]] += 1

    def finish(self, *, end_s: float | None = None, measured: Iterable[str] | None = None) -> Trace:
        """The trace. A row without a field repeats the value before; those before its first value take that one.

        end_s: on the clock of the rows; without, the last row lasts as long as the median one.
        measured: names of the measured fields; without, all that any row had.

        Raises:
            TraceError: no rows, or nothing in them.
        """
        if not self._times:
            raise self.error(max(1, self._line), "no rows of data; the trace is empty")
        times = np.array(self._times)
        if end_s is None:
            step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
            self.notes.append(f"the end is not recorded: the last row lasts {step:g} s, as the median one")
            duration = round(float(times[-1]) + step, 6)
        else:
            duration = round(end_s - self._first, 6)
        columns = {}
        for field, values in zip(self._fields, self._columns, strict=True):
            if not self.filled[field]:
                continue
            found = np.array(values)
            columns[field] = _held(found)
            self.medians[field] = float(np.nanmedian(found))
            if self.filled[field] < self.rows:
                self.notes.append(
                    f"{field} is in {self.filled[field]} of {self.rows} rows; the others repeat the value before"
                )
        if not columns:
            raise self.error(self._line, f"no row has a value of {', '.join(self._fields)}")
        known = frozenset(columns if measured is None else set(measured) & columns.keys())
        try:
            return Trace(times, duration, measured=known, **columns)
        except ValueError as error:
            raise self.error(self._line, str(error)) from error


def _held(values: Array) -> Array:
    """The value before in the place of every nan; the first value in front of it."""
    known = np.flatnonzero(~np.isnan(values))
    at = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    held: Array = values[known[np.maximum(at, 0)]]
    return held
