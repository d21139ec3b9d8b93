"""What is no trace, or a damaged one: one error of ours, with the line and the reason."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spinn_stream.errors import ConfigError, TraceError
from spinn_stream.trace import rows as rows_module
from spinn_traces.readers import FORMATS, read_trace, write_parquet
from spinn_traces.readers import mahimahi as mahimahi_module

from .test_readers import CICV5G, IRISH_HEAD, TEXTS, read

IRISH_ROW = "2019.12.14_10.00.01,0,5G,1,1,D,-,-"
ENTRY = '{"duration_ms": 1000, "bandwidth_kbps": 5, "latency_ms": 10}'

BAD = [
    # nothing in it
    ("", r"t:1: the file is empty"),
    ("\n \n", r"t:1: no rows of data; the trace is empty"),
    ("# only words\n", r"t:1: no rows of data"),
    (f"{IRISH_HEAD}\n", r"no rows of data"),
    (CICV5G, r"no rows of data"),
    ("[]", r"no rows of data"),
    ("0\n", r"t:1: the last time is 0 ms, expected above 0"),
    # times
    ("5\n7\n6\n", r"t:3: the time goes back from 7 to 6 ms"),
    ("0 5\n1 5\n0.5 5\n", r"t:3: the time goes back from 1 to 0.5 s, expected rising times"),
    ("0 5\n1 5\n1 5\n", r"t:3: the time 1 s again"),
    ("1,3207630\n2,1\n2,1\n", r"t:3: the time 2 s again"),
    ("1,3207630\n0,1\n", r"t:2: the time goes back from 1 to 0 s"),
    ("1.5,3207630\n2.5,1\n", r"t:1: the second is 1.5, expected a whole number"),
    (f"{IRISH_HEAD}\n{IRISH_ROW}\n{IRISH_ROW.replace('01', '00')}\n", r"t:3: the time goes back"),
    (f"{IRISH_HEAD}\n{IRISH_ROW.replace('12', '13')}\n", r"t:2: Timestamp is '2019.13.14_10.00.01', expected one"),
    (f"{CICV5G}2000 2010 10 0 A\n1000 1010 10 0 A\n", r"t:3: the time goes back from 2 to 1 s"),
    ("0 5\n1e300 5\n", r"t:2: the time is 1e\+300 s"),
    ("5\n999999999999\n", r"t:2: 999999999999 ms is more than the longest trace, 27.8 hours; is it in ms\?"),
    (f"[{ENTRY.replace('1000', '0')}]", r"t:1: duration_ms is 0, expected above 0"),
    (f"[{ENTRY.replace('1000', '-5')}]", r"t:1: duration_ms is -5, expected above 0"),
    (f"[{ENTRY.replace('1000', '1e400')}]", r"t:1: duration_ms is Infinity, expected a number"),
    # values
    ("-5\n7\n", r"t:1: got '-5', expected a whole number of milliseconds from 0"),
    ("5\n7.5\n", r"t:2: got '7.5', expected a whole number"),
    ("5\n1_0\n", r"t:2: got '1_0', expected a whole number"),
    ("5\n\u0667\n", r"t:2: got '\u0667', expected a whole number"),
    ("0 5\n1 -5\n", r"t:2: down_mbps is -5, expected 0 to 100000 Mb/s"),
    ("0 5\n1 3207630\n", r"t:2: down_mbps is 3.20763e\+06, expected 0 to 100000 Mb/s"),
    ("0 5\n1 nan\n", r"t:2: the rate is 'nan', expected a number"),
    ("0 5\n1 inf\n", r"t:2: the rate is 'inf', expected a number"),
    ("0 5\n1 5 5\n", r"t:2: 3 columns in '1 5 5', expected 2"),
    ("0\t5\n1\n", r"t:2: 1 column in '1', expected 2"),
    ("1,3207630\n2,-1\n", r"t:2: down_mbps is -8e-06, expected 0 to 100000"),
    ("1,3207630\n2,x\n", r"t:2: the number of bytes is 'x', expected a number"),
    (f"[\n{ENTRY},\n{ENTRY.replace('5,', '-5,')}\n]", r"t:3: down_mbps is -0.005, expected 0"),
    (f"[\n{ENTRY},\n{ENTRY.replace('5,', 'NaN,')}\n]", r"t:3: bandwidth_kbps is NaN, expected a number"),
    (f"[{ENTRY.replace('5,', 'true,')}]", r"bandwidth_kbps is true, expected a number"),
    ('[{"duration_ms": 1000}]', r"t:1: '\{\"duration_ms\": 1000\}' has no bandwidth_kbps"),
    (f"{IRISH_HEAD}\n2019.12.14_10.00.01,0,5G,-5,1,D,-,-\n", r"t:2: down_mbps is -0.005"),
    (f"{IRISH_HEAD}\n2019.12.14_10.00.01,0,5G,abc,1,D,-,-\n", r"t:2: dl_bitrate is 'abc', expected a number"),
    (f"{IRISH_HEAD}\n2019.12.14_10.00.01,0,5G,-,1,D,-,-\n", r"no row has a value of down_mbps"),
    (f"{CICV5G}1000 990 -10 0 A\n", r"t:2: rtt_ms is -20, expected 0 to 60000 ms"),
    # decimal commas
    ("0 5\n1 2,5\n", r"t:2: the rate is '2,5', expected a number such as 0.5; a decimal comma\? write a point"),
    ("0,5 2,5\n1,5 3,5\n", r"t:1: decimal commas are not read, write points"),
    ("0;2,5\n1;3,5\n", r"t:1: decimal commas are not read, write points"),
    # cut off
    (f"[\n{ENTRY},\n{ENTRY},\n", r"t:4: the file ends within the list, at ''; it is cut off"),
    (f"[\n{ENTRY},\n{ENTRY[:20]}", r"t:3: the file ends within the list, at '\{\"duration_ms\": 1000'; it is cut off"),
    (f"{IRISH_HEAD}\n{IRISH_ROW}\n2019.12.14_10", r"t:3: 1 column in '2019.12.14_10', expected 8"),
    (f"{CICV5G}1721634606184 1721634606208 24 1.5 A\n1721634606238 17216346", r"t:3: 2 columns in .*, expected 5"),
    # something else
    (f"[{ENTRY}] x", r"t:1: got 'x', expected nothing behind the list"),
    (f"[{ENTRY}, 5]", r"t:1: got '5\]', expected a flat object"),
    ('[{"duration_ms": {"a": 5}}]', r"t:1: got .* expected a flat object"),
    ('[{"duration_ms": 5 "bandwidth_kbps": 5}]', r"t:1: not JSON"),
    (ENTRY, r"t:1: got .*, expected a list of objects"),
    ("hello world\nhow are you\n", r"t:1: no known format: 'hello world'; expected one of mahimahi, .*; --format NAME"),
    ("<html><body>Not found</body></html>", r"t:1: no known format: '<html>"),
    ("1 2 3 4\n5 6 7 8\n", r"t:1: no known format: '1 2 3 4'"),
    ("1,5\n2,6\n", r"t:1: either mp-traces or seconds-mbps: '1,5'; .* --format NAME names it"),
    ("1,0\n2,0\n", r"t:1: either mp-traces or seconds-mbps"),
    ("0\x001\n2\n", r"t:1: a zero byte; expected a text file"),
    ("1\n2\n\x00\n", r"t:3: a zero byte"),
    ("1" * 70_000, r"t:1: longer than 65536 characters; no trace has such a line"),
    ("1\n" + "1" * 70_000, r"t:2: longer than 65536 characters|t:2: got '1111"),
    ("0 1\n" * 3 + " " * 70_000 + "\n", r"longer than 65536 characters|the time 0 s again"),
    ("[" + " " * 10 + "{" + "1" * 70_000 + "}]", r"t:1: not JSON|an object of more than"),
    (b"PK\x03\x04rest", r"t:1: a zip archive; unpack it first"),
    ("5\n7\n".encode("utf-16"), r"t:1: UTF-16 text; save it as UTF-8"),
    (b"PAR1 and no more", r"t: Parquet that cannot be read"),
    (gzip.compress(b"5\n7\n9\n" * 1000, mtime=0)[:-12], r"the compressed data is damaged or cut off"),
    (gzip.compress(b"5\n7\n", mtime=0) + b"rubbish", r"the compressed data is damaged or cut off"),
    (b"\x1f\x8brubbish", r"the compressed data is damaged or cut off"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), BAD)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(TraceError, match=said) as caught:
        read(tmp_path, text, "t")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400 + len(str(tmp_path))


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="there is no file /no/such/file"):
        read_trace(Path("/no/such/file"))
    with pytest.raises(TraceError, match="is a folder, expected a trace file"):
        read_trace(tmp_path)
    if os.geteuid() != 0:
        (tmp_path / "closed").write_text("1\n")
        (tmp_path / "closed").chmod(0)
        with pytest.raises(TraceError, match=r"cannot read .*closed"):
            read_trace(tmp_path / "closed")


def test_absurdly_many_opportunities_name_their_line(tmp_path: Path) -> None:
    # 100,000 Mb/s for 20 ms are 250 MB: 166,666 lines
    assert mahimahi_module.MOST_IN_BIN == 100_000 * 20 * 125 // 1500
    with pytest.raises(TraceError, match=r"more than 166666 lines between 0 and 20 ms, which is above 100000 Mb/s"):
        read(tmp_path, "5\n" * 200_000 + "1000\n")
    with pytest.raises(TraceError, match="the lines of the last milliseconds are above 100000 Mb/s"):
        read(tmp_path, "1\n" * 20_000)


def test_a_pair_of_very_different_lengths_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.up").write_text("1\n")  # a round of 1 ms, 50 million times
    with pytest.raises(TraceError, match=r"x\.down:1: does not go together with x\.up: 50000000 rounds of 1 samples"):
        read(tmp_path, "1\n50000000\n", "x.down")


def test_numbers_beyond_any_machine_are_told(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r":2: .* ms is more than the longest trace"):
        read(tmp_path, "1\n" + "9" * 30 + "\n")


def test_too_many_rows_are_told_before_memory_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "MAX_SAMPLES", 1000)
    text = "".join(f"{i} 1\n" for i in range(2000))
    with pytest.raises(TraceError, match=r":1001: more than 1000 samples; cut the file into pieces"):
        read(tmp_path, text)


def test_a_long_file_is_read_in_pieces(tmp_path: Path) -> None:
    """20 MB of Mahimahi: the memory is that of its bins and of one piece, not of the file."""
    path = tmp_path / "long.up"
    with path.open("w") as file:
        for second in range(400):
            file.writelines(f"{second * 1000 + i // 8}\n" for i in range(8000))
    assert path.stat().st_size > 20e6
    tracemalloc.start()
    trace = read_trace(path).trace
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert trace.mean("up_mbps") == pytest.approx(8 * 12 * 400_000 / 399_999)  # 8 packets of 12 kb in each ms
    assert peak < 0.8 * 40e6 + 15e6


@pytest.mark.parametrize(
    ("columns", "metadata", "said"),
    [
        ({"time_s": [0.0, 1.0]}, {}, r"the columns are \['time_s'\], expected time_s and some of"),
        ({"up_mbps": [0.0, 1.0]}, {}, "the columns are"),
        ({"time_s": ["0", "1"], "up_mbps": [1.0, 2.0]}, {}, "time_s is of the type string, expected numbers"),
        ({"time_s": [0.0, 1.0], "up_mbps": [1.0, -2.0]}, {}, ":2: up_mbps is -2, expected 0 to 100000"),
        ({"time_s": [1.0, 0.0], "up_mbps": [1.0, 2.0]}, {}, ":2: the time goes back"),
        ({"time_s": [0.0, None], "up_mbps": [1.0, 2.0]}, {}, ":2: time_s is None, expected a number"),
        ({"time_s": [0.0, float("nan")], "up_mbps": [1.0, 2.0]}, {}, ":2: time_s is nan"),
        ({"time_s": [0.0, 1.0, 2.0], "up_mbps": [1.0, None, 2.0]}, {}, ":3: a row behind the end, which is in row 2"),
        ({"time_s": [0.0], "up_mbps": [1.0]}, {"spinn.duration_s": "x"}, "duration_s is b'x', expected a number"),
        ({"time_s": [0.0], "up_mbps": [1.0]}, {"spinn.duration_s": "nan"}, "expected a number"),
        ({"time_s": [], "up_mbps": []}, {}, "expected numbers|no rows of data"),
    ],
)
def test_parquet_that_is_no_trace(
    tmp_path: Path, columns: dict[str, list[object]], metadata: dict[str, str], said: str
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    with pytest.raises(TraceError, match=said):
        read_trace(path)


def test_without_pyarrow_the_package_to_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = read(tmp_path, "0 1\n").trace
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'spinn-traces\[parquet\]'"):
        write_parquet(trace, tmp_path / "a.parquet")


LIKELY = '0123456789.,;\t\n -[]{}e#:"ab'


def mutated(draw: st.DrawFn) -> bytes:
    """A good file with some bytes changed, cut off or doubled."""
    text = bytearray(draw(st.sampled_from(sorted(TEXTS.values()))).encode())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        text[at : at + draw(st.integers(0, 8))] = draw(
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from([b"\n", b",", b"-", b"9" * 20, b"e9", b"[", b"}", b"\xff\xfe", b""]),
            )
        )
    return bytes(text)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=300), st.text(LIKELY, max_size=80).map(str.encode), st.composite(mutated)()))
@example(b"\x1f\x8b\x08")
@example(b"PAR1")
@example(b"\x1c0")
@example(b"[" * 2000)
@example(b'[{"a":' + b"9" * 5000 + b"}]")
def test_whatever_bytes_come_there_is_a_trace_or_an_error_of_ours(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any"
    path.write_bytes(data)
    for name in (None, *FORMATS):
        try:
            trace = read_trace(path, name).trace
        except TraceError:
            continue
        assert trace.duration_s > 0 and trace.recorded
