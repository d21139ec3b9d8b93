"""Everything in the README and in docs/tour.md is run: their commands in their order, in shells of their own.

What would play the whole demo plays its first seconds, with a deadline that a busy machine keeps, and `spinn profile`
measures one engine and batch size. `spinn replay` is run by test_replay.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..processes import SPINN, wait_ready

ROOT = Path(__file__).parent.parent.parent


def commands(page: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if not line.startswith(". .venv")]


README = commands("README.md")
COMMANDS = list(dict.fromkeys([*README, *commands("docs/tour.md")]))
BACKGROUND = ("spinn serve", "spinn shape")
SHORTER = {"spinn run": ["--frames", "60"], "spinn profile": ["--batches", "1", "--runtime", "onnxruntime"]}


def shorter(line: str) -> list[str]:
    """A command with the options that make less of it, if there are some; of an option that is there twice, the last
    one counts.

    Where exits may answer on the device, it is in time whatever the machine is busy with, and the run lasts until the
    link is probed: it may be that nothing else is sent.
    """
    words = shlex.split(line)
    patient = ["--deadline-ms", "10000", "--frames", "120"] if "--threshold" in words else []
    return [*words, *SHORTER.get(" ".join(words[:2]), []), *patient]


def environment() -> dict[str, str]:
    """A shell in which .venv is activated, wherever these tests' environment lies."""
    return {**os.environ, "PATH": f"{SPINN.parent}:{os.environ['PATH']}"}


def test_the_commands_are_the_ones_this_test_knows_to_run() -> None:
    assert README[:2] == ["make demo", "make test"]
    assert all(line.startswith(("make ", "spinn ")) for line in COMMANDS)
    assert sum(line.startswith("spinn run") for line in COMMANDS) >= 3


def runs() -> Iterator[Any]:
    """The one with another goal is slow: test_run.py asks for another goal, too."""
    for line in (line for line in COMMANDS if line.startswith("spinn run")):
        yield pytest.param(line, marks=pytest.mark.slow if "--sla" in line else ())


@pytest.fixture(scope="module")
def background() -> Iterator[None]:
    """The README's server and shaper, running."""
    processes = []
    try:
        for line in COMMANDS:
            if line.startswith(BACKGROUND):
                process = subprocess.Popen(
                    shlex.split(line), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(),
                    start_new_session=True,
                )  # fmt: skip
                processes.append(process)
                wait_ready(process)
        yield
    finally:
        for process in processes:
            process.terminate()
            process.wait(timeout=15)


@pytest.mark.parametrize("line", list(runs()))
def test_a_run_of_the_readme(background: None, tmp_path: Path, line: str) -> None:
    done = subprocess.run(
        shorter(line), cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "frames captured" in done.stderr and "lost the server" not in done.stderr
    assert ("round trip" in done.stderr) == ("--server" in line)
    for written in re.findall(r"--(?:jsonl|summary|record-trace) (\S+)", line):
        assert (tmp_path / written).stat().st_size > 0


def test_the_readme_s_program_embeds_a_stream(background: None, short_demo: Path, tmp_path: Path) -> None:
    """Its source plays once: an answer for each frame that is not dropped, and an end."""
    (program,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert program.count('"demo"') == 1
    program = program.replace('"demo"', repr(str(short_demo)))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 30


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith(("spinn doctor", "spinn profile"))])
def test_the_readme_looks_at_this_machine(background: None, tmp_path: Path, line: str) -> None:
    done = subprocess.run(
        shorter(line), cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("round trip" if line.startswith("spinn doctor") else "preprocess") in done.stdout


def test_the_readme_looks_into_traces_and_makes_one(tmp_path: Path) -> None:
    (tmp_path / "traces").symlink_to(ROOT / "traces")
    lines = [line for line in COMMANDS if line.startswith("spinn trace")]
    assert len(lines) == 3
    said = ""
    for line in lines:
        done = subprocess.run(
            shlex.split(line), cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        said += done.stdout
    assert "spinn-csv" in said and "longest outage" in said
    assert (tmp_path / "drive.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_readme_makes_a_model_of_its_own_and_scores_it(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    lines = [line for line in COMMANDS if line.startswith(("spinn train", "spinn evaluate"))]
    assert len(lines) == 2
    for line in lines:
        done = subprocess.run(
            shlex.split(line), cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
    assert "12 images" in done.stdout and "calibration error" in done.stdout


@pytest.mark.alone
def test_make_demo_ends_by_itself_with_its_figures() -> None:
    done = subprocess.run(
        ["make", "demo", "ARGS=--seconds 3"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("answered on the device", "answered by the server", "answered alone in trouble", "age of the answers"):
        assert said in done.stderr
    assert {"espresso", "Egyptian cat", "missile"} <= set(re.findall(r"[:,] ([A-Za-z ]+) \(\d+ frames\)", done.stdout))
    plans = re.findall(r"^  plan \d+ \(\d+ frames\): (.+)$", done.stdout, re.MULTILINE)
    assert any(" because " in why for why in plans), plans
    lost, back = done.stderr.find("lost the server"), done.stderr.rfind(" is there")
    assert 0 <= lost < back, done.stderr
    assert re.search(r"ready again \(from frame \d+ on\), it answered \d+ of \d+ frames", done.stdout), done.stdout
    away = re.search(r"the device answered (\d+) of (\d+)", done.stdout)
    assert away is not None and int(away[1]) >= 0.9 * int(away[2]) >= 5  # a slow device drops frames
    oldest = re.search(r"was (\d+) ms old; the deadline is (\d+) ms", done.stdout)
    assert oldest is not None and int(oldest[1]) <= int(oldest[2]) + 120


def test_make_test_and_plain_make_say_what_they_do() -> None:
    plan = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "-m pytest" in plan.stdout and "ruff check" in plan.stdout and "mypy" in plan.stdout
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    for target in ("demo", "test", "lint", "setup"):
        assert f"make {target} " in listed.stdout
