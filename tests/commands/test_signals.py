"""A run ends when it is told to, at any moment: with its summary once it has begun, and without a traceback always."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..bundles import SMALL
from ..processes import SPINN


def start(tmp_path: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    command = [str(SPINN), "run", "--source", "demo", "--loop", "--summary", str(tmp_path / "summary.json"),
               "--jsonl", str(tmp_path / "results.jsonl"), *SMALL, *options]  # fmt: skip
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | environment)


def wait_for_results(process: subprocess.Popen[str], tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    while not (results.exists() and results.stat().st_size):
        assert process.poll() is None
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_ends_the_source_and_the_summary_is_written(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, "--runtime", "onnxruntime")
    try:
        wait_for_results(process, tmp_path)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0 and "Traceback" not in errors
    figures = json.loads((tmp_path / "summary.json").read_text())
    finals = [line for line in (tmp_path / "results.jsonl").read_text().splitlines() if '"final"' in line]
    assert figures["taken"] == figures["final"] == len(finals) > 0


def test_a_second_signal_does_not_wait_for_the_frames_that_are_open(tmp_path: Path) -> None:
    """Their deadline is ten minutes away."""
    process = start(tmp_path, "--runtime", "onnxruntime", "--unpaced", "--deadline-ms", "600000")
    try:
        wait_for_results(process, tmp_path)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0 and "Traceback" not in errors and (tmp_path / "summary.json").exists()


def test_signals_that_come_until_the_process_is_gone_change_neither_summary_nor_exit_code(tmp_path: Path) -> None:
    process = start(tmp_path, "--runtime", "onnxruntime", "--unpaced")
    try:
        wait_for_results(process, tmp_path)
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.002)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0 and "Traceback" not in errors
    assert json.loads((tmp_path / "summary.json").read_text())["final"] > 0


def test_a_start_that_measures_the_machine_says_so_and_is_given_up_at_once(tmp_path: Path) -> None:
    """With --quiet, and a machine that was never measured."""
    process = start(tmp_path, "--quiet", XDG_CACHE_HOME=str(tmp_path / "empty"))
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said.startswith("still starting: measuring "), said
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130 and errors == ""
    assert not (tmp_path / "summary.json").exists() and not (tmp_path / "results.jsonl").exists()


def test_a_start_is_given_up_while_a_library_builds_the_network(tmp_path: Path) -> None:
    process = start(tmp_path, "--runtime", "onnxruntime")
    try:
        assert process.stderr is not None
        while "building the network" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, errors) == (130, "")


@pytest.mark.parametrize(("target", "said"), [("None", "tidied up\n"), ("lambda: sleep(60)", "")])
def test_a_process_does_not_tidy_up_under_a_thread_that_works(target: str, said: str) -> None:
    script = (
        "import atexit\nfrom threading import Thread\nfrom time import sleep\n"
        "from spinn_stream.cli.signals import leave\n"
        f"thread = Thread(target={target}, daemon=True)\nthread.start()\nthread.join(0.2)\n"
        "atexit.register(print, 'tidied up')\nleave(7)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (7, said)


JUST_OPENED = """
import os, signal, sys
from spinn_client import Stream
from spinn_stream.cli.main import main

opened = Stream.open

async def open(self):
    await opened(self)
    os.kill(os.getpid(), signal.SIGINT)

Stream.open = open
main()
"""


def test_a_signal_of_the_very_moment_in_which_the_start_ends_is_heard(tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    command = ["run", "--source", "demo", "--loop", "--runtime", "onnxruntime", "--summary", str(summary), *SMALL]
    done = subprocess.run(
        [sys.executable, "-c", JUST_OPENED, *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr and done.returncode == (0 if summary.exists() else 130)
