"""A trained early-exit network -> a bundle on disk."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from .bundle import EXIT_PREFIX, FORMAT, GRAPH, MANIFEST, VERSION
from .network import EarlyExitNetwork, count_macs

OPSET = 17


class _EveryTensor(nn.Module):
    """Gives every cut point and every exit as an output, so that the exporter names them all."""

    def __init__(self, network: EarlyExitNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        outputs = []
        for name, stage in self.network.stages.items():
            x = stage(x)
            outputs.append(x)
            if name in self.network.exits:
                outputs.append(self.network.exits[name](x))
        return outputs


def _simplify(path: Path) -> onnx.ModelProto:
    """Fold constants and paddings with ONNX Runtime's basic level, which leaves standard operators only."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    model = onnx.load(str(path))
    foreign = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    if foreign:
        raise ValueError(f"the graph has operators of {foreign}, expected standard ONNX only")
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", OPSET))
    return model


def _halve_weights(graph: onnx.GraphProto) -> None:
    """Store float32 weights as float16 behind a Cast, which engines fold away when they load the graph."""
    casts, kept = [], []
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        if weight.data_type != TensorProto.FLOAT or values.ndim < 2:
            kept.append(weight)  # biases and shape constants: small, and not worth the rounding
            continue
        if np.abs(values).max() > 6e4:
            raise ValueError(f"weight {weight.name} has values beyond float16")
        half = f"{weight.name}.half"
        kept.append(numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(helper.make_node("Cast", [half], [weight.name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)


def export_bundle(
    network: EarlyExitNetwork,
    out: Path,
    *,
    name: str,
    image_size: int,
    mean: float,
    scale: float,
    labels: Sequence[str],
    temperatures: Sequence[float],
    default_threshold: float,
    provenance: dict[str, Any],
) -> None:
    """Write the bundle of a network; see `bundle` for the format.

    Args:
        temperatures: one per exit, the final one last.
        provenance: data, seed, command and scores, kept in the manifest for people.

    Raises:
        ValueError: as many temperatures as exits are needed, as many labels as classes.
    """
    if len(temperatures) != len(network.exits) + 1:
        raise ValueError(f"got {len(temperatures)} temperatures for {len(network.exits) + 1} exits")
    network = network.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    x = torch.zeros(1, 3, image_size, image_size)
    cuts: list[dict[str, Any]] = [{"name": "input", "shape": list(x.shape[1:]), "macs": 0}]
    exits: list[dict[str, Any]] = []
    names: list[str] = []
    total, y = 0, x
    for stage_name, stage in network.stages.items():
        macs, y = count_macs(stage, y)
        total += macs
        cuts.append({"name": stage_name, "shape": list(y.shape[1:]), "macs": total})
        names.append(stage_name)
        if stage_name in network.exits:
            head_macs, _ = count_macs(network.exits[stage_name], y)
            exits.append({"cut": stage_name, "macs": head_macs})
            names.append(EXIT_PREFIX + stage_name)
    exits.append({"cut": names[-1], "macs": 0})
    if y.shape[1] != len(labels):
        raise ValueError(f"got {len(labels)} labels for {y.shape[1]} classes")
    for row, temperature in zip(exits, temperatures, strict=True):
        row["temperature"] = round(float(temperature), 4)

    out.mkdir(parents=True, exist_ok=True)
    graph_path = out / GRAPH
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own: it is deprecated, but needs no further package
        torch.onnx.export(
            _EveryTensor(network).eval(),
            (x,),
            str(graph_path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["input"],
            output_names=names,
            dynamic_axes={n: {0: "batch"} for n in ["input", *names]},
        )
    model = _simplify(graph_path)
    _halve_weights(model.graph)
    model.producer_name, model.doc_string = "spinn-stream", ""
    for node in model.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    graph_path.write_bytes(data)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "graph_sha256": hashlib.sha256(data).hexdigest(),
        "input": {"size": image_size, "mean": mean, "scale": scale},
        "default_threshold": default_threshold,
        "cut_points": cuts,
        "exits": exits,
        "provenance": provenance,
        "labels": list(labels),
    }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
