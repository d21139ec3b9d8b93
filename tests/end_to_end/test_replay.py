"""`spinn replay` with real processes: the tour's, to the end and again; how it ends; and what it refuses."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from spinn_stream.bundle import Bundle
from spinn_traces.replay.run.processes import RunFailed, started
from spinn_traces.simulator import Costs, forget, runs

from ..bundles import SMALL
from ..faults.world import profile_of
from ..processes import said
from .test_readme import COMMANDS, environment

REPLAY = (sys.executable, "-m", "spinn_stream.cli.main", "replay")
DATA = Path(__file__).parent.parent.parent / "traces" / "data"


def children(parent: int) -> list[int]:
    """Processes that this one started, from /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
        except (OSError, ValueError):
            continue
    return found


@pytest.mark.alone
@pytest.mark.slow
def test_the_readme_s_replay_of_two_policies_ends_in_a_report_and_is_not_run_twice(tmp_path: Path) -> None:
    (tmp_path / "traces").symlink_to(DATA.parent)
    (line,) = [line for line in COMMANDS if line.startswith("spinn replay")]
    command = [*shlex.split(line), "--runtime", "onnxruntime", "--json"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["failed"] == 0
    device, helped = (row for row in report["table"] if row["trace"] is None)
    assert (device["policy"], helped["policy"]) == ("device-only", "fixed:split=block7")
    assert device["device"]["value"] == 1.0
    assert helped["server_ms_per_frame"]["value"] > device["server_ms_per_frame"]["value"]  # but for probes, 0
    assert helped["up_mbit_per_min"]["value"] > 1
    out = tmp_path / "replay"
    assert (out / "report.html").stat().st_size > 1_000_000
    runs = json.loads((out / "replay.json").read_text())["runs"]
    for run, codec in zip(runs, (None, "transform:10"), strict=True):
        finals = run["finals"]
        at = np.array(finals["captured_s"])
        assert 0 <= at[0] < 0.5 and 2.5 < at[-1] < 3 and len(at) >= 60  # 3 s at 30 frames a second
        assert np.median(np.diff(at)) == pytest.approx(1 / 30, abs=0.01)
        assert min(finals["age_ms"]) > 0 and set(finals["correct"]) <= {True, False}
        assert len(run["link"]["up_mbps"]) == 3 and run["captured"] >= len(at)
        assert run["plans"][0]["codec"] == codec
    answers = zip(runs[1]["finals"]["age_ms"], runs[1]["finals"]["where"], strict=True)
    assert min(age for age, where in answers if where == "server") >= min(runs[1]["link"]["rtt_ms"]) - 1
    again = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert again.returncode == 0 and json.loads(again.stdout) == report
    assert len(list((out / "runs").iterdir())) == 2


def test_the_same_in_virtual_time(tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run measures of this machine is given here: tests/traces/test_calibration.py measures it."""
    monkeypatch.setattr(runs, "measure_apart", lambda *_, **__: Costs(preprocess_ms=1.0))
    monkeypatch.setattr(runs, "stored_profile", lambda *_, **__: profile_of(bundle))
    forget()
    done = said("replay", "--source", "demo", "--trace", str(DATA / "lte-driving.csv"), "--policy", "spinn", "--policy",
                "away=fixed:split=block7,threshold=none", "--duration-s", "3", "--device-slowdown", "2", "--out",
                str(tmp_path), "--runtime", "onnxruntime", "--simulate", "--json", "--quiet", *SMALL)  # fmt: skip
    forget()
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "replay.json").read_text())["runs"]
    for run in made:
        assert run["spec"]["simulate"] and run["captured"] == 90
        assert len(run["finals"]["frame"]) + sum(run["dropped_by"].values()) == 90
        assert max(run["finals"]["age_ms"]) <= 150 + 20
    decided, away = made
    assert all(plan["why"] for plan in decided["plans"]) and away["plans"][0]["split"] == "block7"
    assert away["finals"]["where"].count("server") > 15 and away["server_compute_ms"] > 0
    assert "imulated" in (tmp_path / "report.html").read_text()


def test_a_replay_that_is_ended_leaves_no_process(short_demo: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*REPLAY, "--source", str(short_demo), "--trace", str(DATA / "lte-driving.csv"), "--policy", "device-only",
         "--out", str(tmp_path), "--runtime", "onnxruntime", "--fps", "2", "--duration-s", "20", *SMALL],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        started: list[int] = []
        while len(started) < 2:
            assert process.poll() is None
            started = children(process.pid)
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 130
    finally:
        process.kill()
        process.wait()
    for child in started:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_a_process_that_fails_is_told_by_its_name_and_its_last_line(tmp_path: Path) -> None:
    unread = started("client", ["run", "--source", "nowhere.mp4"], tmp_path, None)
    with unread as client, pytest.raises(RunFailed, match=r"client ended with exit code 1: .* no file 'nowhere\.mp4'"):
        client.line("ready ", 20)
    unknown = started("server", ["serve", "--nonsense"], tmp_path, None)
    with unknown as server, pytest.raises(RunFailed, match="server ended with exit code 2: No such option"):
        server.finish(20)
    with started("shaper", ["--help"], tmp_path, None) as shaper:
        shaper.finish(20)
        with pytest.raises(RunFailed, match="shaper ended with exit code 0: it said nothing"):
            shaper.line("ready ", 1)
    sleeping = started("slow", ["shape", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1"], tmp_path, None)
    with sleeping as slow, pytest.raises(RunFailed, match=r"slow did not say `never` within 0\.2 s"):
        slow.line("never", 0.2)
    assert slow.process.returncode == -signal.SIGKILL


def test_a_source_that_cannot_be_read_is_told_in_a_line(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "0.png").write_bytes(b"no image")
    done = said("replay", "--source", str(frames), "--trace", str(DATA / "lte-driving.csv"), "--policy", "fixed",
                "--out", str(tmp_path / "out"), "--runtime", "onnxruntime", "--quiet")  # fmt: skip
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "0.png is not a picture" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--policy", "device-only"), 1, "no trace is given: add --trace FILE"),
        (("--trace", "nowhere.csv", "--policy", "magic"), 1, "no policy 'magic', expected one of "),
        (("--trace", "nowhere.csv", "--policy", "fixed"), 1, "nowhere.csv"),
        (("--trace", "nowhere.csv", "--policy", "fixed", "--repeats", "none"), 2, "--repeats"),
    ],
)
def test_what_cannot_be_replayed_is_told_in_one_line(
    arguments: tuple[str, ...], code: int, text: str, tmp_path: Path
) -> None:
    options = ("--source", "demo", "--runtime", "onnxruntime", "--quiet", "--out", str(tmp_path / "out"))
    done = said("replay", *options, *arguments)
    assert done.returncode == code and text in " ".join(done.stderr.split())
    assert code == 2 or done.stderr.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = said("replay", "--source", "demo", "--trace", str(DATA / "lte-driving.csv"), "--policy", "fixed", "--out",
                str(tmp_path / "file" / "out"))  # fmt: skip
    assert done.returncode == 1 and "cannot write there" in done.stderr
