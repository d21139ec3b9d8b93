"""Carves the way between two cut points out of a bundle's one ONNX graph."""

from __future__ import annotations

from typing import Any

import onnx

from ..errors import EngineError
from ..model.bundle import EXIT_PREFIX, Bundle
from .onnx_file import read_graph

PieceKey = tuple[int, int, bool]
"""(cut point it starts from, cut point it stops at, whether it computes the exit there)."""


class Carver:
    """Holds the graph; gives pieces of it as ONNX models of their own."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises: BundleError: see `read_graph`."""
        self._bundle = bundle
        self._extractor = onnx.utils.Extractor(read_graph(bundle))

    def key(self, start: int, stop: int, exit: bool) -> PieceKey:
        """What one piece is kept by: the exit counts only where there is one.

        Raises:
            EngineError: there is no way from `start` to `stop`.
        """
        if not 0 <= start < stop <= self._bundle.last:
            raise EngineError(f"nothing to run from cut point {start} to {stop} of 0..{self._bundle.last}")
        return start, stop, exit and stop in self._bundle.exit_at and stop != self._bundle.last

    def source(self, key: PieceKey) -> str:
        """Name of the tensor that a piece starts from."""
        return self._bundle.cut_points[key[0]].name

    def targets(self, key: PieceKey) -> list[str]:
        """Names of the tensors that a piece gives: the activation first, then the exit's logits."""
        name = self._bundle.cut_points[key[1]].name
        return [name, EXIT_PREFIX + name] if key[2] else [name]

    def carve(self, key: PieceKey) -> bytes:
        """The piece as a serialised ONNX model, its batch size open.

        Raises:
            Exception: what onnx raises where the graph has no such way; engines turn it into EngineError.
        """
        part: Any = self._extractor.extract_model([self.source(key)], self.targets(key))
        data: bytes = part.SerializeToString()
        return data
