"""ONNX Runtime as an engine."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from spinn_stream.bundle import Bundle
from spinn_stream.errors import EngineError
from spinn_stream.runtime.graph.carving import Carver, PieceKey
from spinn_stream.runtime.graph.onnx_proto import FLOAT, INTS, NodeProto
from spinn_stream.runtime.machine.huge_pages import use_huge_pages

from .base import Activation, ExitOutput

# Since 1.29 it keeps a device id and a queue of events in the user's cache folder, and sends them. This variable turns
# all of that off, if it is there before it is loaded; nothing else does. It is the one thing of the whole process that
# an engine sets. Whoever has set it is not overruled.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

Result = tuple[Activation, ExitOutput | None]

CONFIDENCE = "spinn/confidence"
"""Name of the output that `_give_confidence` adds to a piece that ends at an exit."""

OLDEST_OPSET = 13
"""`_give_confidence` needs operators of this version or later; for older graphs, numpy computes the confidence."""


class OnnxEngine:
    """See `Engine`. float32, one session for each piece and any batch size; a batch of 1 runs between fixed arrays."""

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, *, threads: int) -> None:
        self._carver = Carver(bundle)
        self._bundle = bundle
        self._sessions: dict[PieceKey, ort.InferenceSession] = {}
        self._outputs: dict[PieceKey, list[str]] = {}  # their names, of each session
        self._single: dict[PieceKey, _Bound] = {}
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._options.log_severity_level = 3

    def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None:
        key = self._carver.key(start, stop, exit)
        if key not in self._sessions:
            self._sessions[key] = self._built(key)

    def ready(self, start: int, stop: int, *, exit: bool = True) -> bool:
        return self._carver.key(start, stop, exit) in self._sessions

    def drop(self, start: int, stop: int, *, exit: bool = True) -> None:
        key = self._carver.key(start, stop, exit)
        self._sessions.pop(key, None)
        self._single.pop(key, None)

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> Result:
        key = self._carver.key(start, stop, exit)
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = self._built(key)
        try:
            if len(x) == 1:
                bound = self._single.get(key)
                if bound is None:
                    bound = self._single[key] = self._bind(key, session)
                return bound.run(x)
            outputs = session.run(self._outputs[key], {self._carver.source(key): x})
        except Exception as error:  # ONNX Runtime's errors are plain RuntimeErrors of several kinds
            raise EngineError(f"{self.name}, cut points {start} to {stop}: {error}") from error
        return _result(outputs, final=stop == self._bundle.last)

    def _built(self, key: PieceKey) -> ort.InferenceSession:
        session = self._build(key)
        use_huge_pages()
        return session

    def _build(self, key: PieceKey) -> ort.InferenceSession:
        try:
            piece = self._carver.piece(key)
            _enter_blocked(piece.graph, self._bundle.cut_points[key[0]].shape)
            logits = self._carver.logits(key)
            if logits is not None and _opset(piece) >= OLDEST_OPSET:
                _give_confidence(piece.graph, self._carver.targets(key)[logits[0]], logits[1])
            self._outputs[key] = [out.name for out in piece.graph.output]
            return ort.InferenceSession(piece.SerializeToString(), self._options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise EngineError(f"{self.name} cannot build cut points {key[0]} to {key[1]}: {error}") from error

    def _bind(self, key: PieceKey, session: ort.InferenceSession) -> _Bound:
        shapes = [self._bundle.cut_points[key[1]].shape] + [(len(self._bundle.labels),)] * key[2] + [(1,)]
        names = zip(self._outputs[key], shapes, strict=False)  # where there is no confidence, one shape is left
        targets = {name: np.empty((1, *shape), np.float32) for name, shape in names}
        source = self._carver.source(key), self._bundle.cut_points[key[0]].shape
        return _Bound(session, source, targets, final=key[1] == self._bundle.last)


class _Bound:
    """A session for a batch of 1 that reads and writes fixed arrays.

    A piece reads what the one before has written: between pieces of one path nothing is allocated, copied or bound
    again.

    Args:
        source: name of the input, and its shape without the batch. targets: arrays by the names of the outputs, in the
            order of `Carver.targets`.
    """

    def __init__(
        self, session: ort.InferenceSession, source: tuple[str, tuple[int, ...]], targets: dict[str, Activation], *,
        final: bool,
    ) -> None:  # fmt: skip
        self._session = session
        self._name, self._shape = source[0], (1, *source[1])
        self._input: Activation | None = None  # what is bound: kept alive
        self._binding: Any = session.io_binding()
        for name, array in targets.items():
            self._binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))
        self._result = _result(list(targets.values()), final=final)

    def run(self, x: Activation) -> Result:
        """Raises ValueError: x has another shape or type."""
        if x is not self._input:
            if x.dtype != np.float32 or x.shape != self._shape:
                raise ValueError(f"got {x.dtype} {x.shape} for {self._name}, expected float32 {self._shape}")
            x = np.ascontiguousarray(x)
            self._binding.bind_ortvalue_input(self._name, ort.OrtValue.ortvalue_from_numpy(x))
            self._input = x
        self._session.run_with_iobinding(self._binding)
        return self._result


def _result(outputs: list[Activation], *, final: bool) -> Result:
    """outputs: the activation, then an exit's logits, if there is one that is not final, then its confidence."""
    if final:
        return outputs[0], ExitOutput(*outputs)  # the last activation is the final exit's logits
    return outputs[0], ExitOutput(*outputs[1:]) if len(outputs) > 1 else None


def _opset(piece: Any) -> int:
    return max((opset.version for opset in piece.opset_import if opset.domain in ("", "ai.onnx")), default=0)


def _give_confidence(graph: Any, logits: str, temperature: float) -> None:
    """Let a piece also give the largest calibrated probability of its logits, (B, 1).

    These are three more small operators. numpy would take 0.1 ms for them, since the caches are full of weights.
    """

    def node(op: str, inputs: list[str], outputs: list[str]) -> Any:
        graph.node.append(NodeProto(op_type=op, name=f"{CONFIDENCE}/{op}", input=inputs, output=outputs))
        return graph.node[-1]

    scale, scaled, shares, one, which = (f"{CONFIDENCE}/{n}" for n in ("scale", "scaled", "shares", "one", "which"))
    node("Constant", [], [scale]).attribute.add(name="value_float", f=1 / temperature, type=FLOAT)
    node("Mul", [logits, scale], [scaled])
    node("Softmax", [scaled], [shares])
    node("Constant", [], [one]).attribute.add(name="value_ints", ints=[1], type=INTS)
    node("TopK", [shares, one], [CONFIDENCE, which])
    graph.output.add(name=CONFIDENCE)


def _enter_blocked(graph: Any, shape: tuple[int, ...]) -> None:
    """Let a piece start with a maximum over single pixels, which changes no number, unless its input is only convolved.

    ONNX Runtime computes convolutions in a layout of blocks of channels. It converts the input for each convolution
    that reads it, but additions to the input, and the sums behind them, stay in the plain layout. So every residual
    connection of a stage is converted back and forth. A pooling converts the input once for all, if the channels are
    whole blocks (of 8 or 16, by the processor); otherwise it changes nothing. docs/decisions/0010-runtimes.md
    """
    source = graph.input[0].name
    readers = [node for node in graph.node if source in node.input]
    if len(shape) != 3 or all(node.op_type == "Conv" for node in readers):
        return
    blocked = f"{source}/blocked"
    for node in readers:
        for i, name in enumerate(node.input):
            if name == source:
                node.input[i] = blocked
    pool = NodeProto(op_type="MaxPool", name=blocked, input=[source], output=[blocked])
    pool.attribute.add(name="kernel_shape", ints=[1, 1], type=INTS)
    graph.node.insert(0, pool)


def open_engine(bundle: Bundle, *, threads: int) -> OnnxEngine:
    """See `EngineKind.opener`."""
    return OnnxEngine(bundle, threads=threads)
