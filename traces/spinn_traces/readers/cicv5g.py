"""CICV5G: delays of messages between a vehicle and a cloud server: `pub_time(ms) sub_time(ms) delay(ms) ...`.

The round trip is taken as twice the delay of a message; capacity is not recorded.
"""

from __future__ import annotations

from spinn_stream.trace import Rows

from .reading import Reading
from .tables.cells import Cells
from .tables.text_file import TextFile
from .tables.units import Column, Unit, duration_unit, time_unit

FORMAT = "cicv5g"
SENT, RECEIVED, DELAY = "pub_time", "sub_time", "delay"


def read(source: TextFile) -> Reading:
    rows = Rows(str(source.path), ("rtt_ms",), same_time=True)
    table = Cells(source)
    headings = table.headings or [Column(name) for name in (SENT, RECEIVED, DELAY)]
    names = [column.name for column in headings]
    for name in (SENT, DELAY):
        if name not in names:
            raise source.error(1, f"the heading has no {name}; expected pub_time(ms) and delay(ms) among the columns")
    sent_at, delay_at = names.index(SENT), names.index(DELAY)
    duration = duration_unit(headings[delay_at], "ms", "delay")
    time: Unit | None = None
    for line, cells in table:
        if len(cells) <= max(sent_at, delay_at):
            raise source.error(line, f"{len(cells)} columns, expected pub_time, sub_time, delay")
        sent = table.number(line, cells[sent_at], "pub_time")
        delay = table.number(line, cells[delay_at], "delay")
        time = time or time_unit(headings[sent_at], sent, "ms")
        rows.add(line, sent * time.factor, (2 * delay * duration.factor,))
    trace = rows.finish()
    notes = ("the round trip is taken as twice the delay of a message", "capacity is not recorded")
    units = (time.said, duration.said) if time else ()
    return Reading((source.path,), FORMAT, trace, (*notes, *rows.notes), units=units)
