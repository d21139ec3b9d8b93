"""Whole networks as a user of one engine alone would run them: what our split path is compared with.

Each gives a function that runs one image, without early exits, in the way that costs least in that engine:
nothing is converted or copied that its own interface does not force.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import openvino as ov
import torch
from torch import nn

from spinn_stream.model.bundle import Bundle, load_bundle
from spinn_stream.model.choose_backbone import choose_backbone
from spinn_stream.model.export import export_draft
from spinn_stream.model.network import attach_exits
from spinn_stream.model.tracing import trace_backbone
from spinn_stream.runtime.carving import Carver

Run = Callable[[], object]
Named = dict[str, Run]


def default_bundle() -> tuple[Bundle, nn.Module]:
    """The built-in bundle, and its backbone as a plain torch module (times do not depend on weights)."""
    bundle = load_bundle()
    backbone = choose_backbone(
        "efficientnet-lite2", num_classes=len(bundle.labels), image_size=bundle.input.size, pretrained=False
    )
    return bundle, backbone.module.eval()


def lite0_224() -> tuple[Bundle, nn.Module]:
    """EfficientNet-Lite0 at its own size with its ImageNet weights, six exits attached and not trained."""
    folder = Path(tempfile.mkdtemp(prefix="spinn-lite0-"))
    backbone = choose_backbone("efficientnet-lite0", num_classes=1000, image_size=224, pretrained=True)
    plain = copy.deepcopy(backbone.module).eval()
    network = attach_exits(trace_backbone(backbone.module, (3, 224, 224)), 1000)
    export_draft(
        network, folder, name="lite0-224", mean=backbone.mean, scale=backbone.scale,
        labels=[str(i) for i in range(1000)], provenance={},
    )  # fmt: skip
    return load_bundle(folder), plain


def graph(bundle: Bundle, start: int, stop: int) -> bytes:
    """The network without exits from one cut point to another as one ONNX model."""
    carver = Carver(bundle)
    return carver.carve(carver.key(start, stop, False))


def eager_torch(module: nn.Module, x: np.ndarray, precision: str) -> Run:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    module = copy.deepcopy(module).to(dtype)
    tensor = torch.from_numpy(x).to(dtype)

    def run() -> object:
        with torch.inference_mode():
            return module(tensor)

    return run


def onnx_runtime(graph: bytes, x: np.ndarray) -> Run:
    session = _session(graph)
    inputs, outputs = {session.get_inputs()[0].name: x}, [session.get_outputs()[0].name]
    return lambda: session.run(outputs, inputs)


def onnx_runtime_halves(head: bytes, tail: bytes, x: np.ndarray) -> Run:
    """By hand: two sessions, the second one bound to what the first one writes."""
    first, second = _session(head), _session(tail)
    [name], [target] = first.get_outputs(), second.get_outputs()
    middle = ort.OrtValue.ortvalue_from_numpy(first.run([name.name], {first.get_inputs()[0].name: x})[0])
    logits = ort.OrtValue.ortvalue_from_numpy(second.run([target.name], {second.get_inputs()[0].name: middle})[0])
    bindings = first.io_binding(), second.io_binding()
    bindings[0].bind_ortvalue_input(first.get_inputs()[0].name, ort.OrtValue.ortvalue_from_numpy(x))
    bindings[0].bind_ortvalue_output(name.name, middle)
    bindings[1].bind_ortvalue_input(second.get_inputs()[0].name, middle)
    bindings[1].bind_ortvalue_output(target.name, logits)

    def run() -> object:
        first.run_with_iobinding(bindings[0])
        second.run_with_iobinding(bindings[1])
        return logits

    return run


def openvino(graph: bytes, x: np.ndarray, precision: str, *, open_batch: bool = False) -> Run:
    request = _request(graph, None if open_batch else x.shape, precision)
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))
    return lambda: request.infer(share_outputs=True)


def openvino_halves(head: bytes, tail: bytes, x: np.ndarray, middle: tuple[int, ...], precision: str) -> Run:
    """By hand: two graphs, the second one reading where the first one writes."""
    first, second = _request(head, x.shape, precision), _request(tail, (1, *middle), precision)
    first.set_input_tensor(ov.Tensor(x, shared_memory=True))
    second.set_input_tensor(first.get_output_tensor())

    def run() -> object:
        first.infer(share_outputs=True)
        return second.infer(share_outputs=True)

    return run


def _session(graph: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _request(graph: bytes, shape: tuple[int, ...] | None, precision: str) -> ov.InferRequest:
    """shape: None: open."""
    core = ov.Core()
    model = core.read_model(graph)
    if shape is not None:
        model.reshape(list(shape))
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    return core.compile_model(model, "CPU", settings).create_infer_request()
