"""Two columns, seconds and Mb/s: `pensieve` with tabs between them, `seconds-mbps` with anything else.

A rate holds until the next row. (Pensieve's simulator lets it hold since the row before.)
"""

from __future__ import annotations

from spinn_stream.trace import Rows

from .cells import Cells
from .reading import Reading
from .text_file import TextFile

PENSIEVE, PLAIN = "pensieve", "seconds-mbps"
FIRST_MS = 1e11
"""Times from here on are milliseconds since 1970, not seconds: in seconds it would be the year 5138."""


def read_pensieve(source: TextFile) -> Reading:
    return _read(source, PENSIEVE)


def read_plain(source: TextFile) -> Reading:
    return _read(source, PLAIN)


def _read(source: TextFile, format_name: str) -> Reading:
    rows = Rows(str(source.path), ("down_mbps",))
    notes = ["one rate: taken as the downlink", "a rate holds until the next row"]
    scale: float | None = None
    table = Cells(source, columns=2)
    for line, cells in table:
        if len(cells) != 2:
            raise source.error(line, f"{len(cells)} columns, expected 2: seconds and Mb/s")
        t, mbps = table.number(line, cells[0], "the time"), table.number(line, cells[1], "the rate")
        if scale is None:
            scale = 1000.0 if t >= FIRST_MS else 1.0
            if scale != 1:
                notes.append("times are read as milliseconds since 1970")
        rows.add(line, t / scale, (mbps,))
    trace = rows.finish()
    return Reading((source.path,), format_name, trace, (*notes, *rows.notes))
