"""ONNX Runtime as an engine: carves the way between two cut points out of the bundle's one graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from ..errors import EngineError
from ..model.bundle import EXIT_PREFIX, Bundle
from .engine import Activation
from .onnx_file import read_graph

MAX_KEPT = 64
"""Sessions kept; each holds its own copy of its weights, at most the whole graph."""


class OnnxEngine:
    """See `Engine`. Sessions are built when first needed (or by `prepare`) and kept."""

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, *, threads: int) -> None:
        self._bundle = bundle
        self._threads = threads
        self._sessions: dict[tuple[int, int, bool], ort.InferenceSession] = {}
        self._extractor = onnx.utils.Extractor(read_graph(bundle))

    def prepare(self, start: int, stop: int, *, exit: bool = True) -> None:
        self._session(start, stop, exit)

    def run(
        self, start: int, stop: int, x: Activation, *, exit: bool = True
    ) -> tuple[Activation, npt.NDArray[np.float32] | None]:
        if start == stop:
            raise EngineError(f"nothing to run from cut point {start} to itself")
        session = self._session(start, stop, exit)
        try:
            outputs = session.run(None, {self._bundle.cut_points[start].name: x})
        except Exception as error:  # ONNX Runtime's errors are plain RuntimeErrors of several kinds
            raise EngineError(f"{self.name}, cut points {start} to {stop}: {error}") from error
        if stop == self._bundle.last:
            return outputs[0], outputs[0]  # the last activation is the final exit's logits
        return outputs[0], outputs[1] if len(outputs) > 1 else None

    def _session(self, start: int, stop: int, with_exit: bool) -> ort.InferenceSession:
        with_exit = with_exit and stop in self._bundle.exit_at and stop != self._bundle.last
        kept = self._sessions.get((start, stop, with_exit))
        if kept is not None:
            return kept
        cuts = self._bundle.cut_points
        outputs = [cuts[stop].name]
        if with_exit:
            outputs.append(EXIT_PREFIX + cuts[stop].name)
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            part: Any = self._extractor.extract_model([cuts[start].name], outputs)
            session = ort.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise EngineError(f"{self.name} cannot build cut points {start} to {stop}: {error}") from error
        if len(self._sessions) >= MAX_KEPT:
            self._sessions.pop(next(iter(self._sessions)))
        self._sessions[start, stop, with_exit] = session
        return session
