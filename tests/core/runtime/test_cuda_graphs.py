"""Pieces that run as CUDA graphs: which batch in which graph, what is refused. On a GPU with CUDA's own graphs; where
there is none, with graphs that run the modules again into tensors that stay where they are, as CUDA's do."""

from __future__ import annotations

import gc
import logging
import weakref

import numpy as np
import numpy.typing as npt
import pytest

from spinn_stream.bundle import Bundle
from spinn_stream.errors import EngineError
from spinn_stream.runtime import Engine

torch = pytest.importorskip("torch")

from spinn_stream.runtime.torch import TorchEngine  # noqa: E402
from spinn_stream.runtime.torch.cuda_graphs import SIZES, Function  # noqa: E402

Floats = npt.NDArray[np.float32]
START = 16


class Again:
    """What was captured, run anew at each replay; `off` is added to it."""

    def __init__(self, function: Function, x: torch.Tensor, off: float) -> None:
        self._function, self._x, self._off = function, x, off
        self.outputs = tuple(y.clone() for y in function(x))
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        for kept, y in zip(self.outputs, self._function(self._x), strict=True):
            kept.copy_(y + self._off)


class Maker:
    """Makes the graphs of an engine on the CPU, and knows them."""

    def __init__(self, *, fails: bool = False, off: float = 0.0) -> None:
        self.made: list[weakref.ref[Again]] = []
        self._fails, self._off = fails, off

    def capture(self, function: Function, x: torch.Tensor) -> Again:
        if self._fails:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        assert torch.is_inference_mode_enabled()
        graph = Again(function, x, self._off)
        self.made.append(weakref.ref(graph))
        return graph

    @property
    def alive(self) -> list[Again]:
        gc.collect()
        return [graph for made in self.made if (graph := made()) is not None]

    @property
    def replays(self) -> list[int]:
        """Of each graph, since it was checked."""
        return [graph.replays - 1 for graph in self.alive]


@pytest.fixture(scope="module")
def maker() -> Maker:
    return Maker()


@pytest.fixture(scope="module")
def frozen(bundle: Bundle, maker: Maker) -> TorchEngine:
    return TorchEngine(bundle, graphs=maker)


def batch(bundle: Bundle, size: int, start: int = START) -> Floats:
    return np.random.default_rng(size).standard_normal((size, *bundle.cut_points[start].shape), np.float32)


@pytest.mark.parametrize(("size", "in_graph"), [(1, 1), (2, 2), (3, 4), (16, 16), (17, 32), (64, 64), (65, None)])
def test_a_batch_runs_in_the_smallest_graph_that_holds_it(
    bundle: Bundle, engine: Engine, frozen: TorchEngine, maker: Maker, size: int, in_graph: int | None
) -> None:
    stop = next(e.cut for e in bundle.exits if e.cut > START)
    frozen.prepare(START, stop, batches=True)
    assert frozen.ready(START, stop) and len(maker.alive) == len(SIZES)
    before, x = maker.replays, batch(bundle, size)
    activation, output = frozen.run(START, stop, x)
    ran = [n - m for n, m in zip(maker.replays, before, strict=True)]
    assert ran == [int(s == in_graph) for s in SIZES]
    expected, logits = engine.run(START, stop, x)
    assert activation.shape == expected.shape and activation.flags.c_contiguous
    assert np.abs(activation - expected).max() <= 1e-3
    assert output is not None and logits is not None and np.abs(output.logits - logits.logits).max() <= 1e-3


def test_nothing_of_an_earlier_batch_is_left(bundle: Bundle, frozen: TorchEngine) -> None:
    stop = next(e.cut for e in bundle.exits if e.cut > START)
    frozen.prepare(START, stop, batches=True)
    x = batch(bundle, 3)
    first = frozen.run(START, stop, x)[0].copy()
    frozen.run(START, stop, 100 * batch(bundle, 4))
    assert np.array_equal(frozen.run(START, stop, x)[0], first)


def test_a_head_from_a_picture_and_a_tail_to_the_end(bundle: Bundle, engine: Engine, inputs: Floats) -> None:
    maker = Maker()
    frozen = TorchEngine(bundle, graphs=maker)
    for start, stop in ((0, START), (START, bundle.last)):
        frozen.prepare(start, stop, exit=False)
    assert len(maker.alive) == 2  # batches of one alone
    x, nothing = frozen.run(0, START, inputs[:1], exit=False)
    y, output = frozen.run(START, bundle.last, x)
    assert nothing is None and output is not None and maker.replays == [1, 1]
    whole, _ = engine.run(0, bundle.last, inputs[:1])
    assert np.abs(y - whole).max() <= 1e-3 and np.array_equal(output.logits, y)
    with pytest.raises(EngineError, match=r"expected float32 \(B"):
        frozen.run(0, START, inputs[:1, :, 1:])


def test_a_larger_set_of_graphs_takes_the_place_of_a_smaller_one_and_is_freed(bundle: Bundle) -> None:
    maker = Maker()
    frozen = TorchEngine(bundle, graphs=maker)
    frozen.prepare(START, bundle.last)
    frozen.prepare(START, bundle.last)
    assert len(maker.made) == len(maker.alive) == 1
    frozen.prepare(START, bundle.last, batches=True)
    frozen.prepare(START, bundle.last)
    assert len(maker.made) == 1 + len(SIZES) and len(maker.alive) == len(SIZES)
    frozen.drop(START, bundle.last)
    assert maker.alive == []
    assert frozen.run(START, bundle.last, batch(bundle, 2))[0].shape == (2, len(bundle.labels))


@pytest.mark.parametrize(
    ("maker", "said"),
    [
        (Maker(fails=True), "operation not permitted when stream is capturing"),
        (Maker(off=0.5), "the graph for batches of 1 is off by 0.5 of"),
        (Maker(off=float("nan")), "the graph for batches of 1 is off by nan of"),
    ],
    ids=["not captured", "something else", "nonsense"],
)
def test_what_cannot_be_frozen_runs_without_with_one_warning(
    bundle: Bundle, engine: Engine, maker: Maker, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    frozen, x = TorchEngine(bundle, graphs=maker), batch(bundle, 3)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            frozen.prepare(START, bundle.last, batches=True)
    [message] = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"torch, cut points {START} to {bundle.last}: run without a CUDA graph: {said}")
    assert "and more" not in message
    assert maker.alive == [] and frozen.ready(START, bundle.last)
    expected, _ = engine.run(START, bundle.last, x)
    assert np.abs(frozen.run(START, bundle.last, x)[0] - expected).max() <= 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("size", [1, 3, 64, 65])
def test_cuda_s_own_graphs_give_what_onnx_runtime_gives(
    bundle: Bundle, engine: Engine, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    on_gpu, x = TorchEngine(bundle, device="cuda"), batch(bundle, size, start=3)
    for start, stop in bundle.pieces(3, bundle.last):
        on_gpu.prepare(start, stop, batches=True)
    assert not caplog.records
    for start, stop in bundle.pieces(3, bundle.last):
        expected, _ = engine.run(start, stop, x)
        found, _ = on_gpu.run(start, stop, x)
        assert np.abs(found - expected).max() <= 1e-3
        x = expected
