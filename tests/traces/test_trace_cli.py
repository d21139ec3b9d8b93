"""`spinn trace`: what it prints and draws, and how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spinn_stream.errors import ConfigError
from spinn_traces.cli.trace_plot import draw
from spinn_traces.readers import read_trace


def spinn_trace(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spinn_traces.cli.trace", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.txt"
    path.write_text("0 5\n1 0.01\n2 0.01\n3 2\n")
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.txt"
    path.write_text("0 5\n1 -5\n")
    return path


def test_info_prints_one_object_for_each_file(good: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("1,3000000\n2,1000000\n")
    done = spinn_trace("info", good, other, "--json")
    assert done.returncode == 0 and done.stderr == ""
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first == {
        "file": str(good), "format": "seconds-mbps", "duration_s": 4.0, "up_mbps": None,
        "down_mbps": pytest.approx(7.02 / 4), "rtt_ms": None, "longest_outage_s": 2.0,
        "assumed": ["up_mbps", "rtt_ms", "loss"],
        "units": ["time in s, as is usual in this format", "rate in Mb/s, as is usual in this format"],
    }  # fmt: skip
    assert second["file"] == str(other) and second["down_mbps"] == 16


def test_info_says_the_format_and_what_it_assumed(good: Path) -> None:
    said = " ".join(spinn_trace("info", good).stdout.split())
    for words in ("seconds-mbps", "1.755 Mb/s", "longest outage 2 s", "assumed up_mbps, rtt_ms, loss",
                  "taken as the downlink", "the last row lasts 1 s"):  # fmt: skip
        assert words in said


def test_one_bad_file_is_one_line_and_exit_code_1(bad: Path) -> None:
    done = spinn_trace("info", bad, "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"spinn trace: {bad}:2: down_mbps is -5, expected 0 to 100000 Mb/s\n"


def test_good_files_are_told_beside_bad_ones(good: Path, bad: Path) -> None:
    done = spinn_trace("info", bad, good, "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["file"] == str(good)
    assert done.stderr.splitlines()[1:] == ["spinn trace: 1 of 2 files could not be read"]


def test_a_format_can_be_forced(tmp_path: Path) -> None:
    path = tmp_path / "small.csv"
    path.write_text("1,5\n2,6\n")
    assert spinn_trace("info", path).returncode == 1
    done = spinn_trace("info", path, "--format", "mp-traces", "--json")
    assert json.loads(done.stdout)["format"] == "mp-traces"


@pytest.mark.parametrize("arguments", [[], ["info"], ["nonsense"], ["plot"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert spinn_trace(*arguments).returncode == 2


def test_help_says_what_an_outage_is() -> None:
    said = " ".join(spinn_trace("info", "--help").stdout.replace("│", " ").split())
    assert "below 50 kb/s" in said and "in the worse direction" in said


def test_plot_draws_every_file(good: Path, tmp_path: Path) -> None:
    delays = tmp_path / "delays.csv"
    delays.write_text("time_s,rtt_ms\n0,20\n1,30\n")
    pair = tmp_path / "x.up"
    pair.write_text("1\n2000\n")
    pair.with_suffix(".down").write_text("5\n2000\n")
    done = spinn_trace("plot", good, delays, pair, "--out", tmp_path / "plot.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_name_the_picture_lies_in_this_folder(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert spinn_trace("plot", good).stdout == "drawn: good.txt.png\n"
    assert Path("good.txt.png").is_file()


def test_what_cannot_be_drawn_is_told(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = read_trace(good)
    for out, window_s, said in (
        (tmp_path / "x.nonsense", 1.0, "cannot draw"),
        (Path("/no/such/x.png"), 1.0, "no folder /no/such"),
        (tmp_path / "x.png", 0.0, "--window-s is 0, expected"),
        (tmp_path / "x.png", 5.0, "--window-s is 5, expected"),
    ):
        with pytest.raises(ConfigError, match=said):
            draw([("good", reading)], out, window_s)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'spinn-traces\[plot\]'"):
        draw([("good", reading)], tmp_path / "x.png", 1.0)
