"""The trace's own CSV form (docs/traces.md). Lines in and out; the caller owns the file."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator

from spinn_stream.errors import TraceError

from .rows import Rows
from .trace import FIELDS, Trace

TITLE = "# spinn trace 1"
TIME = "time_s"


def csv_head(fields: Iterable[str], measured: Iterable[str], comments: Iterable[str] = ()) -> Iterator[str]:
    """The lines before the first row. A recorder then writes rows, and `csv_end` at the end."""
    fields = tuple(fields)
    if not fields or not set(fields) <= set(FIELDS):
        raise ValueError(f"got the fields {fields}, expected some of {', '.join(FIELDS)}")
    yield TITLE
    yield f"# measured: {' '.join(measured) or 'nothing'}"
    for comment in comments:
        yield f"# {' '.join(comment.split())}"
    yield ",".join((TIME, *fields))


def csv_row(t_s: float, values: Iterable[float | None]) -> str:
    """One row; None: not measured this time."""
    return ",".join([_written(t_s), *("" if value is None else _written(value) for value in values)])


def csv_end(t_s: float, fields: Iterable[str]) -> str:
    """The last row: when the trace ends."""
    return csv_row(t_s, [None for _ in fields])


def format_csv(trace: Trace, comments: Iterable[str] = ()) -> Iterator[str]:
    """The lines of a trace, without line ends. `parse_csv` gives the same trace back."""
    names = trace.recorded
    yield from csv_head(names, [name for name in names if name in trace.measured], comments)
    for t_s, *values in zip(trace.times_s.tolist(), *(trace.values(name).tolist() for name in names), strict=True):
        yield csv_row(t_s, values)
    yield csv_end(trace.duration_s, names)


def parse_csv(lines: Iterable[tuple[int, str]], name: str) -> tuple[Trace, Rows]:
    """A trace, and its rows, which have notes on what had to be assumed.

    lines: with their numbers; comments and empty lines among them. name: what errors begin with.
    Cells may be in quotes, and parted by commas, semicolons or tabs.

    Raises:
        TraceError: names the line and the reason.
    """
    rows: Rows | None = None
    delimiter, columns = ",", []
    measured: set[str] | None = None
    end: tuple[int, float] | None = None
    number = 1
    for number, text in lines:
        line = text.strip()
        if line.startswith("#"):
            if rows is None:
                measured = _measured(line, f"{name}:{number}", measured)
            continue
        if not line:
            continue
        if rows is None:
            delimiter = next((d for d in ";\t" if d in line), ",")
            columns = _columns(_cells(line, delimiter), f"{name}:{number}")
            rows = Rows(name, columns[1:])
            continue
        if end is not None:
            raise TraceError(f"{name}:{number}: a row behind the end, which is in line {end[0]}")
        cells = _cells(line, delimiter)
        if len(cells) != len(columns):
            raise TraceError(f"{name}:{number}: {len(cells)} columns, expected {len(columns)} as in the heading")
        t_s, *values = [_number(cell, column, f"{name}:{number}") for cell, column in zip(cells, columns, strict=True)]
        if t_s is None:
            raise TraceError(f"{name}:{number}: no {TIME}, expected a number of seconds")
        if any(value is not None for value in values):
            rows.add(number, t_s, values)
        else:
            end = number, t_s
    if rows is None:
        raise TraceError(f"{name}:{number}: no heading, expected one such as {TIME},{','.join(FIELDS)}")
    if measured is not None and not measured <= set(columns):
        missing = ", ".join(sorted(measured - set(columns)))
        raise TraceError(f"{name}:1: `# measured:` names {missing}, which the file does not have")
    trace = rows.finish(end_s=None if end is None else end[1], measured=measured)
    return trace, rows


def _columns(cells: list[str], place: str) -> list[str]:
    names = [cell.strip().lower() for cell in cells]
    if names[0] != TIME or len(names) < 2 or len(set(names)) < len(names) or not set(names[1:]) <= set(FIELDS):
        raise TraceError(f"{place}: the heading is {cells}, expected {TIME} and some of {', '.join(FIELDS)}")
    return names


def _measured(comment: str, place: str, before: set[str] | None) -> set[str] | None:
    word, colon, rest = comment.lstrip("# ").partition(":")
    if word.strip() != "measured" or not colon:
        return before
    names = set(rest.replace(",", " ").split()) - {"nothing"}
    if not names <= set(FIELDS):
        raise TraceError(f"{place}: measured are {sorted(names)}, expected some of {', '.join(FIELDS)}, or nothing")
    return names


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter)) if '"' in line else line.split(delimiter)
    except csv.Error:
        return [line]


def _number(cell: str, column: str, place: str) -> float | None:
    cell = cell.strip()
    if not cell:
        return None
    try:
        value = float(cell) if "_" not in cell else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise TraceError(f"{place}: {column} is {cell[:40]!r}, expected a number such as 0.5")
    return value


def _written(value: float) -> str:
    """The shortest text that is read back as the same number."""
    text = repr(float(value))
    return text.removesuffix(".0")
