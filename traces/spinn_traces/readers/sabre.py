"""sabre's packaging of the Norway (HSDPA) and Ghent (LTE) logs: a JSON list of duration_ms, bandwidth_kbps, latency_ms.

The list is read object by object. Bandwidth is the rate of a download. If the latency never changes, it was not
measured. sabre adds it once to each request, so it is a round trip.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from spinn_stream.trace import MAX_DURATION_S, Rows

from .reading import Reading
from .tables.cells import shown
from .tables.direction import direction_of
from .tables.text_file import LONGEST_LINE, TextFile

FORMAT = "sabre"
UNITS = ("duration in ms, as its key says", "bandwidth in kb/s, as its key says", "latency in ms, as its key says")
NEEDED = ("duration_ms", "bandwidth_kbps")
TOKEN = re.compile(r"([\s,]*)(\[|\]|\{[^{}]*\}|)")
STATE = {"[": "before", "]": "within"}
EXPECTED = {"before": "a list of objects: [ {...}, ... ]", "within": "a flat object {...} or the list's end ]",
            "behind": "nothing behind the list"}  # fmt: skip


def read(source: TextFile) -> Reading:
    """Raises TraceError: no list of such objects, or one that ends early."""
    field, note = direction_of(source.path, "bandwidth is what a download got: the downlink")
    rows = Rows(str(source.path), (field, "rtt_ms"))
    at_ms = 0.0
    latencies: set[float | None] = set()
    for line, entry in _objects(source):
        for key in NEEDED:
            if key not in entry:
                raise source.error(line, f"{shown(json.dumps(entry))} has no {key}")
        duration = _number(source, line, entry, "duration_ms")
        if not 0 < duration <= MAX_DURATION_S * 1000:
            raise source.error(line, f"duration_ms is {duration:g}, expected above 0, up to {MAX_DURATION_S * 1000:g}")
        kbps = _number(source, line, entry, "bandwidth_kbps")
        latency = _number(source, line, entry, "latency_ms") if "latency_ms" in entry else None
        rows.add(line, at_ms / 1000, (kbps / 1000, latency))
        at_ms += duration
        if len(latencies) < 2:
            latencies.add(latency)
    measured = {field}
    notes = [note]
    if latencies - {None}:
        varies = len(latencies) > 1
        measured |= {"rtt_ms"} if varies else set()
        notes.append(f"latency is taken as the round trip{'' if varies else '; a constant, not measured'}")
    trace = rows.finish(end_s=at_ms / 1000, measured=measured)
    return Reading((source.path,), FORMAT, trace, (*notes, *rows.notes), units=UNITS)


def _number(source: TextFile, line: int, entry: dict[str, Any], key: str) -> float:
    value = entry[key]
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise source.error(line, f"{key} is {json.dumps(value)[:40]}, expected a number")
    return number


def _objects(source: TextFile) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of the list and their first lines. An object is flat, so it ends at its first closing brace."""
    text, line, state = "", 1, "before"
    for chunk in source.chunks():
        text, at = text + chunk, 0
        while True:
            match = TOKEN.match(text, at)
            assert match is not None  # it may be empty
            line += match[1].count("\n")
            at, token = match.end(1), match[2]
            if at == len(text) or (not token and text[at] == "{" and text.find("}", at) < 0):
                break
            if not token or STATE.get(token, "within") != state:
                raise source.error(line, f"got {shown(text[at : at + 80])}, expected {EXPECTED[state]}")
            if token == "[":
                state = "within"
            elif token == "]":
                state = "behind"
            else:
                yield line, _object(source, line, token)
            line += token.count("\n")
            at += len(token)
        text = text[at:]
        if len(text) > LONGEST_LINE:
            raise source.error(line, f"an object of more than {LONGEST_LINE} characters")
    if state != "behind":
        raise source.error(line, f"the file ends within the list, at {shown(text)}; it is cut off")


def _object(source: TextFile, line: int, text: str) -> dict[str, Any]:
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise source.error(line, f"not JSON: {shown(text)}: {error}") from error
    return dict(entry)
