"""CICV5G: delays of messages between a vehicle and a cloud server: `pub_time(ms) sub_time(ms) delay(ms) ...`.

The round trip is taken as twice the delay of a message; capacity is not recorded.
"""

from __future__ import annotations

from spinn_stream.trace import Rows

from .cells import Cells
from .reading import Reading
from .text_file import TextFile

FORMAT = "cicv5g"
SENT, RECEIVED, DELAY = "pub_time", "sub_time", "delay"


def read(source: TextFile) -> Reading:
    rows = Rows(str(source.path), ("rtt_ms",), same_time=True)
    table = Cells(source)
    heading = table.heading or [SENT, RECEIVED, DELAY]
    for name in (SENT, DELAY):
        if name not in heading:
            raise source.error(1, f"the heading has no {name}; expected pub_time(ms) and delay(ms) among the columns")
    sent_at, delay_at = heading.index(SENT), heading.index(DELAY)
    for line, cells in table:
        if len(cells) <= max(sent_at, delay_at):
            raise source.error(line, f"{len(cells)} columns, expected pub_time, sub_time, delay")
        sent = table.number(line, cells[sent_at], "pub_time")
        delay = table.number(line, cells[delay_at], "delay")
        rows.add(line, sent / 1000, (2 * delay,))
    trace = rows.finish()
    notes = ("the round trip is taken as twice the delay of a message", "capacity is not recorded")
    return Reading((source.path,), FORMAT, trace, (*notes, *rows.notes))
