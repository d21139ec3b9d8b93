"""Engines that are missing, do not work here, or cannot build a piece: the next one takes over, and it is said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from spinn_stream.bundle import Bundle
from spinn_stream.errors import EngineError
from spinn_stream.runtime import Engine, ExitOutput, choose_engine, open_engine
from spinn_stream.runtime.choice import Choice
from spinn_stream.runtime.engines import registry
from spinn_stream.runtime.fallback import FallbackEngine

from ...bundles import LITE2_200

Floats = npt.NDArray[np.float32]


class Partial:
    """The real engine, but for pieces that start at some cut points."""

    name = "partial"

    def __init__(self, engine: Engine, bad: set[int]) -> None:
        self._engine, self._bad = engine, bad

    def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None:
        if start in self._bad:
            raise EngineError(f"partial cannot build cut points {start} to {stop}: no such kernel")
        self._engine.prepare(start, stop, exit=exit)

    def ready(self, start: int, stop: int, *, exit: bool = True) -> bool:
        return start not in self._bad and self._engine.ready(start, stop, exit=exit)

    def drop(self, start: int, stop: int, *, exit: bool = True) -> None:
        self._engine.drop(start, stop, exit=exit)

    def run(self, start: int, stop: int, x: Floats, *, exit: bool = True) -> tuple[Floats, ExitOutput | None]:
        self.prepare(start, stop, exit=exit)
        return self._engine.run(start, stop, x, exit=exit)


def failing(why: str) -> Callable[[], Engine]:
    def opener() -> Engine:
        raise EngineError(why)

    return opener


def test_one_piece_that_an_engine_cannot_build_goes_to_the_next(bundle: Bundle, engine: Engine, inputs: Floats) -> None:
    middle, warnings = bundle.exits[1].cut, list[str]()
    both = FallbackEngine(
        [("partial", lambda: Partial(engine, {middle})), ("other", lambda: engine)], warn=warnings.append
    )
    both.prepare(0, middle)
    assert warnings == []
    both.prepare(middle, bundle.last)
    both.prepare(middle, bundle.last)
    assert warnings == [
        f"partial cannot build cut points {middle} to {bundle.last}: no such kernel; onnxruntime runs it instead"
    ]
    assert both.ready(middle, bundle.last)
    x, _ = both.run(0, middle, inputs)
    found, _ = both.run(middle, bundle.last, x)
    np.testing.assert_allclose(found, engine.run(0, bundle.last, inputs)[0], atol=1e-4)


def test_a_piece_that_fails_only_when_it_runs_goes_to_the_next_too(
    bundle: Bundle, engine: Engine, inputs: Floats
) -> None:
    warnings = list[str]()
    both = FallbackEngine([("partial", lambda: Partial(engine, {0})), ("other", lambda: engine)], warn=warnings.append)
    for _ in range(2):
        both.run(0, bundle.last, inputs)
    assert len(warnings) == 1


def test_a_wrong_input_is_nobody_s_and_moves_nothing(bundle: Bundle, engine: Engine) -> None:
    warnings = list[str]()
    both = FallbackEngine(
        [("partial", lambda: Partial(engine, set())), ("other", lambda: engine)], warn=warnings.append
    )
    with pytest.raises(EngineError):
        both.run(0, bundle.last, np.zeros((1, 7), np.float32))
    assert warnings == []


def test_an_engine_that_does_not_open_is_passed_over(engine: Engine) -> None:
    warnings = list[str]()
    chosen = FallbackEngine([("first", failing("no such processor")), ("second", lambda: engine)], warn=warnings.append)
    assert chosen.name == "onnxruntime"
    assert warnings == ["engine first cannot be used: no such processor; the next one: second"]


def test_where_none_opens_each_one_s_reason_is_given() -> None:
    with pytest.raises(EngineError, match=r"no engine works here: not this; nor that"):
        FallbackEngine([("a", failing("not this")), ("b", failing("nor that"))], warn=lambda text: None)


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_a_runtime_that_is_not_installed_is_replaced_and_it_is_said_how_to_get_it(name: str) -> None:
    script = (
        f"import sys; sys.modules[{name!r}] = None\n"
        "from pathlib import Path\n"
        "from spinn_stream.bundle import load_bundle\n"
        "from spinn_stream.runtime import open_engine\n"
        f"print(open_engine(load_bundle(Path({str(LITE2_200)!r})), {name!r}, warn=print).name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, timeout=60, capture_output=True, text=True)
    said, engine = done.stdout.splitlines()
    assert said.startswith(f"engine {name} cannot be used: {name}") and "pip install" in said
    assert engine == "onnxruntime"


def test_torch_says_that_it_needs_onnx_too() -> None:
    script = (
        "import sys; sys.modules['onnx'] = None\n"
        "from pathlib import Path\n"
        "from spinn_stream.bundle import load_bundle\n"
        "from spinn_stream.runtime import open_engine\n"
        f"print(open_engine(load_bundle(Path({str(LITE2_200)!r})), 'torch', warn=print).name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, timeout=120, capture_output=True, text=True)
    said, engine = done.stdout.splitlines()
    assert said.startswith("engine torch cannot be used: torch needs the package onnx, too (pip install onnx)")
    assert engine == "onnxruntime"


def test_auto_measures_once_and_says_why(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("spinn_stream.runtime.choice.installed", lambda: ["onnxruntime", "openvino", "openvino-f32"])
    said = list[str]()
    first = open_engine(bundle, "auto", say=said.append)
    assert said[0].startswith("measuring ") and said[-1].startswith(f"{first.name} is ")
    choice = choose_engine(bundle)
    assert set(choice.median_ms) == {"onnxruntime", "openvino", "openvino-f32"} and not choice.refused
    said.clear()
    assert open_engine(bundle, "auto", say=said.append).name == first.name
    assert len(said) == 1, "it was measured again"


def test_auto_goes_on_without_an_engine_whose_process_dies(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spinn_stream.runtime.choice.installed", lambda: ["onnxruntime", "no-such-engine"])
    kind = registry.EngineKind("no-such-engine", "spinn_stream.nowhere:open_engine", "onnxruntime", "pip install it")
    monkeypatch.setitem(registry.ENGINES, kind.name, kind)
    choice = choose_engine(bundle, again=True)
    assert list(choice.median_ms) == ["onnxruntime"] and set(choice.refused) == {"no-such-engine"}


def test_of_engines_that_are_equally_fast_the_one_that_is_fallen_back_to_first_is_taken() -> None:
    choice = Choice({"torch": 20.0, "openvino": 8.0, "onnxruntime": 8.06}, {})
    assert choice.order == ["onnxruntime", "openvino", "torch"]
    assert choice.why.startswith("onnxruntime is as fast as any here for a batch of 1: openvino 8.00 ms")
    assert Choice({"openvino": 8.0, "onnxruntime": 8.1}, {}).order == ["openvino", "onnxruntime"]
