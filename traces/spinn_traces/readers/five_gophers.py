"""5Gophers (University of Minnesota): throughput of a download on commercial 5G, a row a second.

Source of the set: Narayanan et al., A First Look at Commercial 5G Performance on Smartphones, WWW 2020.
"""

from __future__ import annotations

from spinn_stream.trace import Rows

from .reading import Reading
from .tables.cells import Cells
from .tables.text_file import TextFile
from .tables.units import rate_unit

FORMAT = "5gophers"
SECOND, RATE = "seq_num", "throughput"


def read(source: TextFile) -> Reading:
    table = Cells(source)
    second_at, rate_at = table.place(SECOND), table.place(RATE)
    if second_at is None or rate_at is None:
        raise source.error(1, "the heading has no seq_num or no throughput_mbps; expected both among the columns")
    rate = rate_unit(table.headings[rate_at], "Mb/s")
    rows = Rows(str(source.path), ("down_mbps",))
    for line, cells in table:
        cell = cells[rate_at]
        value = None if cell in ("", "-", "NA") else table.number(line, cell, "throughput") * rate.factor
        rows.add(line, table.number(line, cells[second_at], "seq_num"), (value,))
    trace = rows.finish()
    notes = ("throughput is what a download got: the downlink", "a rate holds until the next row")
    units = ("seq_num counts seconds, as is usual in this format", rate.said)
    return Reading((source.path,), FORMAT, trace, (*notes, *rows.notes), units=units)
