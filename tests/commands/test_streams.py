"""Standard streams that are closed, or lose their reader; and Ctrl-C at awkward moments."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ..bundles import SMALL
from ..processes import SPINN, spinn

RUN = ("run", "--source", "demo", "--frames", "30", "--unpaced", "--runtime", "onnxruntime", "--split", "final", *SMALL)
ENDLESS = (*RUN[:3], "--loop", *RUN[5:])


def shell(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command line for sh; "$@" in it is `spinn` and the arguments."""
    line = ["sh", "-c", command, "sh", str(SPINN), *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


def test_a_reader_who_has_had_enough_ends_an_endless_run_well(tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    done = shell('{ "$@"; echo $? >&2; } | head -1', *ENDLESS, "--quiet", "--jsonl", "-", "--summary", str(summary))
    said = [line for line in done.stderr.splitlines() if not line.startswith("still starting")]  # a busy machine
    assert said == ["0"] and json.loads(done.stdout)["kind"] == "final"
    assert json.loads(summary.read_text())["final"] >= 1


def test_a_reader_of_stderr_who_leaves_is_not_missed(tmp_path: Path) -> None:
    code, lines = tmp_path / "code", tmp_path / "lines"
    done = shell(f'{{ "$@" 2>&1 >/dev/null; echo $? >"{code}"; }} | head -1', *RUN, "--jsonl", str(lines))
    assert code.read_text() == "0\n" and done.stdout.startswith("bundle ")
    assert len(lines.read_text().splitlines()) == 30


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed_from_the_start(closed: str, tmp_path: Path) -> None:
    """What is opened later takes none of their numbers: nobody's output lands in it."""
    lines = tmp_path / "lines"
    done = shell(f'"$@" {closed}', *RUN, "--jsonl", str(lines))
    assert done.returncode == 0 and done.stdout == "" and "Error" not in done.stderr, done.stderr
    assert len([json.loads(line) for line in lines.read_text().splitlines()]) == 30


def test_results_for_a_stdout_that_is_closed_go_nowhere() -> None:
    done = shell('"$@" >&-', *RUN, "--quiet", "--jsonl", "-")
    said = [line for line in done.stderr.splitlines() if not line.startswith("still starting")]  # a busy machine
    assert (done.returncode, said) == (0, [])


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["run", "--help"], ["plan", "--bandwidth-mbps", "5", "--rtt-ms", "20", "--explain",
                                                   "--runtime", "onnxruntime"]],
)  # fmt: skip
def test_every_verb_bears_a_reader_who_left(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        done = subprocess.run([str(SPINN), *arguments], stdout=gone, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 0 and b"Traceback" not in done.stderr and b"ignored" not in done.stderr, done.stderr


def test_a_full_disk_behind_stdout_is_one_line() -> None:
    for arguments in (["--version"], ["plan", "--bandwidth-mbps", "5", "--rtt-ms", "20", "--json", "--runtime",
                                      "onnxruntime"], [*RUN, "--quiet", "--jsonl", "-"]):  # fmt: skip
        done = shell('"$@" >/dev/full', *arguments)
        assert done.returncode == 1 and done.stderr.count("No space left on device") == 1, done.stderr
        assert "Traceback" not in done.stderr and "ignored" not in done.stderr


def test_the_version_is_that_of_all_packages_and_engines() -> None:
    lines = [line.split() for line in spinn("--version").stdout.splitlines()]
    packages = {line[0]: line[1] for line in lines if len(line) == 2}
    assert packages.keys() >= {"spinn-stream", "spinn-client", "spinn-server"}
    assert all(number[0].isdigit() for number in packages.values())
    version = importlib.metadata.version("onnxruntime")
    assert ["engine", "onnxruntime:", "onnxruntime", version] in lines


def python(script: str, *options: str, ignored: bool = False) -> subprocess.CompletedProcess[str]:
    """A process in which `spinn run` with options is the function `verb` of the script; `interrupt()` is Ctrl-C."""
    around = (
        "import atexit, os, signal, sys, time\nimport spinn_stream.cli.main as cli\n"
        "def interrupt(): os.kill(os.getpid(), signal.SIGINT); time.sleep(0.01)\n"
        f"{script}\nsys.argv = ['spinn', 'run', *{list(options)!r}]\ncli.main()\n"
    )
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if ignored else None
    try:
        return subprocess.run([sys.executable, "-c", around], capture_output=True, text=True, timeout=60, check=False)
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "script",
    [
        "cli._load = lambda verb: interrupt()",
        "cli._load = lambda verb: interrupt",
        "def verb():\n    try: interrupt()\n    finally: interrupt()\ncli._load = lambda _: verb",
    ],
    ids=["while a verb is imported", "in a verb", "twice"],
)
def test_ctrl_c_is_exit_code_130_without_a_word(script: str) -> None:
    done = python(script)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")


@pytest.mark.parametrize(
    "script",
    [
        "cli._load = lambda verb: lambda: atexit.register(interrupt)",
        "import threading\nthread = threading.Thread(target=lambda: (time.sleep(0.1), interrupt(), time.sleep(30)))\n"
        "def verb(): thread.start()\ncli._load = lambda _: verb",
    ],
    ids=["at the exit", "while the exit waits for a thread"],
)
def test_ctrl_c_when_all_is_done_leaves_the_exit_code_as_it_is(script: str) -> None:
    done = python(script)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (0, "", "")


def test_a_verb_tidies_up_after_ctrl_c() -> None:
    script = "def verb():\n    try: interrupt()\n    finally: print('tidy')\ncli._load = lambda _: verb"
    done = python(script)
    assert (done.returncode, done.stdout) == (130, "tidy\n")


def test_ctrl_c_that_a_shell_has_ignored_stays_ignored() -> None:
    done = python("cli._load = lambda verb: interrupt() or interrupt", ignored=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_s_text_is_shown_and_not_obeyed() -> None:
    done = spinn("run", "--source", "demo", "--bundle", "no\x1b[2J\u202ewhere\nelse", "--split", "[red]x[/]")
    assert done.returncode == 1 and "no\\x1b[2J\\u202ewhere\\x0aelse is not a bundle" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_unexpected_error_is_one_line_and_a_traceback_with_debug() -> None:
    script = "def verb(debug: bool = False): raise ZeroDivisionError('oops\\n')\ncli._load = lambda _: verb"
    done = python(script)
    assert done.returncode == 1
    assert done.stderr == "spinn run: unexpected ZeroDivisionError: oops\\x0a; --debug shows where\n"
    done = python(script, "--debug")
    assert done.returncode == 1 and "Traceback" in done.stderr and "ZeroDivisionError: oops" in done.stderr
