"""MP-Traces: `second,bytes`: what came in that second. Seconds without a row had no bytes."""

from __future__ import annotations

from spinn_stream.trace import Rows

from .cells import Cells
from .reading import Reading
from .text_file import TextFile

FORMAT = "mp-traces"


def read(source: TextFile) -> Reading:
    rows = Rows(str(source.path), ("down_mbps",))
    table = Cells(source, columns=2)
    before: float | None = None
    missing = 0
    for line, cells in table:
        if len(cells) != 2:
            raise source.error(line, f"{len(cells)} columns, expected 2: second and bytes")
        second, count = table.number(line, cells[0], "the second"), table.number(line, cells[1], "the number of bytes")
        if not second.is_integer():
            raise source.error(line, f"the second is {second:g}, expected a whole number")
        if before is not None and second > before + 1:
            rows.add(line, before + 1, (0.0,))
            missing += int(second - before) - 1
        rows.add(line, second, (count * 8e-6,))
        before = second
    trace = rows.finish(end_s=None if before is None else before + 1)
    notes = ["bytes received in each second: the downlink"]
    if missing:
        notes.append(f"{missing} seconds have no row; they count as 0 bytes")
    return Reading((source.path,), FORMAT, trace, (*notes, *rows.notes))
