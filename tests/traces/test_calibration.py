"""This machine's times for virtual time: measured in a process of its own, kept in a file; engines that remember."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.codec import CodecSetting
from spinn_stream.errors import ConfigError, SourceError, SpinnError
from spinn_stream.plan import Plan
from spinn_stream.profile import Profile
from spinn_stream.runtime import Engine
from spinn_traces.simulator import Costs, MemoEngine, calibration, measure_costs, measured

from ..bundles import LITE2_200

COSTS = Costs(preprocess_ms=1.5, encode_ms={(9, "transform"): 2.0}, graph_ms={(0, 9, False): 3.25}, ratios=(0.9, 1.25))
PLAN = Plan(1, 9, None, CodecSetting.parse("transform:6"))

Interpreter = Callable[[str], None]


@pytest.fixture
def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Interpreter:
    """Puts a shell script in the place of the Python that measures."""

    def made(script: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\ncd '{tmp_path}'\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return made


def measure_apart(core: int | None = None) -> Costs:
    return calibration.measure_apart(str(LITE2_200), "onnxruntime", "demo", PLAN, 30.0, slowdown=2.0, core=core)


def test_the_process_that_measures_is_told_what_and_its_answer_is_read(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    (tmp_path / "costs").write_text(json.dumps(COSTS.as_json()))
    interpreter('printf %s "$3" > asked; cat costs')
    assert measure_apart(min(os.sched_getaffinity(0))) == COSTS
    assert json.loads((tmp_path / "asked").read_text()) == {
        "bundle": str(LITE2_200), "runtime": "onnxruntime", "source": "demo", "fps": 30.0, "slowdown": 2.0,
        "plan": [9, None, "transform:6"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("script", "said"),
    [("echo once >&2; echo 'no such camera' >&2; exit 1", "failed: no such camera"), ("exit 3", "it said nothing")],
)
def test_a_process_that_fails_says_why_in_its_last_line(interpreter: Interpreter, script: str, said: str) -> None:
    interpreter(script)
    with pytest.raises(SpinnError, match=f"measuring this machine failed: .*{said.removeprefix('failed: ')}"):
        measure_apart()


def test_a_process_that_takes_too_long_is_ended(
    interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter("echo $$ > pid; exec sleep 60")
    monkeypatch.setattr(calibration, "TIMEOUT_S", 0.5)
    with pytest.raises(SpinnError, match=r"measuring this machine took more than 0\.5 s"):
        measure_apart()
    if (tmp_path / "pid").exists() and (pid := (tmp_path / "pid").read_text().strip()):
        assert not Path(f"/proc/{pid}").exists()


def test_what_it_prints_are_the_costs_of_the_plan_that_it_was_asked_for(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibration, "stored_profile", lambda *_, **__: profile)
    monkeypatch.setattr(calibration, "FRAMES", 12)
    monkeypatch.setattr(calibration, "WARM_UP", 2)
    calibration.main({
        "bundle": str(LITE2_200), "runtime": "onnxruntime", "source": "demo", "fps": 60.0, "slowdown": 1.0,
        "plan": [9, None, "transform:6"],
    })  # fmt: skip
    found = Costs.from_json(json.loads(capsys.readouterr().out))
    assert found.encode_ms.keys() == found.decode_ms.keys() == {(9, "transform")}
    ends = {stop for _, stop, _ in found.graph_ms}
    assert 9 in ends and load_bundle(LITE2_200).last in ends, "head and tail"
    assert found.preprocess_ms > 0 and 0 < min(found.ratios) <= max(found.ratios) <= calibration.MOST_RATIO


def test_a_source_without_a_picture_is_told(bundle: Bundle, engine: Engine, profile: Profile, tmp_path: Path) -> None:
    broken = tmp_path / "0.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"0\.png"):
        measure_costs(bundle, engine, profile, str(broken), PLAN, 60.0)


# what was measured, in a file


@pytest.fixture
def machine(profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], measured.Machine]:
    """This machine, whose costs are measured as often as there is a word more in `asked`."""
    monkeypatch.setattr(measured, "stored_profile", lambda *_, **__: profile)

    def costs(bundle: Bundle) -> Costs:
        with (tmp_path / "asked").open("a") as asked:
            asked.write("x")
        return COSTS

    return lambda: measured.measured(LITE2_200, "onnxruntime", tmp_path / "machine.json", costs)


def test_a_machine_is_measured_once(machine: Callable[[], measured.Machine], profile: Profile, tmp_path: Path) -> None:
    first, second = machine(), machine()
    assert (tmp_path / "asked").read_text() == "x"
    assert (first.profile, first.costs, first.key) == (second.profile, second.costs, second.key)
    assert first.costs == COSTS and first.profile == profile and len(first.key) == 16
    kept = json.loads((tmp_path / "machine.json").read_text())
    kept["costs"] = replace(COSTS, preprocess_ms=9.0).as_json()
    (tmp_path / "machine.json").write_text(json.dumps(kept))
    assert machine().key != first.key, "results with other costs are other results"


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"bundle": "another"}, "is of another bundle than"), ({"profile": 3}, "is not what was measured here"),
     ({"costs": {}}, "is not what was measured here")],
)  # fmt: skip
def test_a_file_of_something_else_is_told(
    machine: Callable[[], measured.Machine], tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    machine()
    kept = json.loads((tmp_path / "machine.json").read_text())
    (tmp_path / "machine.json").write_text(json.dumps(kept | changes))
    with pytest.raises(ConfigError, match=f"{said}.*remove it to measure again"):
        machine()


# engines that remember


def test_what_was_not_used_for_longest_is_forgotten_first(bundle: Bundle, engine: Engine) -> None:
    """There is room for two results of three."""
    ran: list[float] = []

    class Counting:
        name = engine.name

        def run(self, start: int, stop: int, x: np.ndarray, *, exit: bool = True) -> object:
            ran.append(float(x.flat[0]))
            return engine.run(start, stop, x, exit=exit)

    def run(value: float) -> np.ndarray:
        return memo.run(0, 1, np.full((1, *bundle.cut_points[0].shape), value, np.float32), exit=False)[0]

    one = 4 * bundle.cut_points[1].elements
    memo = MemoEngine(Counting(), most_bytes=2 * one)  # type: ignore[arg-type]
    first = run(1.0)
    run(2.0)
    assert np.array_equal(run(1.0), first) and ran == [1.0, 2.0]
    run(3.0)  # in the place of 2
    run(1.0)
    assert ran == [1.0, 2.0, 3.0]
    run(2.0)
    assert ran == [1.0, 2.0, 3.0, 2.0]


def test_it_is_ready_for_what_was_prepared_until_that_is_dropped(engine: Engine) -> None:
    memo = MemoEngine(engine)
    memo.prepare(0, 2, exit=False)
    assert memo.ready(0, 2, exit=False) and not memo.ready(0, 2)
    memo.drop(0, 2, exit=False)
    memo.drop(0, 3)
    assert not memo.ready(0, 2, exit=False)
