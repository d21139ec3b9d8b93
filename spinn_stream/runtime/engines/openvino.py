"""OpenVINO as an engine: in bfloat16 if the processor has it."""

from __future__ import annotations

import sys
from collections.abc import Collection
from functools import partial
from typing import Any

import numpy as np

from spinn_stream.bundle import Bundle
from spinn_stream.errors import EngineError
from spinn_stream.runtime.graph.carving import Carver, PieceKey
from spinn_stream.runtime.machine.huge_pages import use_huge_pages

from .base import Activation, ExitOutput

# While it is imported, its converter of models writes a client id into the user's home folder, and forks a process that
# tells Google Analytics. It does neither if the package for that is missing: here it is, for as long as this takes.
_TELEMETRY = "openvino_telemetry"
_absent = _TELEMETRY not in sys.modules
if _absent:
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
try:
    import openvino as ov
    from openvino import opset13 as ops
    from openvino.preprocess import PrePostProcessor
finally:
    if _absent:
        del sys.modules[_TELEMETRY]

DEVICE = "CPU"

SET_UP_SIZES = (2, 3, 4)
"""Batch sizes that a graph of open size runs with before it is used: the first run of each takes 2 to 5 times as long
as the next ones, and no client should wait for that."""


Result = tuple[Activation, ExitOutput | None]


class _Graph:
    """One compiled piece.

    Args:
        fixed: it takes only this batch size, and its outputs stay in the same memory.
        outputs: how many there are. final: its one output is the final exit's logits.
        turned: whether its input, and whether its activation, have the channels last in memory.
    """

    def __init__(
        self, request: ov.InferRequest, fixed: int | None, outputs: int, *, final: bool, turned: tuple[bool, bool]
    ) -> None:
        self._request = request
        self._count = outputs
        self._final = final
        self._turned = turned
        self.input: Activation | None = None  # what the request reads where it is: bound once
        self._read_from: Activation | None = None  # that, or a copy: kept alive
        # The binding itself: ov.InferRequest.infer prepares inputs and wraps outputs, which are bound and read here.
        binding: Any = super(ov.InferRequest, request)
        self._infer = partial(binding.infer, {}, True, True)  # no new inputs; outputs shared; text decoded
        self._result = None if fixed is None else self._read()

    def run(self, x: Activation) -> Result:
        if x is not self.input:
            inner = np.ascontiguousarray(x.transpose(0, 2, 3, 1) if self._turned[0] else x)
            self._request.set_input_tensor(ov.Tensor(inner, shared_memory=True))
            self._read_from = inner
            self.input = x if np.may_share_memory(inner, x) else None  # a copy is made anew: x may have changed
        self._infer()
        return self._result or self._read()

    def _read(self) -> Result:
        outputs = [self._request.get_output_tensor(i).data for i in range(self._count)]
        if self._turned[1]:
            outputs[0] = outputs[0].transpose(0, 3, 1, 2)
        if self._final:
            return outputs[0], ExitOutput(*outputs)  # the last activation is the final exit's logits
        return outputs[0], ExitOutput(*outputs[1:]) if self._count > 1 else None


class OpenVinoEngine:
    """See `Engine`. A graph for a batch of 1, and one for any other size when that is first run.

    A graph of open batch size is slower for a batch of 1 (docs/decisions/0010-runtimes.md), so a piece has two graphs
    if both are used.
    """

    def __init__(self, bundle: Bundle, *, threads: int, precision: str = "auto") -> None:
        """
        Args:
            precision: f32, bf16, or auto: bf16 if the processor computes in it.

        Raises:
            EngineError: the processor has no such precision, or OpenVINO does not run on it.
        """
        self._carver = Carver(bundle)
        self._bundle = bundle
        try:
            self._core: Any = ov.Core()
            capable = "BF16" in self._core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        except Exception as error:
            raise EngineError(f"OpenVINO does not run on this processor: {_reason(error)}") from error
        if precision == "bf16" and not capable:
            raise EngineError("this processor does not compute in bfloat16; use f32")
        self.precision = ("bf16" if capable else "f32") if precision == "auto" else precision
        self.name = "openvino" if precision == "auto" else f"openvino-{precision}"
        self._config = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
        }
        self._single: dict[PieceKey, _Graph] = {}
        self._open: dict[PieceKey, _Graph] = {}
        self._bound: dict[PieceKey, _Graph] = {}  # of batches of 1, by what `run` was asked for

    def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None:
        key = self._carver.key(start, stop, exit)
        if key not in self._single:
            self._single[key] = self._built(key, 1)
        if batches and key not in self._open:
            self._open[key] = self._built(key, None, SET_UP_SIZES)

    def ready(self, start: int, stop: int, *, exit: bool = True) -> bool:
        return self._carver.key(start, stop, exit) in self._single

    def drop(self, start: int, stop: int, *, exit: bool = True) -> None:
        key = self._carver.key(start, stop, exit)
        self._single.pop(key, None)
        self._open.pop(key, None)
        for asked in (True, False):
            if self._carver.key(start, stop, asked) == key:
                self._bound.pop((start, stop, asked), None)

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> Result:
        # Between pieces of one path every frame comes as the same array, which was looked at when it first came. The
        # caches are full of weights, so that each line here takes microseconds.
        graph = self._bound.get((start, stop, exit))
        if graph is None or graph.input is not x:
            graph = self._graph(start, stop, x, exit)
        try:
            return graph.run(x)
        except Exception as error:  # OpenVINO's errors are plain RuntimeErrors
            raise EngineError(f"{self.name}, cut points {start} to {stop}: {_reason(error)}") from error

    def _graph(self, start: int, stop: int, x: Activation, exit: bool) -> _Graph:
        """The graph that runs it, built if need be.

        Raises:
            EngineError: see `run`.
        """
        key = self._carver.key(start, stop, exit)
        kept, fixed = (self._single, 1) if len(x) == 1 else (self._open, None)
        graph = kept.get(key)
        if x.dtype != np.float32 or x.shape[1:] != self._bundle.cut_points[start].shape:
            raise EngineError(
                f"{self.name}, cut point {self._carver.source(key)}: got {x.dtype} {x.shape}, "
                f"expected float32 (B, *{self._bundle.cut_points[start].shape})"
            )
        if graph is None:
            graph = kept[key] = self._built(key, fixed)
        if fixed is not None:
            self._bound[start, stop, exit] = graph
        return graph

    def _built(self, key: PieceKey, fixed: int | None, sizes: Collection[int] = ()) -> _Graph:
        graph = self._build(key, fixed, sizes)
        use_huge_pages()
        return graph

    def _build(self, key: PieceKey, fixed: int | None, sizes: Collection[int] = ()) -> _Graph:
        """Build a graph of this batch size, or of open size, and run it once with each of these sizes."""
        shape = self._bundle.cut_points[key[0]].shape
        try:
            model = self._core.read_model(self._carver.carve(key))
            if fixed is not None:
                model.reshape([fixed, *shape])
            turned = self._turned(key) if fixed is not None else (False, False)
            model = _with_channels_last(model, turned)
            logits = self._carver.logits(key)
            if logits is not None:
                model = _with_confidence(model, *logits)
            compiled = self._core.compile_model(model, DEVICE, self._config)
            final = key[1] == self._bundle.last
            graph = _Graph(compiled.create_infer_request(), fixed, len(model.outputs), final=final, turned=turned)
            for size in sizes:
                graph.run(np.zeros((size, *shape), np.float32))
            return graph
        except Exception as error:
            raise EngineError(f"{self.name} cannot build cut points {key[0]} to {key[1]}: {_reason(error)}") from error

    def _turned(self, key: PieceKey) -> tuple[bool, bool]:
        """Whether a piece's input, and its activation, cross with the channels last, as OpenVINO computes.

        Frames have the channels first, for every engine. Vectors have only one order.
        """
        first, last = (len(self._bundle.cut_points[cut].shape) == 3 for cut in key[:2])
        return first and key[0] > 0, last


def _with_channels_last(model: ov.Model, turned: tuple[bool, bool]) -> ov.Model:
    """The model with its input, and its first output, as (B, H, W, C) in memory, if that is asked for.

    At a cut, this saves turning the activation to channels first and back.
    """
    if not any(turned):
        return model
    steps = PrePostProcessor(model)
    for wanted, end in zip(turned, (steps.input(0), steps.output(0)), strict=True):
        if wanted:
            end.model().set_layout(ov.Layout("NCHW"))
            end.tensor().set_layout(ov.Layout("NHWC"))
    return steps.build()


def _with_confidence(model: ov.Model, place: int, temperature: float) -> ov.Model:
    """The model with one more output: the largest calibrated probability, (B, 1), of the logits at `place`, (B,
    classes).

    These are three more small operators. numpy would need some calls for them, while the caches are full of weights.
    The plugin computes what follows the last matrix product in float32, at any precision.
    """
    logits = model.output(place).get_node().input_value(0)
    shares = ops.softmax(ops.multiply(logits, ops.constant(np.float32(1 / temperature))), 1)
    confidence = ops.reduce_max(shares, ops.constant(np.array([1], np.int32)), keep_dims=True)
    results = [output.get_node() for output in model.outputs]
    return ov.Model([*results, ops.result(confidence)], model.get_parameters(), model.get_friendly_name())


def _reason(error: Exception) -> str:
    """The last line of OpenVINO's long messages, which says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def open_engine(bundle: Bundle, *, threads: int) -> OpenVinoEngine:
    """Of the precision that is the fastest here; see `EngineKind.opener`."""
    return OpenVinoEngine(bundle, threads=threads)


def open_float32(bundle: Bundle, *, threads: int) -> OpenVinoEngine:
    """Held to float32; see `EngineKind.opener`."""
    return OpenVinoEngine(bundle, threads=threads, precision="f32")
