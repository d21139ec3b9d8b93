"""Reads the graph of a bundle from disk, and refuses what a bundle may not hold."""

from __future__ import annotations

import onnx

from ..errors import BundleError
from ..model.bundle import Bundle


def read_graph(bundle: Bundle) -> onnx.ModelProto:
    """The graph of a bundle, all its weights in it.

    Raises:
        BundleError: not ONNX, weights in other files, or operators that are not standard ONNX.
    """
    try:
        model = onnx.load(str(bundle.graph_path), load_external_data=False)
    except Exception as error:  # protobuf raises its own, undocumented, kinds
        raise BundleError(f"{bundle.graph_path} is not an ONNX graph: {error}") from error
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise BundleError(
                f"{bundle.graph_path}: weight {tensor.name} lies in another file; "
                "a bundle holds all its weights in the graph"
            )
    foreign = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    if foreign:
        raise BundleError(f"{bundle.graph_path}: operators of {sorted(foreign)}, expected standard ONNX only")
    return model
