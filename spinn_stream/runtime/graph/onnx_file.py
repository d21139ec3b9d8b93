"""Reads the graph of a bundle from disk, and refuses graphs that a bundle may not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spinn_stream.bundle import Bundle
from spinn_stream.errors import BundleError

from .onnx_proto import EXTERNAL, ModelProto

if TYPE_CHECKING:
    import onnx


def read_light(bundle: Bundle) -> Any:
    """The graph of a bundle as an `onnx_proto.ModelProto` with all its weights, as carving needs it.

    Raises:
        BundleError: not ONNX, weights in other files, or operators that are not standard ONNX.
    """
    try:
        model = ModelProto.FromString(bundle.graph_path.read_bytes())
    except Exception as error:  # protobuf raises its own, undocumented, kinds
        raise BundleError(f"{bundle.graph_path} is not an ONNX graph: {error}") from error
    if not model.graph.node:
        raise BundleError(f"{bundle.graph_path} is not an ONNX graph: it has no nodes")
    for tensor in model.graph.initializer:
        if tensor.data_location == EXTERNAL:
            raise BundleError(
                f"{bundle.graph_path}: weight {tensor.name} lies in another file; "
                "a bundle holds all its weights in the graph"
            )
    foreign = {str(node.domain) for node in model.graph.node} - {"", "ai.onnx"}  # bytes, where it is no UTF-8
    if foreign:
        raise BundleError(f"{bundle.graph_path}: operators of {sorted(foreign)}, expected standard ONNX only")
    return model


def read_graph(bundle: Bundle) -> onnx.ModelProto:
    """The same as the package onnx has it, with attributes and values of weights, as torch and training need it.

    Raises:
        BundleError: see `read_light`, which checks it first; or onnx itself refuses the graph.
    """
    import onnx

    read_light(bundle)
    try:
        return onnx.load(str(bundle.graph_path), load_external_data=False)
    except Exception as error:
        raise BundleError(f"{bundle.graph_path} is not an ONNX graph: {error}") from error
