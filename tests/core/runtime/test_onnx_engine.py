"""A batch of 1 runs between arrays that stay where they are, and a cut costs ONNX Runtime one change of layout."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from spinn_stream.bundle import Bundle
from spinn_stream.errors import EngineError
from spinn_stream.runtime.engines.onnx import OnnxEngine
from spinn_stream.runtime.engines.registry import open_one

Floats = npt.NDArray[np.float32]


@pytest.fixture
def onnx_engine(bundle: Bundle) -> OnnxEngine:
    return OnnxEngine(bundle, threads=1)


def test_what_a_piece_gives_is_read_where_it_is_by_the_next(
    bundle: Bundle, onnx_engine: OnnxEngine, inputs: Floats
) -> None:
    cut = bundle.exits[0].cut
    expected, _ = onnx_engine.run(0, bundle.last, inputs, exit=False)
    seen = set()
    for i in range(2):
        y, output = onnx_engine.run(0, cut, inputs[i : i + 1])
        z, _ = onnx_engine.run(cut, bundle.last, y, exit=False)
        assert output is not None
        seen.add((y.ctypes.data, output.logits.ctypes.data, z.ctypes.data))
        assert np.abs(z - expected[i]).max() <= 1e-4
    assert len(seen) == 1, "a run allocated its outputs anew"


def test_an_array_whose_numbers_changed_is_read_again(bundle: Bundle, onnx_engine: OnnxEngine, inputs: Floats) -> None:
    x = inputs[:1].copy()
    first = onnx_engine.run(0, bundle.last, x, exit=False)[0].copy()
    x[:] = inputs[1:2]
    assert np.abs(onnx_engine.run(0, bundle.last, x, exit=False)[0] - first).max() > 0.1
    assert np.array_equal(x, inputs[1:2])


def test_an_array_in_another_order_gives_the_same(bundle: Bundle, onnx_engine: OnnxEngine, inputs: Floats) -> None:
    expected = onnx_engine.run(0, bundle.last, inputs[:1], exit=False)[0].copy()
    turned = np.asfortranarray(inputs[:1])
    assert not turned.flags.c_contiguous
    assert np.array_equal(onnx_engine.run(0, bundle.last, turned, exit=False)[0], expected)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_graph_of_older_operators_gives_logits_alone(
    bundle: Bundle, onnx_engine: OnnxEngine, inputs: Floats, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spinn_stream.runtime.engines.onnx.OLDEST_OPSET", 99)
    older = OnnxEngine(bundle, threads=1)
    for stop in [e.cut for e in bundle.exits]:
        _, plain = older.run(0, stop, inputs[:rows])
        _, output = onnx_engine.run(0, stop, inputs[:rows])
        assert plain is not None and plain.confidence is None
        assert output is not None and np.abs(plain.logits - output.logits).max() <= 1e-4


@pytest.mark.parametrize("wrong", [np.zeros((1, 3, 8, 8), np.float32), np.zeros((1, 3, 128, 128), np.float64)])
def test_an_array_that_does_not_fit_is_refused(onnx_engine: OnnxEngine, wrong: npt.NDArray[np.generic]) -> None:
    with pytest.raises(EngineError, match=r"expected float32 \(1, 3, 128, 128\)"):
        onnx_engine.run(0, 1, wrong)  # type: ignore[arg-type]


def test_a_cut_within_a_stage_leaves_its_residual_sums_in_the_convolutions(
    bundle: Bundle, onnx_engine: OnnxEngine, inputs: Floats, tmp_path: Path
) -> None:
    """block15's output is what the sums of the blocks behind it begin with. Its 208 channels are whole blocks of 8 and
    of 16, as wide as processors have them; of block11's 120 channels AVX-512 makes none.
    """
    operators = {}
    for start in (0, bundle.split_index("block15")):
        onnx_engine._options.optimized_model_filepath = str(tmp_path / f"{start}.onnx")
        onnx_engine.prepare(start, bundle.last, exit=False)
        nodes = onnx.load(str(tmp_path / f"{start}.onnx")).graph.node
        operators[start] = Counter(node.op_type for node in nodes)
    whole, tail = operators.values()
    if not whole["ReorderOutput"]:
        pytest.skip("ONNX Runtime has no blocked layout on this processor")
    assert whole["Add"] == tail["Add"] == 0
    assert tail["ReorderInput"] == tail["MaxPool"] == 1


def test_a_piece_whose_input_is_only_convolved_is_carved_as_it_is(
    bundle: Bundle, onnx_engine: OnnxEngine, tmp_path: Path
) -> None:
    onnx_engine._options.optimized_model_filepath = str(tmp_path / "head.onnx")
    onnx_engine.prepare(0, 4, exit=False)
    assert all(node.op_type != "MaxPool" for node in onnx.load(str(tmp_path / "head.onnx")).graph.node)


def test_what_another_engine_writes_over_is_read_again_by_openvino(
    bundle: Bundle, onnx_engine: OnnxEngine, inputs: Floats
) -> None:
    """ONNX Runtime gives every frame in the same array, with the channels first; OpenVINO takes them last."""
    cut = bundle.exits[0].cut
    tail = open_one(bundle, "openvino-f32", threads=1)
    expected, _ = onnx_engine.run(0, bundle.last, inputs[:2], exit=False)
    for i in range(2):
        y, _ = onnx_engine.run(0, cut, inputs[i : i + 1], exit=False)
        assert np.abs(tail.run(cut, bundle.last, y, exit=False)[0] - expected[i]).max() <= 1e-3
