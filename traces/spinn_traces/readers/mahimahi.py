"""Mahimahi: one whole number a line, the millisecond at which 1500 bytes may leave; the file repeats from its last one.

Opportunities are counted in bins of 20 ms. This is short against a frame's time, and 50 bins are one second, so a
second has exactly the bytes of its lines. The next round begins at the time of the last line; its opportunities belong
to the last bin, so that a round has all of them.
"""

from __future__ import annotations

import re
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from spinn_stream.trace import LIMITS, MAX_SAMPLES, Trace

from .reading import Reading
from .tables.cells import shown
from .tables.direction import DOWN, UP, direction_in, direction_of, other_direction
from .tables.text_file import TextFile, has_data, open_text

FORMAT = "mahimahi"
BIN_MS = 20
PACKET_BYTES = 1500
MOST_IN_BIN = int(LIMITS["up_mbps"] * BIN_MS * 125 / PACKET_BYTES)
LATEST_MS = MAX_SAMPLES * BIN_MS
PLAIN = re.compile(r"[0-9\n]*")
ONE = re.compile(r"[ \t]*[0-9]{1,18}[ \t]*")
UNITS = ("time in whole ms, packets of 1500 bytes, as Mahimahi has them",)


def read(source: TextFile) -> Reading:
    """One direction; and the other one, too, if a file with the opposite word in its name (`.up`, `.down`) is beside
    it."""
    with ExitStack() as stack:
        field, note = direction_of(source.path, "neither up nor down in the name: taken as the downlink")
        beside = other_direction(source.path)
        if beside is None:
            alone = (f"the other direction is not beside it ({source.path.name} alone)",) * (
                direction_in(source.path.name) is not None
            )
            return Reading((source.path,), FORMAT, _trace(source, field), (note, *alone), units=UNITS)
        parts = [_trace(source, field), _trace(stack.enter_context(open_text(beside)), UP if field == DOWN else DOWN)]
    try:
        pair = _side_by_side(parts)
    except ValueError as error:
        raise source.error(1, f"does not go together with {beside.name}: {error}") from error
    notes = [f"a pair with {beside.name}"]
    lengths = sorted(part.duration_s for part in parts)
    if lengths[0] < lengths[1]:
        notes.append(f"the shorter direction ({lengths[0]:g} s) repeats until the longer ends, as in Mahimahi")
    return Reading((source.path, beside), FORMAT, pair, tuple(notes), tuple(parts), units=UNITS)


def _trace(source: TextFile, field: str) -> Trace:
    counts = np.zeros(1024, np.int64)
    last, last_line, rows = 0, 1, 0
    for first, text in source.pieces():
        times, lines = _numbers(source, first, text)
        if not len(times):
            continue
        back = np.flatnonzero(np.diff(times, prepend=last) < 0)
        if len(back):
            before = last if back[0] == 0 else times[back[0] - 1]
            raise source.error(lines[back[0]], f"the time goes back from {before} to {times[back[0]]} ms")
        rows += len(times)
        last, last_line = int(times[-1]), int(lines[-1])
        if last >= LATEST_MS:
            late = int(np.searchsorted(times, LATEST_MS))
            most = f"{LATEST_MS / 3.6e6:.1f} hours"
            raise source.error(lines[late], f"{times[late]} ms is more than the longest trace, {most}; is it in ms?")
        bins = times // BIN_MS
        if bins[-1] >= len(counts):
            counts = np.concatenate((counts, np.zeros(max(len(counts), int(bins[-1]) + 1 - len(counts)), np.int64)))
        counts[bins[0] : bins[-1] + 1] += np.bincount(bins - bins[0])
        if counts[bins[0] : bins[-1] + 1].max() > MOST_IN_BIN:
            full = int(bins[0] + counts[bins[0] :].argmax())
            line = lines[int(np.searchsorted(bins, full, side="right")) - 1]
            raise source.error(
                line, f"more than {MOST_IN_BIN} lines between {full * BIN_MS} and {(full + 1) * BIN_MS} ms, "
                f"which is above {LIMITS[field]:g} Mb/s"
            )  # fmt: skip
    if not rows:
        raise source.error(last_line, "no rows of data; the trace is empty")
    if last == 0:
        raise source.error(last_line, "the last time is 0 ms, expected above 0: the trace has no length")
    trace = _binned(counts, last, field)
    if trace is None:
        raise source.error(last_line, f"the lines of the last milliseconds are above {LIMITS[field]:g} Mb/s")
    return trace


def _numbers(source: TextFile, first: int, text: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The times in a piece of text, and the lines they are in."""
    if PLAIN.fullmatch(text) and not text.isspace():
        fast: npt.NDArray[np.int64] = np.fromstring(text, np.int64, sep="\n")
        if len(fast) == text.count("\n") + (not text.endswith("\n")):  # no empty line
            return fast, np.arange(first, first + len(fast))
    times, lines = [], []
    for number, line in enumerate(text.split("\n"), start=first):
        if not has_data(line):
            continue
        if not ONE.fullmatch(line):
            raise source.error(number, f"got {shown(line)}, expected a whole number of milliseconds from 0")
        times.append(int(line))
        lines.append(number)
    return np.array(times, np.int64), np.array(lines, np.int64)


def _binned(counts: npt.NDArray[np.int64], last_ms: int, field: str) -> Trace | None:
    bins = -(-last_ms // BIN_MS)  # the last one may be shorter than the others
    packets = counts[:bins].astype(np.float64)
    packets[-1] += counts[bins:].sum()
    edges_ms = np.append(np.arange(bins) * BIN_MS, last_ms)
    mbps = packets * PACKET_BYTES * 8 / (np.diff(edges_ms) * 1000)
    if mbps.max() > LIMITS[field]:
        return None
    return Trace(edges_ms[:-1] / 1000, last_ms / 1000, measured=frozenset({field}), **{field: mbps})


def _side_by_side(parts: list[Trace]) -> Trace:
    duration = max(part.duration_s for part in parts)
    looped = [part.loop(duration) for part in parts]
    times = np.unique(np.concatenate([part.times_s for part in looped]))
    fields = {}
    for part in looped:
        (name,) = part.recorded
        fields[name] = part.values(name)[np.searchsorted(part.times_s, times, side="right") - 1]
    return Trace(times, duration, measured=frozenset(fields), **fields)
