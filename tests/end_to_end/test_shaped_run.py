"""Real client, shaper and server: a long link is kept full, a trace is imposed, and what a session saw is replayed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest

from spinn_traces.readers import read_trace

from ..faults.test_server_away import answered, wait_for
from ..processes import ClientProcess, ServerProcess, run_client, shaper, spinn

FPS = 30


@pytest.mark.alone
@pytest.mark.slow
def test_frames_overlap_on_a_long_link(serving: ServerProcess, tmp_path: Path) -> None:
    """200 ms round trip, 30 frames a second, no exit fires: once the window has grown, in the first second, nearly all
    are answered by the server in time.

    When a frame is answered, the following age x fps frames have been taken in: that many are under way at once.
    """
    with shaper(serving.port, "--rtt-ms", "200") as link:
        out = run_client(tmp_path, "--source", "demo", "--frames", "300", "--fps", str(FPS), "--split", "9",
                         "--threshold", "none", "--deadline-ms", "500", "--server",
                         f"ws://127.0.0.1:{link.port}")  # fmt: skip
        assert link.state()["up"]["delivered_bytes"] >= out.summary["bytes_up"]
    out.check_contract(500)
    assert out.summary["captured"] == 300
    in_time = [r for r in out.finals if r["frame"] >= FPS and r["where"] == "server" and r["age_ms"] <= 500]
    assert len(in_time) >= 0.95 * (300 - FPS)
    under_way = [int(r["age_ms"] / 1000 * FPS) for r in in_time]
    assert min(under_way) >= 6
    print(
        f"{len(in_time)} of {300 - FPS} answered by the server in time, median {np.median(under_way):.0f} under way; "
        f"ages {out.summary['age_ms']}"
    )


def test_settings_change_while_it_runs_and_say_when(serving: ServerProcess, tmp_path: Path) -> None:
    errors = tmp_path / "errors.txt"

    with shaper(serving.port, errors=errors) as link:
        client = ClientProcess(tmp_path, "--source", "demo", "--loop", "--split", "9", "--threshold", "none",
                               "--server", f"ws://127.0.0.1:{link.port}")  # fmt: skip
        wait_for(lambda: answered(client, "server", 0), "server answer")
        before = time.monotonic()
        state = link.state({"rtt_ms": 400, "up_mbps": 5})
        assert before <= state["at_s"] <= time.monotonic()  # one clock for all processes of the machine
        seen = len(client.results())
        wait_for(lambda: len(client.results()) >= seen + 60, "frames on the long link")
        far = [r for r in client.results()[seen + 10 :] if r["kind"] == "final"]
        assert link.state({"reset": True, "rtt_ms": 0})["changes"][-1] == {"at_s": ANY, "reset": True, "rtt_ms": 0}
        seen = len(client.results())
        wait_for(lambda: answered(client, "server", seen), "server answer: it connected again")
        out = client.finish(interrupt=True)
    assert {r["where"] for r in far} == {"device"}  # 400 ms are more than the deadline
    assert out.summary["reasons"].get("disconnected", 0) > 0
    assert f'at {state["at_s"]:.6f} s: {{"rtt_ms": 400, "up_mbps": 5}}' in errors.read_text()


@pytest.mark.alone
@pytest.mark.slow
def test_what_a_session_saw_of_its_link_is_replayed(serving: ServerProcess, tmp_path: Path) -> None:
    """A link of 0.4 Mb/s and 60 ms, filled: its trace says so, and played it is such a link again."""
    recorded = tmp_path / "link.csv"
    run = ("--source", "demo", "--frames", "240", "--split", "9", "--threshold", "none", "--deadline-ms", "400")
    with shaper(serving.port, "--up-mbps", "0.4", "--rtt-ms", "60") as link:
        first = run_client(tmp_path / "first", *run, "--server", f"ws://127.0.0.1:{link.port}", "--record-trace",
                           str(recorded))  # fmt: skip
    said = json.loads(spinn("trace", "info", "--json", str(recorded)).stdout)
    assert said["format"] == "spinn-csv" and said["assumed"] == ["down_mbps", "loss"]
    assert said["up_mbps"] == pytest.approx(0.4, rel=0.1)
    assert 55 <= said["rtt_ms"] <= 90
    errors = tmp_path / "errors.txt"
    with shaper(serving.port, "--trace", str(recorded), "--down-mbps", "50", errors=errors) as link:
        again = run_client(tmp_path / "again", *run, "--server", f"ws://127.0.0.1:{link.port}")
    assert again.summary["bytes_up"] == pytest.approx(first.summary["bytes_up"], rel=0.25)
    told = errors.read_text().splitlines()[0]
    assert "up_mbps of the trace; down_mbps 50 as given; rtt_ms of the trace; loss assumed: 0" in told
    print(said, first.summary["bytes_up"], again.summary["bytes_up"])


def test_a_fast_link_s_capacity_is_not_made_up(serving: ServerProcess, tmp_path: Path) -> None:
    recorded = tmp_path / "link.csv"
    run_client(tmp_path, "--source", "demo", "--frames", "90", "--split", "9", "--threshold", "none", "--server",
               serving.address, "--record-trace", str(recorded))  # fmt: skip
    trace = read_trace(recorded).trace
    assert "rtt_ms" in trace.measured
    assert "at least" in recorded.read_text() or trace.mean("up_mbps") > 5  # where a busy machine looked like a link
