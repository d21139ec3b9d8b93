"""Every real trace beside the project: its figures equal those counted here from the raw file, in plain Python."""

from __future__ import annotations

import itertools
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from spinn_traces.figures import figures
from spinn_traces.readers import read_trace

Stretch = tuple[float, float, float]
"""From second, to second, kb/s."""


@pytest.fixture
def traces(shared: Path) -> Path:
    if not (shared / "traces").is_dir():
        pytest.skip(f"{shared / 'traces'} is not here")
    return shared / "traces"


def longest_run(windows_kb: Iterable[float]) -> float:
    """Seconds: the longest run of windows of 1 s with less than 50 kb in them."""
    longest = run = 0
    for kb in windows_kb:
        run = run + 1 if kb < 50 else 0
        longest = max(longest, run)
    return float(longest)


def windows(stretches: list[Stretch]) -> list[float]:
    """kb in each whole window of 1 s from 0 on."""
    kb = [0.0] * int(stretches[-1][1])
    for begin, end, kbps in stretches:
        for second in range(int(begin), min(int(end) + 1, len(kb))):
            kb[second] += kbps * max(0.0, min(end, second + 1) - max(begin, second))
    return kb


def mean_mbps(stretches: list[Stretch]) -> float:
    return sum((end - begin) * kbps for begin, end, kbps in stretches) / stretches[-1][1] / 1000


def figures_of(path: Path) -> dict[str, Any]:
    return figures(read_trace(path), path.name)


# Mahimahi: n lines of 1500 bytes = 12 kb each; one round lasts until the last of them


def packets(path: Path) -> tuple[float, float, float]:
    """Seconds, Mb/s and longest outage of one direction."""
    times_ms = [int(line) for line in path.read_text().split()]
    kb: dict[int, float] = defaultdict(float)
    for ms in times_ms:
        kb[ms // 1000] += 12
    end_ms = times_ms[-1]
    return end_ms / 1000, len(times_ms) * 12 / end_ms, longest_run(kb[second] for second in range(end_ms // 1000))


@pytest.mark.parametrize("name", ["mahimahi-TMobile-UMTS-driving", "mahimahi-ATT-LTE-driving-2016"])
@pytest.mark.parametrize("suffix", [".up", ".down"])
def test_mahimahi(traces: Path, name: str, suffix: str) -> None:
    up_s, up_mbps, up_outage = packets(traces / f"{name}.up")
    down_s, down_mbps, down_outage = packets(traces / f"{name}.down")
    assert figures_of(traces / f"{name}{suffix}") == {
        "file": f"{name}{suffix}", "format": "mahimahi", "duration_s": max(up_s, down_s),
        "up_mbps": pytest.approx(up_mbps, rel=1e-9), "down_mbps": pytest.approx(down_mbps, rel=1e-9), "rtt_ms": None,
        "longest_outage_s": max(up_outage, down_outage), "assumed": ["rtt_ms", "loss"],
    }  # fmt: skip


def test_a_real_pair_passes_the_packets_of_its_lines(traces: Path) -> None:
    path = traces / "mahimahi-TMobile-UMTS-driving.up"
    trace = read_trace(path).trace
    times_ms = [int(line) for line in path.read_text().split()]
    for begin, end in ((0, 1), (10, 60), (500, 900)):
        count = sum(begin * 1000 <= ms < end * 1000 for ms in times_ms)
        assert trace.bytes_between("up_mbps", begin, end) == pytest.approx(count * 1500, abs=0.01)


# sabre


@pytest.mark.parametrize("name", ["3g-metro_2010-09-21", "4g-bicycle_0002", "4g-foot_0006"])
def test_sabre(traces: Path, name: str) -> None:
    path = traces / f"sabre-{name}.json"
    stretches, at = [], 0
    entries = json.loads(path.read_text())
    for entry in entries:
        stretches.append((at / 1000, (at + entry["duration_ms"]) / 1000, entry["bandwidth_kbps"]))
        at += entry["duration_ms"]
    found = figures_of(path)
    assert (found["format"], found["duration_s"], found["up_mbps"]) == ("sabre", at / 1000, None)
    assert found["down_mbps"] == pytest.approx(mean_mbps(stretches), rel=1e-9)
    assert found["longest_outage_s"] == longest_run(windows(stretches))
    assert found["rtt_ms"] == entries[0]["latency_ms"] and found["assumed"] == ["up_mbps", "rtt_ms", "loss"]


# seconds and Mb/s: a row holds until the next, the last one as long as the median


def test_seconds_and_mbps(traces: Path) -> None:
    path = traces / "zhuge-rest-wifi_14.txt"
    rows = [tuple(map(float, line.split())) for line in path.read_text().splitlines()]
    begins = [t - rows[0][0] for t, _ in rows]
    step = statistics.median(b - a for a, b in itertools.pairwise(begins))
    ends = [*begins[1:], begins[-1] + step]
    stretches = [(a, b, mbps * 1000) for a, b, (_, mbps) in zip(begins, ends, rows, strict=True)]
    found = figures_of(path)
    assert (found["format"], found["up_mbps"], found["rtt_ms"]) == ("seconds-mbps", None, None)
    assert found["duration_s"] == pytest.approx(ends[-1], abs=1e-6)
    assert found["down_mbps"] == pytest.approx(mean_mbps(stretches), rel=1e-6)  # times are kept to a microsecond
    assert found["longest_outage_s"] == longest_run(windows(stretches))
    assert found["assumed"] == ["up_mbps", "rtt_ms", "loss"]


# MP-Traces: a row is a second


@pytest.mark.parametrize("network", ["wifi", "cellular"])
def test_mp_traces(traces: Path, network: str) -> None:
    path = traces / f"mptraces-8_5_{network}.csv"
    count = [int(line.partition(",")[2]) for line in path.read_text().split()]
    found = figures_of(path)
    assert (found["format"], found["duration_s"], found["up_mbps"]) == ("mp-traces", len(count), None)
    assert found["down_mbps"] == pytest.approx(sum(count) * 8 / len(count) / 1e6, rel=1e-9)
    assert found["longest_outage_s"] == longest_run(n * 8 / 1000 for n in count)


# Irish 5G: rows of one second are averaged and hold until the next second that has some; the last holds for 1 s


def test_irish_5g(traces: Path) -> None:
    (path,) = traces.glob("uccmisl-5g-*.csv")
    names, *lines = [line.split(",") for line in path.read_text().splitlines()]
    rows = [dict(zip(names, line, strict=True)) for line in lines]
    of_second: dict[float, list[float]] = defaultdict(list)
    for row in rows:
        moment = datetime.strptime(row["Timestamp"] + " +0000", "%Y.%m.%d_%H.%M.%S %z").timestamp()
        of_second[moment].append(float(row["DL_bitrate"]))
    begins = list(of_second)
    ends = [*begins[1:], begins[-1] + 1]
    stretches = [
        (begin - begins[0], end - begins[0], sum(kbps) / len(kbps))
        for begin, end, kbps in zip(begins, ends, of_second.values(), strict=True)
    ]
    found = figures_of(path)
    assert (found["format"], found["up_mbps"]) == ("irish-5g", None)
    assert found["duration_s"] == stretches[-1][1]
    assert found["down_mbps"] == pytest.approx(mean_mbps(stretches), rel=1e-9)
    assert found["longest_outage_s"] == longest_run(windows(stretches))
    assert found["rtt_ms"] == statistics.median(float(row["PINGAVG"]) for row in rows if row["PINGAVG"] != "-")
    assert found["assumed"] == ["up_mbps", "loss"]


# CICV5G: twice the delay


def test_cicv5g(traces: Path) -> None:
    path = traces / "cicv5g-urban_n78_v30_run01.txt"
    rows = [[int(word) for word in line.split()[:3]] for line in path.read_text().splitlines()[1:]]
    sent = [row[0] for row in rows]
    step = statistics.median(b - a for a, b in itertools.pairwise(sent))
    assert figures_of(path) == {
        "file": path.name, "format": "cicv5g", "duration_s": pytest.approx((sent[-1] - sent[0] + step) / 1000),
        "up_mbps": None, "down_mbps": None, "rtt_ms": 2 * statistics.median(row[2] for row in rows),
        "longest_outage_s": None, "assumed": ["up_mbps", "down_mbps", "loss"],
    }  # fmt: skip


def test_every_real_trace_is_read(traces: Path) -> None:
    files = [path for path in traces.iterdir() if path.name != "README.md"]
    assert files
    for path in files:
        trace = read_trace(path).trace
        assert trace.duration_s > 60
        assert set(trace.filled().recorded) == {"up_mbps", "down_mbps", "rtt_ms", "loss"}
