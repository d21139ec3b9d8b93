"""MP-Traces: `second,bytes`: the bytes that came in that second. Seconds without a row had none."""

from __future__ import annotations

from spinn_stream.trace import Rows

from .reading import Reading
from .tables.cells import Cells
from .tables.direction import direction_of
from .tables.text_file import TextFile
from .tables.units import Unit, size_unit, time_unit

FORMAT = "mp-traces"


def read(source: TextFile) -> Reading:
    table = Cells(source, columns=2)
    time_at = next((i for i, column in enumerate(table.headings) if column.is_time), 0)
    headed = len(table.headings) == 2
    field, note = direction_of(source.path, "bytes received in each second: the downlink")
    rows = Rows(str(source.path), (field,))
    size = size_unit(table.headings[1 - time_at] if headed else None, "bytes")
    time: Unit | None = None
    before: float | None = None
    missing = 0
    for line, cells in table:
        if len(cells) != 2:
            raise source.error(line, f"{len(cells)} columns, expected 2: second and bytes")
        t = table.number(line, cells[time_at], "the second")
        count = table.number(line, cells[1 - time_at], "the number of bytes")
        time = time or time_unit(table.headings[time_at] if headed else None, t, "s")
        second = round(t * time.factor, 6)
        if not second.is_integer():
            raise source.error(line, f"the second is {second:.10g}, expected a whole number")
        if before is not None and second > before + 1:
            rows.add(line, before + 1, (0.0,))
            missing += int(second - before) - 1
        rows.add(line, second, (count * size.factor,))
        before = second
    trace = rows.finish(end_s=None if before is None else before + 1)
    notes = [note]
    if missing:
        notes.append(f"{missing} seconds have no row; they count as 0 bytes")
    units = (time.said, size.said) if time else ()
    return Reading((source.path,), FORMAT, trace, (*notes, *rows.notes), units=units)
