"""Measuring this machine: it can be given up at any moment, and one process does it at a time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from spinn_stream.bundle import Bundle
from spinn_stream.errors import Interrupted
from spinn_stream.runtime import Choice, Engine, choose_engine, measure_profile, open_engine, stored_profile
from spinn_stream.runtime.measure import store
from spinn_stream.runtime.measure.timing import StopRule, sample

from ...bundles import LITE2_200

WAITING = "another process is measuring this machine; waiting for it ..."
TIMEOUT_S = 120


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache folder where nothing was kept yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "spinn-stream"


@pytest.fixture
def one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spinn_stream.runtime.choice.installed", lambda: ["onnxruntime"])


def after(count: int) -> Callable[[], bool]:
    """Goes on for `count` questions, then wants to stop."""
    asked = iter(range(count))
    return lambda: next(asked, None) is None


def worker_processes() -> list[str]:
    """Command lines of the processes that measure an engine for this one."""
    lines = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if parent == str(os.getpid()):
                lines.append((folder / "cmdline").read_text())
    return [line for line in lines if "measure.worker" in line]


def test_a_sample_ends_before_the_next_streak_when_it_is_to_stop() -> None:
    runs: list[int] = []
    with pytest.raises(Interrupted):
        sample([lambda: runs.append(1)], StopRule(warm_up=0, least=100), streak=3, stop=after(4))
    assert len(runs) == 4 * 3


@pytest.mark.parametrize("asked", [0, 1, 40, 200], ids=["at once", "building", "warming up", "running"])
def test_a_profile_that_is_given_up_leaves_no_graphs_and_is_not_kept(bundle: Bundle, cache: Path, asked: int) -> None:
    engine = open_engine(bundle, "onnxruntime")
    with pytest.raises(Interrupted):
        measure_profile(bundle, engine, stop=after(asked))
    assert not any(engine.ready(cut, cut + 1, exit=False) for cut in range(bundle.last))
    with pytest.raises(Interrupted):
        stored_profile(bundle, engine, threads=1, stop=after(asked))
    assert not list(cache.glob("*.json"))


@pytest.mark.parametrize("asked", [0, 1, 6], ids=["at once", "loading", "later"])
def test_a_choice_that_is_given_up_leaves_no_process_and_is_not_kept(bundle: Bundle, cache: Path, asked: int) -> None:
    with pytest.raises(Interrupted):
        choose_engine(bundle, stop=after(asked))
    assert not worker_processes() and not list(cache.glob("*.json"))


SCRIPT = f"""
import signal, sys, threading
from pathlib import Path
from spinn_stream.bundle import load_bundle
from spinn_stream.errors import Interrupted
from spinn_stream.runtime import choose_engine
stop = threading.Event()
signal.signal(signal.SIGINT, lambda *_: stop.set())
try:
    choose_engine(load_bundle(Path({str(LITE2_200)!r})), say=lambda text: print(text, flush=True), stop=stop.is_set)
except Interrupted as error:
    print(error)
"""


def test_ctrl_c_ends_a_choice_and_takes_no_engine_for_broken(cache: Path) -> None:
    """The terminal sends the signal to every process of the group at once."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("measuring onnxruntime")
    os.killpg(process.pid, signal.SIGINT)
    out, error = process.communicate(timeout=TIMEOUT_S)
    assert (out, error) == ("measuring was given up, as asked\n", "")
    assert not list(cache.glob("*.json"))


def test_of_two_that_start_at_once_one_measures_and_the_other_has_its_result(
    bundle: Bundle, engine: Engine, cache: Path, one_engine: None
) -> None:
    said: list[list[str]] = [[], []]
    waits = [threading.Event(), threading.Event()]
    found: list[tuple[Choice, object]] = []

    def start(who: int) -> None:
        def say(text: str) -> None:
            said[who].append(text)
            if text == WAITING:
                waits[who].set()

        choice = choose_engine(bundle, say=say)
        found.append((choice, stored_profile(bundle, engine, threads=1, say=say)))

    threads = [threading.Thread(target=start, args=(who,)) for who in (0, 1)]
    with store.alone(print):  # so that neither can be done before the other begins
        for thread in threads:
            thread.start()
        assert all(wait.wait(TIMEOUT_S) for wait in waits)
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert found[0] == found[1]
    measured = sorted(text for lines in said for text in lines if text != WAITING)
    assert measured == [
        "measuring onnxruntime on this machine, once: about 3 s ...",
        "measuring onnxruntime on this machine, once: up to 2 s ...",
    ]


HOLDER = """
import sys
from spinn_stream.runtime.measure import store
with store.alone(print):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_process_that_dies_while_it_measures_is_waited_for_no_longer(cache: Path) -> None:
    said: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"

        def say(text: str) -> None:
            said.append(text)
            holder.kill()

        with store.alone(say):
            assert said == [WAITING]


def test_whoever_waits_can_give_up(cache: Path) -> None:
    with store.alone(print), pytest.raises(Interrupted), store.alone(lambda _: None, after(3)):
        pytest.fail("two measure at once")


def test_without_a_folder_to_write_in_it_is_measured_without_a_lock(
    bundle: Bundle, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    said: list[str] = []
    with store.alone(said.append), store.alone(said.append):
        assert not said
    assert stored_profile(bundle, engine, threads=1).runtime == engine.name
