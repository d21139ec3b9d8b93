"""ONNX Runtime as an engine."""

from __future__ import annotations

import onnxruntime as ort

from ..errors import EngineError
from ..model.bundle import Bundle
from .carving import Carver, PieceKey
from .engine import Activation, ExitOutput


class OnnxEngine:
    """See `Engine`. float32, one session for each piece and any batch size."""

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, *, threads: int) -> None:
        self._carver = Carver(bundle)
        self._last = bundle.last
        self._sessions: dict[PieceKey, ort.InferenceSession] = {}
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._options.log_severity_level = 3

    def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None:
        key = self._carver.key(start, stop, exit)
        if key not in self._sessions:
            self._sessions[key] = self._build(key)

    def ready(self, start: int, stop: int, *, exit: bool = True) -> bool:
        return self._carver.key(start, stop, exit) in self._sessions

    def drop(self, start: int, stop: int, *, exit: bool = True) -> None:
        self._sessions.pop(self._carver.key(start, stop, exit), None)

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> tuple[Activation, ExitOutput | None]:
        key = self._carver.key(start, stop, exit)
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = self._build(key)
        try:
            outputs = session.run(self._carver.targets(key), {self._carver.source(key): x})
        except Exception as error:  # ONNX Runtime's errors are plain RuntimeErrors of several kinds
            raise EngineError(f"{self.name}, cut points {start} to {stop}: {error}") from error
        if stop == self._last:
            return outputs[0], ExitOutput(outputs[0])  # the last activation is the final exit's logits
        return outputs[0], ExitOutput(outputs[1]) if key[2] else None

    def _build(self, key: PieceKey) -> ort.InferenceSession:
        try:
            return ort.InferenceSession(self._carver.carve(key), self._options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise EngineError(f"{self.name} cannot build cut points {key[0]} to {key[1]}: {error}") from error
