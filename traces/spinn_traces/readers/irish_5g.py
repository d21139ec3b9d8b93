"""The Irish 4G and 5G sets (University College Cork): CSV of G-NetTrack, about a row a second, `-` for not measured.

DL_bitrate (kb/s) is the rate of the phone's download. UL_bitrate counts only the acknowledgements of that download, so
the uplink is not recorded. PINGAVG is the round trip, of five pings every 13 s; PINGLOSS, of the same five, is too
coarse for a loss rate and not read. Several rows of one second are averaged; a row holds until the next second that has
one.
"""

from __future__ import annotations

import re
import statistics
from array import array
from datetime import UTC, datetime

from spinn_stream.trace import Rows

from .reading import Reading
from .tables.cells import Cells, shown
from .tables.text_file import TextFile
from .tables.units import duration_unit, rate_unit

FORMAT = "irish-5g"
TIME, DOWN, PING = "timestamp", "dl_bitrate", "pingavg"
STAMP = re.compile(r"(\d{4})[.-](\d{2})[.-](\d{2})[_ T](\d{2})[.:](\d{2})[.:](\d{2})")


def read(source: TextFile) -> Reading:
    table = Cells(source)
    for name in (TIME, DOWN):
        if table.place(name) is None:
            raise source.error(1, f"the heading has no {name}; expected Timestamp and DL_bitrate among the columns")
    at = {name: place for name in (TIME, DOWN, PING) if (place := table.place(name)) is not None}
    rate = rate_unit(table.headings[at[DOWN]], "kb/s")
    ping_unit = duration_unit(table.headings[at[PING]] if PING in at else None, "ms", "round trip")
    rows = Rows(str(source.path), ("down_mbps", "rtt_ms"), same_time=True)
    pings = array("d")
    same, last = 0, None
    for line, cells in table:
        seconds = _seconds(source, line, cells[at[TIME]])
        found = {
            name: None if cells[i] in ("-", "") else table.number(line, cells[i], name)
            for name, i in at.items()
            if name != TIME
        }
        down, ping = found[DOWN], found.get(PING)
        if ping is not None:
            ping *= ping_unit.factor
            pings.append(ping)
        same += seconds == last
        last = seconds
        rows.add(line, seconds, (None if down is None else down * rate.factor, ping))
    trace = rows.finish()
    notes = [
        "DL_bitrate is what a download got: the downlink",
        "UL_bitrate is acknowledgements of that download, not the uplink's capacity: not read",
    ]
    if same:
        notes.append(f"{same} rows have the time of the row before: averaged with it")
    units = ("time as a date, to the second", rate.said, *([ping_unit.said] if pings else []))
    median = statistics.median(pings) if pings else None
    return Reading((source.path,), FORMAT, trace, (*notes, *rows.notes), rtt_median_ms=median, units=units)


def _seconds(source: TextFile, line: int, cell: str) -> float:
    match = STAMP.fullmatch(cell)
    try:
        if match is None:
            raise ValueError
        return datetime(*(int(part) for part in match.groups()), tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]
    except ValueError:
        raise source.error(line, f"Timestamp is {shown(cell)}, expected one such as 2019.12.14_10.16.30") from None
