"""Two columns, a time and a rate: `pensieve` with tabs between them, `seconds-mbps` with anything else.

A rate holds until the next row. (In Pensieve's simulator it holds from the row before.) Units are seconds and Mb/s
unless a heading or the times themselves say otherwise.
"""

from __future__ import annotations

from spinn_stream.trace import Rows

from .reading import Reading
from .tables.cells import Cells
from .tables.direction import direction_in, direction_of
from .tables.text_file import TextFile
from .tables.units import Unit, rate_unit, time_unit

PENSIEVE, PLAIN = "pensieve", "seconds-mbps"


def read_pensieve(source: TextFile) -> Reading:
    return _read(source, PENSIEVE)


def read_plain(source: TextFile) -> Reading:
    return _read(source, PLAIN)


def _read(source: TextFile, format_name: str) -> Reading:
    table = Cells(source, columns=2)
    time_at = next((i for i, column in enumerate(table.headings) if column.is_time), 0)
    time_column, rate_column = (table.headings[time_at], table.headings[1 - time_at]) if len(table.headings) == 2 else (
        None, None)  # fmt: skip
    field, note = direction_of(source.path, "one rate: taken as the downlink")
    if rate_column is not None and (said := direction_in(rate_column.name)):
        field, note = said, f"the heading {rate_column.name}: taken as the {'up' if said == 'up_mbps' else 'down'}link"
    rows = Rows(str(source.path), (field,))
    rate = rate_unit(rate_column, "Mb/s")
    time: Unit | None = None
    for line, cells in table:
        if len(cells) != 2:
            raise source.error(line, f"{len(cells)} columns, expected 2: a time and a rate")
        t, value = table.number(line, cells[time_at], "the time"), table.number(line, cells[1 - time_at], "the rate")
        time = time or time_unit(time_column, t, "s")
        rows.add(line, t * time.factor, (value * rate.factor,))
    trace = rows.finish()
    units = (time.said, rate.said) if time else ()
    notes = (note, "a rate holds until the next row", *rows.notes)
    return Reading((source.path,), format_name, trace, notes, units=units)
