"""The robot's program with real processes, as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import spinn_drone.robot

from ..processes import said

SPINN = (sys.executable, "-m", "spinn_stream.cli.main")
TIMEOUT_S = 180


def test_the_robot_s_program_is_read_in_one_sitting() -> None:
    program = Path(spinn_drone.robot.__file__).read_text().splitlines()
    assert len(program) <= 120


@pytest.mark.alone
@pytest.mark.slow
def test_it_flies_through_a_cut_of_the_link_with_a_real_server(tmp_path: Path) -> None:
    done = subprocess.run(
        [*SPINN, "drone", "--seed", "1", "--cut", "2:2", "--record", str(tmp_path / "flight.json")],
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done.stderr
    told = done.stdout
    assert told.index("take-off") < told.index("the link is cut") and "Forest 1:" in told
    flight = json.loads((tmp_path / "flight.json").read_text())
    assert flight["ending"] in ("arrived", "crashed", "out of time") and flight["metres"] > 5
    shown = subprocess.run(
        [*SPINN, "drone", "--replay", str(tmp_path / "flight.json")],
        capture_output=True, text=True, timeout=TIMEOUT_S, check=True,
    )  # fmt: skip
    assert shown.stdout.strip() in told


@pytest.mark.alone
def test_ctrl_c_ends_it_and_all_its_processes() -> None:
    with subprocess.Popen(
        [*SPINN, "drone", "--no-server"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if "take-off" in line:
                break
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and errors == ""
    with pytest.raises(ProcessLookupError):
        for _ in range(100):  # what watches over spawned processes ends when it sees that we have
            os.killpg(process.pid, 0)
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--cut", "now"], "--cut is 'now', expected AT:FOR in seconds, as 3:2"),
        (["--cut", "1:1", "--no-server"], "--cut cuts the link to a server, and --no-server has none"),
        (["--policy", "luck"], "--policy is 'luck', expected one of"),
        (["--rtt-ms", "-1"], "--rtt-ms is -1, expected 0 to 10000"),
        (["--replay", "nowhere.json"], "cannot read nowhere.json: No such file"),
    ],
)
def test_what_cannot_be_flown_is_one_line(arguments: list[str], expected: str) -> None:
    done = said("drone", *arguments)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"spinn drone: {expected}") and done.stderr.count("\n") == 1


def test_a_wrong_goal_is_pointed_at_before_anything_is_started() -> None:
    done = said("drone", "--sla", "minimize trees")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("spinn drone: SLA, character 10: got 'trees'")
