"""The contestants of `runtime.py` and others: whole networks and halves, as a user of one engine would run them, and
ours.

Each builds a function that runs one image in the cheapest way of that engine: nothing is converted or copied unless the
engine's own interface forces it.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
import openvino as ov
from in_turn import Maker, Run
from lite2_200 import LITE2_200

from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.runtime import answers
from spinn_stream.runtime.engines.registry import open_one
from spinn_stream.runtime.graph.carving import Carver
from spinn_stream.runtime.machine.huge_pages import use_huge_pages
from spinn_stream.runtime.measure.worker import halfway, run_halves


@dataclass(frozen=True)
class Model:
    """A network as a bundle (its folder) and as torch's (backbone, its image size and classes)."""

    folder: Path
    backbone: str
    image_size: int
    classes: int

    @property
    def bundle(self) -> Bundle:
        return load_bundle(self.folder)

    @property
    def image(self) -> np.ndarray:
        return np.random.default_rng(0).standard_normal((1, 3, self.image_size, self.image_size), np.float32)


def lite2_128() -> Model:
    bundle = load_bundle(LITE2_200)
    return Model(LITE2_200, "efficientnet-lite2", bundle.input.size, len(bundle.labels))


def lite0_224() -> Model:
    """EfficientNet-Lite0 at its own size with its ImageNet weights, six exits attached and not trained."""
    from spinn_stream.train.backbone.choose import choose_backbone
    from spinn_stream.train.backbone.network import attach_exits
    from spinn_stream.train.cut.tracing import trace_backbone
    from spinn_stream.train.pack.export import export_draft

    folder = Path(tempfile.mkdtemp(prefix="spinn-lite0-"))
    backbone = choose_backbone("efficientnet-lite0", num_classes=1000, image_size=224, pretrained=True)
    network = attach_exits(trace_backbone(backbone.module, (3, 224, 224)), 1000)
    export_draft(
        network, folder, name="lite0-224", mean=backbone.mean, scale=backbone.scale,
        labels=[str(i) for i in range(1000)], provenance={},
    )  # fmt: skip
    return Model(folder, "efficientnet-lite0", 224, 1000)


def with_huge_pages(maker: Maker) -> Run:
    """The maker's function, with its memory in huge pages, as ours has."""
    run = maker()
    run()
    use_huge_pages()
    return run


def ours_halves(model: Model, engine: str, *, threads: int = 1) -> Run:
    """Head to the middle, then the tail from there, no exits; through our interface."""
    bundle = model.bundle
    return partial(run_halves, bundle, open_one(bundle, engine, threads=threads), model.image)


def ours_tail(model: Model, engine_name: str, batch: int, *, threads: int) -> Run:
    """The tail from the middle, no exits, for a batch; through our interface."""
    bundle = model.bundle
    cut = halfway(bundle)
    x = np.random.default_rng(0).standard_normal((batch, *bundle.cut_points[cut].shape), np.float32)
    return partial(open_one(bundle, engine_name, threads=threads).run, cut, bundle.last, x, exit=False)


def ours_exits(model: Model, engine_name: str) -> Run:
    """Every exit evaluated, its confidence computed and its answer ready, none firing."""
    bundle, image = model.bundle, model.image
    engine = open_one(bundle, engine_name, threads=1)

    def run() -> object:
        x = image
        for start, stop in bundle.pieces(0, bundle.last):
            x, output = engine.run(start, stop, x)
            if stop < bundle.last:  # whether to stop here; the final answer is not counted, here as in `run_halves`
                assert output is not None
                reached = bundle.exit_at[stop]
                answers(reached.name, output, reached.temperature)
        return x

    return run


def eager_torch(model: Model, precision: str) -> Run:
    """The backbone as a plain torch module; times do not depend on weights."""
    import torch

    from spinn_stream.train.backbone.choose import choose_backbone

    torch.set_num_threads(1)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    backbone = choose_backbone(model.backbone, num_classes=model.classes, image_size=model.image_size, pretrained=False)
    module = backbone.module.eval().to(dtype)
    tensor = torch.from_numpy(model.image).to(dtype)
    torch.ones(7 << 20)  # 28 MB, freed at once: from now on glibc keeps what is freed; each layer's page faults else
    # take as long again as all the network

    def run() -> object:
        with torch.inference_mode():
            return module(tensor)

    return run


def onnx_runtime(model: Model) -> Run:
    session = _session(_graph(model.bundle, 0, model.bundle.last))
    inputs, outputs = {session.get_inputs()[0].name: model.image}, [session.get_outputs()[0].name]
    return lambda: session.run(outputs, inputs)


def onnx_runtime_halves(model: Model) -> Run:
    """By hand: two sessions, the second one bound to what the first one writes."""
    cut, x = halfway(model.bundle), model.image
    first = _session(_graph(model.bundle, 0, cut))
    second = _session(_graph(model.bundle, cut, model.bundle.last))
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
        return logits, x

    return run


def openvino(model: Model, precision: str, *, open_batch: bool = False) -> Run:
    x = model.image
    request = _request(_graph(model.bundle, 0, model.bundle.last), None if open_batch else x.shape, precision)
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))
    return lambda: (request.infer(share_outputs=True), x)


def openvino_halves(model: Model, precision: str) -> Run:
    """By hand: two graphs, the second one reading where the first one writes."""
    bundle, x = model.bundle, model.image
    cut = halfway(bundle)
    first = _request(_graph(bundle, 0, cut), x.shape, precision)
    second = _request(_graph(bundle, cut, bundle.last), (1, *bundle.cut_points[cut].shape), precision)
    first.set_input_tensor(ov.Tensor(x, shared_memory=True))
    second.set_input_tensor(first.get_output_tensor())

    def run() -> object:
        first.infer(share_outputs=True)
        return second.infer(share_outputs=True), x

    return run


def _graph(bundle: Bundle, start: int, stop: int) -> bytes:
    """The network without exits from one cut point to another as one ONNX model."""
    carver = Carver(bundle)
    return carver.carve(carver.key(start, stop, False))


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
