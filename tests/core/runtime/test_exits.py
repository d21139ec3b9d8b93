"""Confidence is the largest softmax probability of logits / temperature."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest

from spinn_stream.bundle import Bundle
from spinn_stream.errors import EngineError
from spinn_stream.runtime import Engine, ExitOutput, answers, grouped
from spinn_stream.runtime.engines.registry import open_one


def test_confidence_is_softmax_by_hand() -> None:
    [answer] = answers("x", ExitOutput(np.array([[1.0, 3.0, 2.0]], np.float32)), temperature=1.0)
    total = math.e + math.e**3 + math.e**2
    assert answer.label == 1
    assert answer.confidence == pytest.approx(math.e**3 / total)
    assert [k for k, _ in answer.top] == [1, 2, 0]


def test_a_higher_temperature_is_less_sure_of_the_same_label() -> None:
    logits = np.array([[0.0, 4.0]], np.float32)
    [cold], [warm] = answers("x", ExitOutput(logits), 1.0), answers("x", ExitOutput(logits), 2.0)
    assert cold.label == warm.label == 1
    assert cold.confidence == pytest.approx(1 / (1 + math.exp(-4)))
    assert warm.confidence == pytest.approx(1 / (1 + math.exp(-2)))


def test_huge_logits_do_not_overflow() -> None:
    [answer] = answers("x", ExitOutput(np.array([[3e38, -3e38]], np.float32)), 0.01)
    assert answer.confidence == 1.0


@pytest.mark.parametrize("shift", [-500.0, -61.0, 0.0, 61.0, 500.0])
def test_only_differences_between_logits_count(shift: float) -> None:
    [answer] = answers("x", ExitOutput(np.array([[0.0, 4.0]], np.float32) + np.float32(shift)), 2.0)
    assert answer.label == 1
    assert answer.confidence == pytest.approx(1 / (1 + math.exp(-2)))
    assert answer.top[0] == (1, pytest.approx(answer.confidence))


def test_a_frame_alone_gets_the_answer_that_it_gets_in_a_batch() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (2, 1000)).astype(np.float32)
    first, _ = answers("x", ExitOutput(logits), 1.3)
    [alone] = answers("x", ExitOutput(logits[:1]), 1.3)
    assert alone.label == first.label
    assert alone.confidence == pytest.approx(first.confidence, rel=1e-5)
    assert [k for k, _ in alone.top] == [k for k, _ in first.top]


def test_an_answer_keeps_its_own_copy_of_the_logits() -> None:
    for confidence in (None, np.array([[0.6]], np.float32)):
        logits = np.array([[1.0, 3.0, 2.0]], np.float32)
        [answer] = answers("x", ExitOutput(logits, confidence), 1.0)
        logits[:] = 0.0  # as an engine does with the next frame
        assert [k for k, _ in answer.top] == [1, 2, 0] and answer.label == 1


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino-f32"])
def test_an_engine_s_confidence_is_the_one_of_its_logits(
    runtime: str, rows: int, bundle: Bundle, inputs: npt.NDArray[np.float32]
) -> None:
    """With temperatures far from 1, so that leaving them out would show."""
    warm = dataclasses.replace(bundle, exits=tuple(dataclasses.replace(e, temperature=2.5) for e in bundle.exits))
    engine = open_one(warm, runtime, threads=1)
    for stop in [e.cut for e in warm.exits]:
        _, output = engine.run(0, stop, inputs[:rows])
        assert output is not None and output.confidence is not None and output.confidence.shape == (rows, 1)
        found, expected = answers("x", output, 2.5), answers("x", ExitOutput(output.logits), 2.5)
        assert [a.confidence for a in found] == pytest.approx([a.confidence for a in expected], rel=1e-4)
        assert [a.label for a in found] == [a.label for a in expected]


def test_a_path_run_again_gives_the_new_frame_s_outputs_and_a_dropped_piece_is_built_anew(
    bundle: Bundle, inputs: npt.NDArray[np.float32]
) -> None:
    """Pieces hand on the engine's own arrays, which are not looked at a second time."""
    cut = bundle.exits[0].cut
    engine, other = (open_one(bundle, "openvino-f32", threads=1) for _ in range(2))

    def path(engine: Engine, x: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        y, early = engine.run(0, cut, x)
        z, final = engine.run(cut, bundle.last, y)
        assert early is not None and final is not None
        return [a.copy() for a in (early.logits, z, final.logits)]

    expected = [path(other, inputs[i : i + 1]) for i in (0, 1, 2)]
    for i in (0, 1, 1, 2):
        if i == 2:
            engine.drop(cut, bundle.last)
            assert not engine.ready(cut, bundle.last)
        assert all(np.array_equal(a, b) for a, b in zip(path(engine, inputs[i : i + 1]), expected[i], strict=True))
    with pytest.raises(EngineError, match="expected float32"):
        engine.run(cut, bundle.last, inputs[:1])


def test_a_graph_of_open_size_runs_with_each_usual_size_before_anybody_waits_for_it(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spinn_stream.runtime.engines import openvino as openvino_engine

    ran: list[int] = []
    plain = openvino_engine._Graph.run

    def run(self: openvino_engine._Graph, x: npt.NDArray[np.float32]) -> openvino_engine.Result:
        ran.append(len(x))
        return plain(self, x)

    monkeypatch.setattr(openvino_engine._Graph, "run", run)
    engine, last = open_one(bundle, "openvino-f32", threads=1), bundle.last
    engine.prepare(last - 1, last)
    assert ran == []
    engine.prepare(last - 1, last, batches=True)
    assert tuple(ran) == openvino_engine.SET_UP_SIZES


def test_an_answer_about_groups_adds_up_the_probabilities_of_their_classes() -> None:
    logits = np.log(np.array([[0.3, 0.25, 0.25, 0.2], [0.1, 0.6, 0.1, 0.2]], np.float32))
    first, second = grouped("final", ExitOutput(logits), 1.0, np.array([0, 1, 1, 2]))
    assert (first.label, first.confidence) == (1, pytest.approx(0.5, abs=1e-6))
    assert [k for k, _ in first.top] == [1, 0, 2] and second.label == 1
    assert second.confidence == pytest.approx(0.7, abs=1e-6)
