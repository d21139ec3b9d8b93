"""A trained early-exit network -> a bundle on disk."""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.onnx import symbolic_helper

from spinn_stream.bundle import CODEC, EXIT_PREFIX, FORMAT, GRAPH, MANIFEST, VERSION, Bundle, PayloadRow
from spinn_stream.codec.basis import Basis, as_arrays
from spinn_stream.errors import BundleError
from spinn_stream.train.backbone.from_bundle import BundleNetwork
from spinn_stream.train.backbone.network import EarlyExitNetwork
from spinn_stream.train.cut.tracing import PrunedCut

from .thresholds import Row

OPSET = 17


class _EveryTensor(nn.Module):
    """Gives every cut point and every exit as an output, so that the exporter names them all."""

    def __init__(self, network: EarlyExitNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        outputs: list[torch.Tensor] = []
        heads = dict(zip(self.network.exit_cuts, self.network.heads, strict=True))
        for cut, stage in enumerate(self.network.stages, 1):
            x = stage(x)
            outputs.append(x)
            if cut in heads:
                outputs.append(heads[cut](x))
        return outputs


def _simplify(path: Path) -> onnx.ModelProto:
    """Fold constants and paddings by ONNX Runtime's basic level, which leaves only standard operators."""
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


def _squeeze(g: Any, x: Any, dim: Any = None) -> Any:
    """aten::squeeze for ONNX; the exporter's own takes one axis only (torch 2.13)."""
    if dim is None:
        return g.op("Squeeze", x)
    sizes = x.type().sizes()
    axes = np.atleast_1d(symbolic_helper._maybe_get_const(dim, "t").numpy()).tolist()
    single = [a for a in axes if sizes is None or sizes[a % len(sizes)] == 1]
    return g.op("Squeeze", x, g.op("Constant", value_t=torch.tensor(single))) if single else x


def _traced(network: EarlyExitNetwork, path: Path) -> onnx.ModelProto:
    """The one graph with every cut point and exit named; `path` is written to on the way."""
    cuts = network.cuts
    names: list[str] = []
    for cut in range(1, len(cuts)):
        names.append(cuts[cut].name)
        if cut in network.exit_cuts:
            names.append(EXIT_PREFIX + cuts[cut].name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own: it is deprecated, but needs no further package
        torch.onnx.register_custom_op_symbolic("aten::squeeze", _squeeze, OPSET)  # type: ignore[attr-defined]
        torch.onnx.export(
            _EveryTensor(network).eval(),
            (torch.zeros(1, *cuts[0].shape),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[cuts[0].name],
            output_names=names,
            dynamic_axes={n: {0: "batch"} for n in [cuts[0].name, *names]},
        )
    return _simplify(path)


def _write_graph(network: EarlyExitNetwork, path: Path) -> str:
    """Weights in half, everything checked; returns the file's SHA-256."""
    model = network.to_onnx() if isinstance(network, BundleNetwork) else _traced(network, path)
    _halve_weights(model.graph)
    model.producer_name, model.doc_string = "spinn-stream", ""
    for node in model.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def export_draft(
    network: EarlyExitNetwork,
    out: Path,
    *,
    name: str,
    mean: float,
    scale: float,
    labels: Sequence[str],
    pruned: Sequence[PrunedCut] = (),
    uncounted: Sequence[str] = (),
    provenance: dict[str, Any],
) -> None:
    """Write a bundle that runs but is not calibrated: temperatures are 1, and no early exit answers. See `complete`.

    Args:
        mean, scale: network input = (pixel - mean) * scale.
        provenance: data, seed and command, kept in the manifest for people.

    Raises:
        BundleError: labels do not fit the classes, or the folder cannot be written.
    """
    cuts = network.cuts
    if cuts[-1].shape != (len(labels),):
        raise BundleError(f"got {len(labels)} labels for logits of shape {cuts[-1].shape}")
    exits: list[dict[str, Any]] = [
        {"cut": cuts[cut].name, "macs": macs, "temperature": 1.0}
        for cut, macs in zip(network.exit_cuts, network.head_macs, strict=True)
    ]
    exits.append({"cut": cuts[-1].name, "macs": 0, "temperature": 1.0})
    network = network.eval().cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    try:
        out.mkdir(parents=True, exist_ok=True)
        graph_hash = _write_graph(network, out / GRAPH)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "name": name,
            "graph_sha256": graph_hash,
            "input": {"size": cuts[0].shape[1], "mean": mean, "scale": scale},
            "default_threshold": 1.0,
            "cut_points": [{"name": c.name, "shape": list(c.shape), "macs": c.macs} for c in cuts],
            "exits": exits,
            "thresholds": [
                {"threshold": 1.0, "needed": [None] * (len(exits) - 1), "accuracy": 0.0, "mean_macs_fraction": 1.0,
                 "share": [0.0] * (len(exits) - 1) + [1.0]}
            ],
            "payloads": [],
            "pruned": [asdict(p) for p in pruned],
            "uncounted": list(uncounted),
            "provenance": provenance,
            "labels": list(labels),
        }  # fmt: skip
        write_manifest(out, manifest)
    except OSError as error:
        raise BundleError(f"cannot write the bundle {out}: {error.strerror}") from error


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write it whole or not at all; a list of numbers on one line."""
    partial = folder / (MANIFEST + ".partial")
    text = json.dumps(manifest, indent=1)
    partial.write_text(re.sub(r"\[\n[-+.\deE,\snul]+\]", lambda found: " ".join(found[0].split()), text) + "\n")
    partial.replace(folder / MANIFEST)


def write_bases(folder: Path, bases: Mapping[int, Basis]) -> None:
    """Put the codec's bases into a bundle, in place of those it has.

    Raises:
        BundleError: the folder cannot be written.
    """
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **as_arrays(bases))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["codec_sha256"] = hashlib.sha256(file.getvalue()).hexdigest()
    try:
        (folder / CODEC).write_bytes(file.getvalue())
        write_manifest(folder, manifest)
    except OSError as error:
        raise BundleError(f"cannot write the bundle {folder}: {error.strerror}") from error


def complete(
    folder: Path,
    bundle: Bundle,
    *,
    temperatures: Sequence[float],
    rows: Sequence[Row],
    default_threshold: float,
    payloads: Sequence[PayloadRow],
    provenance: dict[str, Any],
) -> None:
    """Put the results of calibration into a bundle's manifest, and add to its provenance.

    Args:
        temperatures: one per exit, the final one last.

    Raises:
        BundleError: the manifest cannot be written.
    """
    manifest = json.loads((folder / MANIFEST).read_text())
    for exit_, temperature in zip(manifest["exits"], temperatures, strict=True):
        exit_["temperature"] = round(temperature, 4)
    manifest["default_threshold"] = default_threshold
    manifest["thresholds"] = [
        {
            "threshold": r.threshold, "needed": list(r.needed), "accuracy": round(r.outcome.accuracy, 4),
            "mean_macs_fraction": round(r.outcome.mean_macs_fraction, 4),
            "share": [round(s, 4) for s in r.outcome.share],
        }
        for r in rows
    ]  # fmt: skip
    manifest["payloads"] = _payload_rows(bundle, payloads)
    manifest["provenance"] |= provenance
    _replace_manifest(folder, manifest)


def write_payloads(folder: Path, bundle: Bundle, payloads: Sequence[PayloadRow], images: int) -> None:
    """Put a table of payloads into a bundle's manifest, in place of the one it has.

    Args:
        images: that it was measured on.

    Raises:
        BundleError: the manifest cannot be written.
    """
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["payloads"] = _payload_rows(bundle, payloads)
    manifest["provenance"].setdefault("tables", {})["payloads_on"] = images
    _replace_manifest(folder, manifest)


def _payload_rows(bundle: Bundle, payloads: Sequence[PayloadRow]) -> list[dict[str, Any]]:
    return [
        {
            "cut": bundle.cut_points[p.cut].name, "codec": p.codec, "bytes_mean": round(p.bytes_mean, 1),
            "bytes_p95": round(p.bytes_p95, 1), "accuracy": {n: round(a, 4) for n, a in p.accuracy.items()},
            "lost": [round(value, 4) for value in p.lost],
        }
        for p in payloads
    ]  # fmt: skip


def _replace_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    try:
        write_manifest(folder, manifest)
    except OSError as error:
        raise BundleError(f"cannot write the manifest of {folder}: {error.strerror}") from error
