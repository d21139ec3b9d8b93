"""OpenVINO as an engine: bfloat16 where the processor has it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from ..errors import EngineError
from ..model.bundle import Bundle
from .carving import Carver, PieceKey
from .engine import Activation, ExitOutput

DEVICE = "CPU"


class _Graph:
    """One compiled piece. fixed: it takes this batch size alone, and its outputs stay where they are."""

    def __init__(self, request: ov.InferRequest, fixed: int | None, outputs: int) -> None:
        self._request = request
        self._fixed = fixed
        self._count = outputs
        self.input: Activation | None = None  # what the request reads: kept alive, and bound once
        # The binding itself: ov.InferRequest.infer prepares inputs and wraps outputs, which are bound and read here.
        binding: Any = super(ov.InferRequest, request)
        self._infer = partial(binding.infer, {}, True, True)  # no new inputs; outputs shared; text decoded
        self._outputs: list[Activation] = [] if fixed is None else self._read()

    def run(self, x: Activation) -> list[Activation]:
        if x is not self.input:
            self._request.set_input_tensor(ov.Tensor(x, shared_memory=True))
            self.input = x
        self._infer()
        return self._read() if self._fixed is None else self._outputs

    def _read(self) -> list[Activation]:
        return [self._request.get_output_tensor(i).data for i in range(self._count)]


class OpenVinoEngine:
    """See `Engine`. A graph for a batch of 1, and one for any other size when that is first run.

    A graph of open batch size is slower for a batch of 1 (docs/decisions/0010-runtimes.md), so that each piece has
    two where both are used.
    """

    def __init__(self, bundle: Bundle, *, threads: int, precision: str = "auto") -> None:
        """
        Args:
            precision: f32, bf16, or auto: bf16 where the processor computes in it.

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

    def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None:
        key = self._carver.key(start, stop, exit)
        if key not in self._single:
            self._single[key] = self._build(key, 1)
        if batches and key not in self._open:
            self._open[key] = self._build(key, None)

    def ready(self, start: int, stop: int, *, exit: bool = True) -> bool:
        return self._carver.key(start, stop, exit) in self._single

    def drop(self, start: int, stop: int, *, exit: bool = True) -> None:
        key = self._carver.key(start, stop, exit)
        self._single.pop(key, None)
        self._open.pop(key, None)

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> tuple[Activation, ExitOutput | None]:
        key = self._carver.key(start, stop, exit)
        kept, fixed = (self._single, 1) if len(x) == 1 else (self._open, None)
        graph = kept.get(key)
        if x.dtype != np.float32 or x.shape[1:] != self._bundle.cut_points[start].shape:
            raise EngineError(
                f"{self.name}, cut point {self._carver.source(key)}: got {x.dtype} {x.shape}, "
                f"expected float32 (B, *{self._bundle.cut_points[start].shape})"
            )
        if graph is None:
            graph = kept[key] = self._build(key, fixed)
        try:
            outputs = graph.run(x if x.flags.c_contiguous else np.ascontiguousarray(x))
        except Exception as error:  # OpenVINO's errors are plain RuntimeErrors
            raise EngineError(f"{self.name}, cut points {start} to {stop}: {_reason(error)}") from error
        if stop == self._bundle.last:
            return outputs[0], ExitOutput(outputs[0])  # the last activation is the final exit's logits
        return outputs[0], ExitOutput(outputs[1], outputs[2]) if key[2] else None

    def _build(self, key: PieceKey, fixed: int | None) -> _Graph:
        try:
            model = self._core.read_model(self._carver.carve(key))
            if fixed is not None:
                model.reshape([fixed, *self._bundle.cut_points[key[0]].shape])
            if key[2]:
                model = _with_confidence(model, self._bundle.exit_at[key[1]].temperature)
            compiled = self._core.compile_model(model, DEVICE, self._config)
            return _Graph(compiled.create_infer_request(), fixed, len(model.outputs))
        except Exception as error:
            raise EngineError(f"{self.name} cannot build cut points {key[0]} to {key[1]}: {_reason(error)}") from error


def _with_confidence(model: ov.Model, temperature: float) -> ov.Model:
    """Its outputs, the second of them logits, (B, classes), and their largest calibrated probability, (B, 1).

    Beside the logits these are three small operators; numpy takes some calls for them, its caches full of weights. The
    plugin computes what follows the last matrix product in float32, whatever the precision.
    """
    logits = model.output(1).get_node().input_value(0)
    shares = ops.softmax(ops.multiply(logits, ops.constant(np.float32(1 / temperature))), 1)
    confidence = ops.reduce_max(shares, ops.constant(np.array([1], np.int32)), keep_dims=True)
    results = [output.get_node() for output in model.outputs]
    return ov.Model([*results, ops.result(confidence)], model.get_parameters(), model.get_friendly_name())


def _reason(error: Exception) -> str:
    """OpenVINO's messages run over many lines of its own source files; the last one says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
