"""Every format, from files that the tests write: what is read, what is assumed, how each is told from the others."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from spinn_stream.errors import ConfigError, TraceError
from spinn_stream.trace import Trace, format_csv
from spinn_traces.figures import figures
from spinn_traces.readers import FORMATS, Reading, read_trace, write_parquet
from spinn_traces.readers.mahimahi import BIN_MS

IRISH_HEAD = "Timestamp,Longitude,NetworkMode,DL_bitrate,UL_bitrate,State,PINGAVG,PINGLOSS"


def read(folder: Path, text: str | bytes, name: str = "trace.txt", format_name: str | None = None) -> Reading:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_trace(path, format_name)


def said(folder: Path, text: str | bytes, name: str = "trace.txt") -> dict[str, Any]:
    return figures(read(folder, text, name), name)


# Mahimahi


def test_mahimahi_counts_1500_bytes_a_line_and_lasts_until_its_last_one(tmp_path: Path) -> None:
    # 5 lines in 2000 ms: 5 x 1500 x 8 bit / 2 s = 0.03 Mb/s; [0, 1) has 3 lines = 36 kb, [1, 2) has 2 = 24 kb
    found = said(tmp_path, "0\n0\n5\n1999\n2000\n")
    assert found == {
        "file": "trace.txt", "format": "mahimahi", "duration_s": 2.0, "up_mbps": None,
        "down_mbps": pytest.approx(0.03), "rtt_ms": None, "longest_outage_s": 2.0,
        "assumed": ["up_mbps", "rtt_ms", "loss"],
    }  # fmt: skip


def test_a_bin_of_mahimahi_has_the_bytes_of_its_lines(tmp_path: Path) -> None:
    trace = read(tmp_path, "0\n19\n20\n45\n50\n").trace
    assert BIN_MS == 20 and trace.duration_s == 0.05
    assert trace.times_s.tolist() == [0, 0.02, 0.04]
    # two lines in [0, 20), one in [20, 40), and two in the last: 45, and 50, where the next round begins
    assert [trace.bytes_between("down_mbps", a, b) for a, b in ((0, 0.02), (0.02, 0.04), (0.04, 0.05))] == (
        pytest.approx([3000, 1500, 3000])
    )
    assert trace.bytes_between("down_mbps", 0, 5) == pytest.approx(100 * 5 * 1500)


@pytest.mark.parametrize(("name", "field"), [("x.up", "up_mbps"), ("x.down", "down_mbps"), ("x.pps", "down_mbps")])
def test_a_lone_mahimahi_file_is_one_direction(tmp_path: Path, name: str, field: str) -> None:
    assert read(tmp_path, "1\n1000\n", name).trace.recorded == (field,)


def test_up_and_down_beside_each_other_are_a_pair(tmp_path: Path) -> None:
    (tmp_path / "x.up").write_text("1000\n3000\n")  # 24 kb in 3 s
    reading = read(tmp_path, "\n".join(["0"] * 50 + ["2000"]), "x.down")  # 612 kb in 2 s
    assert reading.trace.recorded == ("up_mbps", "down_mbps") and reading.trace.duration_s == 3.0
    assert reading.trace.measured == {"up_mbps", "down_mbps"}
    assert [path.name for path in reading.files] == ["x.down", "x.up"]
    # the downlink begins again at 2 s, as in Mahimahi: 51 packets in each round of 2 s, 50 of them at its beginning
    assert reading.trace.bytes_between("down_mbps", 0, 3) == pytest.approx((51 + 50) * 1500)
    # the figures are those of each file by itself
    found = figures(reading, "x")
    assert found["up_mbps"] == pytest.approx(24e-3 / 3) and found["down_mbps"] == pytest.approx(612e-3 / 2)
    assert found["longest_outage_s"] == 3.0  # the uplink's; the downlink's is 1 s
    assert figures(read_trace(tmp_path / "x.up"), "x") == found


def test_a_pair_may_be_gzipped(tmp_path: Path) -> None:
    (tmp_path / "x.up.gz").write_bytes(gzip.compress(b"0\n1000\n"))
    (tmp_path / "x.down.gz").write_bytes(gzip.compress(b"0\n500\n1000\n"))
    assert read_trace(tmp_path / "x.up.gz").trace.recorded == ("up_mbps", "down_mbps")


def test_what_is_wrong_with_the_other_of_a_pair_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "x.up").write_text("1\nx\n")
    with pytest.raises(TraceError, match=r"x\.up:2: got 'x', expected a whole number of milliseconds"):
        read(tmp_path, "1\n2\n", "x.down")


# sabre


def test_sabre_is_a_downlink_with_a_latency_that_is_not_measured(tmp_path: Path) -> None:
    entries = [(500, 1000), (1500, 0), (2000, 3000)]
    text = json.dumps([{"duration_ms": d, "bandwidth_kbps": b, "latency_ms": 70} for d, b in entries])
    # (0.5 x 1 + 1.5 x 0 + 2 x 3) Mb / 4 s; the second [1, 2) has nothing, [0, 1) has 500 kb
    assert said(tmp_path, text) == {
        "file": "trace.txt", "format": "sabre", "duration_s": 4.0, "up_mbps": None, "down_mbps": 6.5 / 4,
        "rtt_ms": 70.0, "longest_outage_s": 1.0, "assumed": ["up_mbps", "rtt_ms", "loss"],
    }  # fmt: skip


def test_a_latency_that_changes_is_measured_and_one_may_be_missing(tmp_path: Path) -> None:
    entry = '{"duration_ms": 1000, "bandwidth_kbps": 5'
    varies = read(tmp_path, f'[\n{entry}, "latency_ms": 10}},\n{entry}, "latency_ms": 20}}\n]')
    assert varies.trace.assumed == ("up_mbps", "loss")
    assert read(tmp_path, f"[{entry}}}]").trace.recorded == ("down_mbps",)


def test_a_list_on_one_long_line_is_read(tmp_path: Path) -> None:
    text = json.dumps([{"duration_ms": 10, "bandwidth_kbps": 8}] * 40_000)
    assert len(text) > 2**20
    assert read(tmp_path, text).trace.duration_s == pytest.approx(400)


# seconds and Mb/s


@pytest.mark.parametrize(("gap", "name"), [("\t", "pensieve"), (" ", "seconds-mbps"), ("   ", "seconds-mbps"),
                                           (";", "seconds-mbps"), (", ", "seconds-mbps")])  # fmt: skip
def test_rates_hold_until_the_next_row(tmp_path: Path, gap: str, name: str) -> None:
    text = "".join(f"{t}{gap}{mbps}\n" for t, mbps in ((10, 1.5), (11, 0), (12, 0.01), (14, 2), (15, 4)))
    # steps are 1, 1, 2, 1 s; the last row lasts 1 s, their median: 1.5 + 0 + 2 x 0.01 + 2 + 4 Mb in 6 s
    found = said(tmp_path, text)
    assert (found["format"], found["duration_s"], found["longest_outage_s"]) == (name, 6.0, 3.0)
    assert found["down_mbps"] == pytest.approx(7.52 / 6) and found["up_mbps"] is None


def test_times_since_1970_become_times_since_the_first_row(tmp_path: Path) -> None:
    seconds = read(tmp_path, "1700000000.0 1\n1700000000.5 2\n")
    assert seconds.trace.times_s.tolist() == [0, 0.5]
    milliseconds = read(tmp_path, "1700000000000 1\n1700000000500 2\n")
    assert milliseconds.trace == seconds.trace
    assert milliseconds.units[0] == "time in ms, since 1970, as such large numbers are"


def test_one_row_lasts_a_second(tmp_path: Path) -> None:
    assert read(tmp_path, "0 5").trace == Trace([0], 1.0, down_mbps=[5], measured={"down_mbps"})


# Irish 5G


def test_the_irish_sets_have_a_downlink_and_sometimes_pings(tmp_path: Path) -> None:
    rows = [
        "2019.12.14_23.59.58,-8.3,5G,1000,90,D,-,-",
        "2019.12.14_23.59.58,-8.3,5G,3000,90,D,-,-",  # the same second: the mean of both is 2000
        "2019.12.14_23.59.59,-8.3,5G,40,90,D,80.0,0.0",
        "2019.12.15_00.00.02,-8.3,LTE,8000,90,D,-,-",  # the row before holds for 3 s
        "2019.12.15_00.00.03,-8.3,LTE,500,90,I,90.0,20.0",
    ]
    found = said(tmp_path, "\r\n".join([IRISH_HEAD, *rows]))
    assert found == {
        "file": "trace.txt", "format": "irish-5g", "duration_s": 6.0, "up_mbps": None,
        "down_mbps": pytest.approx((1 * 2000 + 3 * 40 + 1 * 8000 + 1 * 500) / 6 / 1000), "rtt_ms": 85.0,
        "longest_outage_s": 3.0, "assumed": ["up_mbps", "loss"],
    }  # fmt: skip


def test_without_pings_the_round_trip_is_assumed(tmp_path: Path) -> None:
    found = said(tmp_path, "DL_bitrate;Timestamp\n100;2019.12.14_10.16.30\n-;2019.12.14_10.16.31\n")
    assert found["rtt_ms"] is None and found["assumed"] == ["up_mbps", "rtt_ms", "loss"]
    assert found["down_mbps"] == pytest.approx(0.1) and found["duration_s"] == 2.0  # the row without one repeats it


# CICV5G


CICV5G = "pub_time(ms) sub_time(ms) delay(ms) utmX(m) cellid(db)\n"


def test_cicv5g_has_round_trips_of_twice_its_delays_and_no_capacity(tmp_path: Path) -> None:
    rows = [(1721634606184, 24), (1721634606238, 14), (1721634606293, 40), (1721634606347, 16)]
    text = CICV5G + "".join(f"{sent} {sent + delay} {delay} 328974.25 5C422503D \n" for sent, delay in rows)
    found = said(tmp_path, text)
    # steps are 54, 55, 54 ms: the last lasts 54; 2 x the median of 14, 16, 24, 40
    assert (found["duration_s"], found["rtt_ms"]) == (0.217, 40.0)
    assert (found["up_mbps"], found["down_mbps"], found["longest_outage_s"]) == (None, None, None)
    assert found["assumed"] == ["up_mbps", "down_mbps", "loss"]
    assert said(tmp_path, text.removeprefix(CICV5G)) == found  # without its heading


# 5Gophers


GOPHERS = "protocol,num_tcp_conn,seq_num,anonymized_mCid,radio_type,throughput_mbps,nrStatus,primitive_handoff_type\n"


def test_5gophers_has_a_downlink_in_seconds(tmp_path: Path) -> None:
    rows = ("TCP,8,1,3,4G,92.1,NOT_RESTRICTED,", "TCP,8,2,3,5G,227,CONNECTED,P2", "TCP,8,5,4,5G,0,,")
    found = said(tmp_path, GOPHERS + "\n".join(rows))
    # steps are 1 and 3 s: the last lasts 2, their median; 92.1 + 3 x 227 Mb in 6 s
    assert (found["format"], found["duration_s"], found["longest_outage_s"]) == ("5gophers", 6.0, 2.0)
    assert found["down_mbps"] == pytest.approx((92.1 + 3 * 227) / 6)
    assert found["assumed"] == ["up_mbps", "rtt_ms", "loss"]


# MP-Traces


def test_mp_traces_count_bytes_of_seconds(tmp_path: Path) -> None:
    # 1 MB, nothing in second 2, no row for 3 and 4, 10 kB = 80 kb: 1,010,000 x 8 / 5 s
    found = said(tmp_path, "1,1000000\n2,0\n5,10000")
    assert found["format"] == "mp-traces" and found["duration_s"] == 5.0 and found["longest_outage_s"] == 3.0
    assert found["down_mbps"] == pytest.approx(1.616)
    assert said(tmp_path, "second,bytes\n1,1000000\n2,0\n5,10000\n") == found


# our own


def test_our_own_csv_and_parquet_are_read_again(tmp_path: Path) -> None:
    trace = Trace([0, 0.25], 1.0, up_mbps=[1, 2], rtt_ms=[30, 40.5], measured={"rtt_ms"})
    csv = read(tmp_path, "\n".join(format_csv(trace)), "a.csv")
    write_parquet(trace, tmp_path / "a.parquet")
    parquet = read_trace(tmp_path / "a.parquet")
    assert (csv.format, parquet.format) == ("spinn-csv", "spinn-parquet")
    assert csv.trace == parquet.trace == trace
    assert said(tmp_path, "\n".join(format_csv(trace)))["assumed"] == ["up_mbps", "down_mbps", "loss"]


def test_a_median_is_of_what_was_measured_not_of_what_was_repeated(tmp_path: Path) -> None:
    text = "time_s,up_mbps,rtt_ms\n0,1,10\n1,1,\n2,1,\n3,1,30\n4,1,50\n5,,\n"
    assert said(tmp_path, text)["rtt_ms"] == 30  # of 10, 30, 50; with the repetitions it would be 10


# any of them


TEXTS = {
    "mahimahi": "5\n7\n7\n1999\n2000",
    "sabre": '[\n{"duration_ms": 1000, "bandwidth_kbps": 5, "latency_ms": 10},\n'
    '{"duration_ms": 1000, "bandwidth_kbps": 5, "latency_ms": 10}\n]',
    "pensieve": "0\t5\n1\t2.5\n",
    "seconds-mbps": "0 5\n1 2.5\n",
    "irish-5g": f"{IRISH_HEAD}\n2019.12.14_23.59.58,-8.3,5G,1000,90,D,-,-\n",
    "cicv5g": f"{CICV5G}1721634606184 1721634606208 24 328974.25 5C422503D\n",
    "mp-traces": "1,3207630\n2,5640138\n",
    "5gophers": f"{GOPHERS}TCP,8,1,3,5G,227,CONNECTED,P2\n",
    "spinn-csv": "time_s,up_mbps\n0,5\n1,\n",
}


def test_the_formats_are_the_ones_that_the_tests_know() -> None:
    assert {*TEXTS, "spinn-parquet"} == set(FORMATS)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("change", ["as is", "mark", "crlf", "cr", "blank", "comments", "no end", "gzip"])
def test_every_format_copes_with_how_people_save_text(tmp_path: Path, name: str, change: str) -> None:
    text = TEXTS[name]
    changed = {
        "as is": text.encode(),
        "mark": b"\xef\xbb\xbf" + text.encode(),
        "crlf": text.replace("\n", "\r\n").encode(),
        "cr": text.replace("\n", "\r").encode(),
        "blank": b"\n \n" + text.encode() + b"\n\n",
        "comments": text.encode() if name == "sabre" else b"# by hand\n" + text.encode() + b"\n# done\n",
        "no end": text.strip().encode(),
        "gzip": gzip.compress(text.encode()),
    }[change]
    plain, reading = read(tmp_path, text, "plain"), read(tmp_path, changed)
    assert reading.format == plain.format == name
    assert reading.trace == plain.trace


@pytest.mark.parametrize("name", TEXTS)
def test_a_format_can_be_named(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, TEXTS[name], format_name=name).format == name
    with pytest.raises(TraceError):
        read(tmp_path, TEXTS[name], format_name="sabre" if name != "sabre" else "mahimahi")


def test_a_name_that_is_no_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the format is 'x', expected one of mahimahi, sabre"):
        read(tmp_path, "1\n", format_name="x")
