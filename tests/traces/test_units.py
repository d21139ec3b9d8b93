"""Which units and which direction a file has, and what it says of them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from spinn_stream.errors import TraceError
from spinn_traces.readers import read_trace

from .test_readers import GOPHERS, IRISH_HEAD, read

# Two rows: 1 s of 5.333 Mb/s, and as much of 2 Mb/s


@pytest.mark.parametrize(
    ("heading", "rows"),
    [
        ("Time (ms),Throughput (Kbps)", [("0", "5333"), ("1000", "2000")]),
        ("time_ms,throughput_kbps", [("0", "5333"), ("1000", "2000")]),
        ("Time [s];Bandwidth [Mbit/s]", [("0", "5.333"), ("1", "2")]),
        ("Throughput (Mbps),Time (us)", [("5.333", "0"), ("2", "1000000")]),
        ("t ns\tbits per second", [("0", "5333000"), ("1000000000", "2000000")]),
        ("seconds,rate (MB/s)", [("0", "0.666625"), ("1", "0.25")]),
        ("elapsed (s),bitrate kB/s", [("0", "666.625"), ("1", "250")]),
        ("milliseconds,bps", [("0", "5333000"), ("1000", "2000000")]),
        ("Timestamp,Gbps", [("1700000000", "0.005333"), ("1700000001", "0.002")]),
        ("time,bytes", [("0", "666625"), ("1", "250000")]),
        ("Time (ms),bytes", [("0", "666625"), ("1000", "250000")]),
        ("second,kB", [("0", "666.625"), ("1", "250")]),
    ],
)
def test_units_in_headings_are_read_and_told(tmp_path: Path, heading: str, rows: list[tuple[str, str]]) -> None:
    between = next(mark for mark in "\t;," if mark in heading)
    reading = read(tmp_path, "\n".join([heading, *(between.join(row) for row in rows)]))
    assert reading.trace.times_s.tolist() == [0, 1] and reading.trace.duration_s == 2
    assert reading.trace.values("down_mbps").tolist() == pytest.approx([5.333, 2])
    assert len(reading.units) == 2 and "as the heading says" in reading.units[1]


@pytest.mark.parametrize(
    ("heading", "said"),
    [
        ("Time (fortnights),Throughput (Kbps)", "the unit of the time is 'fortnights', expected s, ms, us, ns or min"),
        ("Time (s),Throughput (furlongs)", "the unit of the rate is 'furlongs', expected one such as Mbps"),
        ("Time (s),Throughput (MB)", "the unit of the rate is 'MB', expected one such as Mbps"),
        ("Time (s),Throughput (MBPS)", "the unit of the rate is 'MBPS': bits or bytes"),
        ("Time (s),Throughput (MIPS)", "the unit is 'MIPS', expected bits or bytes, such as kbit"),
    ],
)
def test_a_unit_that_cannot_be_read_refuses_the_file(tmp_path: Path, heading: str, said: str) -> None:
    with pytest.raises(TraceError, match=f"t:1: .*{said}"):
        read(tmp_path, f"{heading}\n0,1\n1,2\n", "t")


SINCE_1970 = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}


@pytest.mark.parametrize("unit", SINCE_1970)
@pytest.mark.parametrize("seconds", [1, 10, 3600])
def test_times_since_1970_are_told_by_how_large_they_are(tmp_path: Path, unit: str, seconds: int) -> None:
    begin, scale = 1_700_000_000, SINCE_1970[unit]
    times = [begin * scale, (begin + seconds) * scale]
    readings = [
        read(tmp_path, "".join(f"{t} 5\n" for t in times)),
        read(tmp_path, "".join(f"{t}\t5\n" for t in times)),
        read(tmp_path, "time,Mbps\n" + "".join(f"{t},5\n" for t in times)),
        read(tmp_path, "".join(f"{t},20000\n" for t in times)),
        read(tmp_path, "pub_time sub_time delay(ms)\n" + "".join(f"{t} {t} 12\n" for t in times)),
    ]
    for reading in readings[:3]:
        assert reading.trace.times_s.tolist() == [0, seconds] and reading.trace.duration_s == 2 * seconds
    assert readings[3].format == "mp-traces" and readings[3].trace.duration_s == seconds + 1
    if unit != "s":
        assert readings[4].trace.times_s.tolist() == [0, seconds]
        assert {reading.units[0] for reading in readings} == {f"time in {unit}, since 1970, as such large numbers are"}


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_steps_shorter_than_a_second_survive(tmp_path: Path, unit: str) -> None:
    scale = SINCE_1970[unit]
    text = "".join(f"{1_700_000_000 * scale + step * scale // 8} 5\n" for step in range(4))
    assert read(tmp_path, text).trace.times_s.tolist() == [0, 0.125, 0.25, 0.375]


def test_a_heading_that_contradicts_its_times_refuses_the_file(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"the time is 1\.7e\+12 s, as the heading says: .*; is it in ms\?"):
        read(tmp_path, "Time (s),Mbps\n1700000000000,5\n1700000001000,5\n")


def test_units_in_the_headings_of_the_sets_are_heeded(tmp_path: Path) -> None:
    irish = IRISH_HEAD.replace("DL_bitrate", "DL_bitrate (Mbps)").replace("PINGAVG", "PINGAVG [s]")
    reading = read(tmp_path, f"{irish}\n2019.12.14_10.00.01,0,5G,5,1,D,0.08,-\n")
    assert reading.trace.mean("down_mbps") == 5 and reading.rtt_median_ms == pytest.approx(80)
    cicv5g = read(tmp_path, "pub_time(s) sub_time(s) delay(us)\n1700000000 1700000000 24000\n")
    assert cicv5g.trace.values("rtt_ms").tolist() == [pytest.approx(48)]
    gophers = read(tmp_path, GOPHERS.replace("throughput_mbps", "throughput_kbps") + "TCP,8,1,3,5G,5000,CONNECTED,\n")
    assert gophers.trace.mean("down_mbps") == 5


# direction


PACKETS = "1\n1000\n"
FORMS = {"mahimahi": PACKETS, "seconds-mbps": "0 5\n1 5\n", "mp-traces": "1,20000\n2,20000\n",
         "sabre": '[{"duration_ms": 1000, "bandwidth_kbps": 5}]'}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("name", "field", "word"),
    [
        ("uplink-3g-with-cross-subway", "up_mbps", "uplink"),
        ("downlink-3g-no-cross-times", "down_mbps", "downlink"),
        ("ATT.LTE.UP.txt", "up_mbps", "up"),
        ("set-up.down", "down_mbps", "down"),
        ("verizon_upload.csv", "up_mbps", "upload"),
        ("5G-DL-1.txt", "down_mbps", "dl"),
        ("pickup-truck.txt", "down_mbps", None),
    ],
)
def test_a_word_for_the_direction_in_the_name_is_heeded_and_told(
    tmp_path: Path, form: str, name: str, field: str, word: str | None
) -> None:
    reading = read(tmp_path, FORMS[form], name)
    assert reading.format == form and [field] == [f for f in ("up_mbps", "down_mbps") if f in reading.trace.recorded]
    assert (f"`{word}` in the name: taken as the" in reading.notes[0]) == (word is not None)
    assert "link" in reading.notes[0]


def test_a_heading_s_direction_counts_for_more_than_the_name_s(tmp_path: Path) -> None:
    reading = read(tmp_path, "time (s),Uplink (Mbps)\n0,5\n1,5\n", "downtown-down.csv")
    assert reading.trace.recorded == ("up_mbps",) and "the heading uplink: taken as the uplink" in reading.notes


@pytest.mark.parametrize(
    ("up", "down"),
    [("uplink-3g-x", "downlink-3g-x"), ("x.up", "x.down"), ("x.UP", "x.DOWN"), ("Upload-x.txt", "Download-x.txt.gz")],
)
def test_files_whose_names_differ_in_the_direction_alone_are_a_pair(tmp_path: Path, up: str, down: str) -> None:
    import gzip

    for name in up, down:
        (tmp_path / name).write_bytes(gzip.compress(PACKETS.encode()) if name.endswith(".gz") else PACKETS.encode())
    for name, beside in itertools.permutations((up, down)):
        reading = read_trace(tmp_path / name)
        assert reading.trace.recorded == ("up_mbps", "down_mbps") and f"a pair with {beside}" in reading.notes
