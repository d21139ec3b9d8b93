"""The trace's own CSV form: what is written is read again, and what is wrong is told with its line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinn_stream.errors import TraceError
from spinn_stream.trace import FIELDS, LIMITS, Trace, csv_end, csv_head, csv_row, format_csv, parse_csv


def parse(text: str) -> tuple[Trace, list[str]]:
    trace, rows = parse_csv(enumerate(text.split("\n"), start=1), "t.csv")
    return trace, rows.notes


EXAMPLE = """\
# spinn trace 1
# measured: down_mbps
# driving, by tram
time_s,down_mbps,rtt_ms
0,12.5,40
0.5,0,
2,3,60
3,,
"""


def test_the_form_is_this_one() -> None:
    trace, notes = parse(EXAMPLE)
    assert trace == Trace(
        [0, 0.5, 2], 3.0, down_mbps=[12.5, 0, 3], rtt_ms=[40, 40, 60], measured=frozenset({"down_mbps"})
    )
    assert notes == ["rtt_ms is in 2 of 3 rows; the others repeat the value before"]
    written = "\n".join(format_csv(trace, ["driving, by tram"])) + "\n"
    assert written == EXAMPLE.replace("0.5,0,\n", "0.5,0,40\n")


def test_a_recorder_writes_row_by_row() -> None:
    fields = ("up_mbps", "rtt_ms")
    lines = [*csv_head(fields, fields), csv_row(0.0, (1.25, None)), csv_row(0.1, (None, 33.0)), csv_end(0.2, fields)]
    trace, _ = parse("\n".join(lines))
    assert trace == Trace([0, 0.1], 0.2, up_mbps=[1.25, 1.25], rtt_ms=[33, 33], measured=frozenset(fields))


def test_a_column_without_any_value_is_not_recorded() -> None:
    """A recorder writes its head before it knows what it will see."""
    trace, _ = parse("# measured: up_mbps rtt_ms\ntime_s,up_mbps,rtt_ms\n0,,40\n1,,")
    assert trace == Trace([0], 1.0, rtt_ms=[40], measured=frozenset({"rtt_ms"}))


def test_a_plain_table_is_enough() -> None:
    trace, notes = parse('"time_s";"up_mbps"\r\n100;1\r\n101;2\r\n102;3')
    assert trace == Trace([0, 1, 2], 3.0, up_mbps=[1, 2, 3], measured={"up_mbps"})
    assert notes == ["the end is not recorded: the last row lasts 1 s, as the median one"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "t.csv:1: no heading, expected one such as time_s,up_mbps,down_mbps,rtt_ms,loss"),
        ("# spinn trace 1\n", "t.csv:2: no heading"),
        ("time_s,up_mbps\n", "no rows of data"),
        ("time_s,up_mbps\n1,,", "t.csv:2: 3 columns, expected 2 as in the heading"),
        ("time_s,up_mbps\n1", "t.csv:2: 1 columns, expected 2"),
        ("time_s,up_mbps\n1,", "no rows of data"),
        ("time_s,up_mbps\n1,5\n1,6", "t.csv:3: the time 1 s again, expected a later one than in the row before"),
        ("time_s,up_mbps\n1,5\n0.5,6", "t.csv:3: the time goes back from 1 to 0.5 s, expected rising times"),
        ("time_s,up_mbps\n1,5\n2,\n3,4", "t.csv:4: a row behind the end, which is in line 3"),
        ("time_s,up_mbps\n1,5\n1,", "duration is 0.0 s, expected above 0.0"),
        ("time_s,up_mbps\n1,-5", "t.csv:2: up_mbps is -5, expected 0 to 100000 Mb/s"),
        ("time_s,up_mbps\n1,1e9", "t.csv:2: up_mbps is 1e\\+09, expected 0 to 100000 Mb/s"),
        ("time_s,up_mbps\n1,nan", "t.csv:2: up_mbps is 'nan', expected a number"),
        ("time_s,up_mbps\n1,1_000", "t.csv:2: up_mbps is '1_000', expected a number"),
        ("time_s,up_mbps\n,5", "t.csv:2: no time_s"),
        ("time_s;up_mbps\n1;0,5", "t.csv:2: up_mbps is '0,5', expected a number such as 0.5"),
        ("time_s,loss\n1,1.5", "loss is 1.5, expected 0 to 1 as a fraction"),
        ("time_s,rtt_ms\n1,70000", "rtt_ms is 70000, expected 0 to 60000 ms"),
        ("time_s,colour\n1,5", "t.csv:1: the heading is .*, expected time_s and some of up_mbps"),
        ("time_s,up_mbps,up_mbps\n1,5,5", "t.csv:1: the heading is"),
        ("up_mbps,time_s\n1,5", "t.csv:1: the heading is"),
        ("# measured: colour\ntime_s,up_mbps\n1,5", "t.csv:1: measured are \\['colour'\\], expected some of"),
        ("# measured: rtt_ms\ntime_s,up_mbps\n1,5", "names rtt_ms, which the file does not have"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(TraceError, match=said):
        parse(text)


@given(
    st.lists(
        st.tuples(st.integers(1, 10**7), *(st.floats(0, LIMITS[name]) for name in FIELDS)), min_size=1, max_size=9
    ),
    st.sets(st.sampled_from(FIELDS), min_size=1),
    st.sets(st.sampled_from(FIELDS)),
)
def test_what_is_written_is_read_again(rows: list[tuple[float, ...]], fields: set[str], measured: set[str]) -> None:
    ends = [0.0]
    for microseconds, *_ in rows:
        ends.append(round(ends[-1] + microseconds / 1e6, 6))
    columns = {name: [row[1 + i] for row in rows] for i, name in enumerate(FIELDS) if name in fields}
    trace = Trace(ends[:-1], ends[-1], measured=frozenset(measured & fields), **columns)
    assert parse("\n".join(format_csv(trace)))[0] == trace
