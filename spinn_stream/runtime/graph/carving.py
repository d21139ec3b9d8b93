"""Cuts the piece between two cut points out of a bundle's ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spinn_stream.bundle import EXIT_PREFIX, Bundle
from spinn_stream.errors import EngineError

from .onnx_file import read_light
from .onnx_proto import ModelProto

PieceKey = tuple[int, int, bool]
"""(cut point it starts from, cut point it stops at, whether it computes the exit there)."""


def piece_key(bundle: Bundle, start: int, stop: int, exit: bool) -> PieceKey:
    """The key of a piece. The exit counts only if there is one."""
    return start, stop, exit and stop in bundle.exit_at and stop != bundle.last


class Carver:
    """Holds the graph, and gives pieces of it as ONNX models. It never changes, so any thread may use it."""

    def __init__(self, bundle: Bundle) -> None:
        """
        Raises:
            BundleError: see `read_light`. EngineError: the graph has parts that pieces cannot contain.
        """
        self._bundle = bundle
        self._model = read_light(bundle)
        graph = self._model.graph
        for what, found in (
            ("sparse weights", graph.sparse_initializer),
            ("quantization annotations", graph.quantization_annotation),
            ("functions of its own", self._model.functions),
        ):
            if found:
                raise EngineError(f"{bundle.graph_path} has {what}, which cannot be carved")
        self._nodes = list(graph.node)
        self._maker = {name: i for i, node in enumerate(self._nodes) for name in node.output if name}
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._infos = {info.name: info for infos in (graph.value_info, graph.input, graph.output) for info in infos}

    def key(self, start: int, stop: int, exit: bool) -> PieceKey:
        """See `piece_key`.

        Raises:
            EngineError: there is no way from `start` to `stop`.
        """
        if not 0 <= start < stop <= self._bundle.last:
            raise EngineError(f"nothing to run from cut point {start} to {stop} of 0..{self._bundle.last}")
        return piece_key(self._bundle, start, stop, exit)

    def source(self, key: PieceKey) -> str:
        """Name of the tensor that a piece starts from."""
        return self._bundle.cut_points[key[0]].name

    def targets(self, key: PieceKey) -> list[str]:
        """Names of a piece's outputs: the activation, then the exit's logits."""
        name = self._bundle.cut_points[key[1]].name
        return [name, EXIT_PREFIX + name] if key[2] else [name]

    def logits(self, key: PieceKey) -> tuple[int, float] | None:
        """The index of the exit's logits among a piece's targets, and the temperature; None: no exit."""
        if not key[2] and key[1] != self._bundle.last:
            return None
        return int(key[2]), self._bundle.exit_at[key[1]].temperature

    def carve(self, key: PieceKey) -> bytes:
        """The piece as a serialised ONNX model, its batch size open.

        Raises:
            EngineError: see `piece`.
        """
        data: bytes = self.piece(key).SerializeToString()
        return data

    def piece(self, key: PieceKey) -> Any:
        """The piece as an `onnx_proto.ModelProto` of its own, its batch size open.

        Raises:
            EngineError: the graph has no such tensor, or no such way.
        """
        source, targets = self.source(key), self.targets(key)
        for name in (source, *targets):
            if name not in self._infos:
                raise EngineError(f"the graph has no input, output or typed tensor {name}")
        nodes = self._way(source, targets)
        used = {name for node in nodes for name in (*node.input, *node.output)}
        piece = ModelProto(ir_version=self._model.ir_version, opset_import=self._model.opset_import)
        graph = piece.graph
        graph.name = f"{source} to {targets[0]}"
        graph.node.extend(nodes)
        graph.initializer.extend(tensor for name, tensor in self._weights.items() if name in used)
        graph.input.append(self._infos[source])
        graph.output.extend(self._infos[name] for name in targets)
        graph.value_info.extend(info for name, info in self._infos.items() if name in used)
        return piece

    def _way(self, source: str, targets: Sequence[str]) -> list[Any]:
        """The nodes that compute `targets` from `source`, in the graph's order."""
        needed: set[int] = set()
        reached = False
        for target in targets:
            open_names = [target]
            while open_names:
                name = open_names.pop()
                if name == source:
                    reached = True
                elif name in self._maker:
                    if self._maker[name] not in needed:
                        needed.add(self._maker[name])
                        open_names += self._nodes[self._maker[name]].input
                elif name and name not in self._weights:
                    raise EngineError(f"{target} needs {name}, which {source} does not give")
        if not reached:
            raise EngineError(f"no way from {source} to {targets[0]} in the graph")
        return [self._nodes[i] for i in sorted(needed)]
