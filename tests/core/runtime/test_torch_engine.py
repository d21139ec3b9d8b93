"""PyTorch runs the same bundle as ONNX Runtime does, and refuses what it does not know."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from spinn_stream.bundle import EXIT_PREFIX, Bundle
from spinn_stream.errors import BundleError, EngineError
from spinn_stream.runtime import Engine, open_engine

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from spinn_stream.runtime.torch import TorchEngine, TorchGraph, bundle_stages  # noqa: E402

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def torch_engine(bundle: Bundle) -> Engine:
    return open_engine(bundle, "torch")


# --- the bundle ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(bundle: Bundle, inputs: Floats) -> dict[str, Floats]:
    """Every tensor that the uncut graph names, run by ONNX Runtime without any of our code."""
    session = ort.InferenceSession(str(bundle.graph_path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"input": inputs[:2]}), strict=True)) | {"input": inputs[:2]}


def test_torch_head_and_tail_give_what_onnx_runtime_gives_at_every_exit(
    bundle: Bundle, torch_engine: Engine, inputs: Floats, whole: dict[str, Floats]
) -> None:
    names = [cut.name for cut in bundle.cut_points]
    for split in range(bundle.last + 1):
        x, seen = inputs[:2], set()
        for start, stop in bundle.pieces(0, split) + bundle.pieces(split, bundle.last):
            x, output = torch_engine.run(start, stop, x)
            assert x.flags.c_contiguous and x.dtype == np.float32
            assert np.abs(x - whole[names[stop]]).max() <= 1e-3
            if output is not None:
                seen.add(stop)
                expected = whole[names[stop] if stop == bundle.last else EXIT_PREFIX + names[stop]]
                assert np.abs(output.logits - expected).max() <= 1e-3
        assert seen == bundle.exit_at.keys()


def test_a_head_of_one_engine_goes_on_in_a_tail_of_the_other(
    bundle: Bundle, engine: Engine, torch_engine: Engine, whole: dict[str, Floats]
) -> None:
    middle = bundle.last // 2
    for first, second in ((engine, torch_engine), (torch_engine, engine)):
        x, _ = first.run(0, middle, whole["input"])
        final, _ = second.run(middle, bundle.last, x)
        assert np.abs(final - whole[bundle.cut_points[-1].name]).max() <= 1e-3


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_without_the_exit_only_the_activation_is_given(bundle: Bundle, inputs: Floats, runtime: str) -> None:
    engine, cut = open_engine(bundle, runtime), bundle.exits[0].cut
    engine.prepare(0, cut, exit=False)
    activation, nothing = engine.run(0, cut, inputs[:1], exit=False)
    again, output = engine.run(0, cut, inputs[:1])
    assert nothing is None and output is not None and output.logits.shape == (1, len(bundle.labels))
    assert np.abs(activation - again).max() <= 1e-5
    final, same = engine.run(bundle.last - 1, bundle.last, engine.run(0, bundle.last - 1, inputs[:1])[0], exit=False)
    assert same is not None and np.array_equal(final, same.logits)


def test_parts_share_their_weights(bundle: Bundle) -> None:
    graph = TorchGraph(onnx.load(str(bundle.graph_path)))
    first, last = bundle.cut_points[0].name, bundle.cut_points[-1].name
    complete = {id(p) for p in graph.carve(first, last).parameters()}
    for cut in bundle.cut_points[1:-1]:
        head, tail = graph.carve(first, cut.name), graph.carve(cut.name, last)
        assert {id(p) for p in [*head.parameters(), *tail.parameters()]} == complete
    assert graph.carve(first, last) is graph.carve(first, last)


def test_a_bundle_s_stages_are_the_network_and_can_be_trained(bundle: Bundle, whole: dict[str, Floats]) -> None:
    stages, exits = bundle_stages(bundle)
    assert len(stages) == bundle.last and list(exits) == [e.name for e in bundle.exits[:-1]]
    image = x = torch.from_numpy(whole["input"][:1])
    loss = torch.zeros(())
    for cut, stage in zip(bundle.cut_points[1:], stages, strict=True):
        x = stage(x)
        assert np.abs(x.detach().numpy() - whole[cut.name][:1]).max() <= 1e-3
        if cut.name in exits:
            logits = exits[cut.name](x)
            assert np.abs(logits.detach().numpy() - whole[EXIT_PREFIX + cut.name][:1]).max() <= 1e-3
            loss = loss + F.cross_entropy(logits, torch.tensor([3]))
    loss = loss + F.cross_entropy(x, torch.tensor([3]))
    loss.backward()
    for module in [*stages, *exits.values()]:
        for name, parameter in module.named_parameters():
            assert parameter.dtype == torch.float32 and parameter.grad is not None, name
    assert torch.equal(copy.deepcopy(stages[0])(image), stages[0](image))  # for a moving average of the weights
    convolutions = [m for stage in stages for m in stage.modules() if isinstance(m, nn.Conv2d)]
    assert convolutions and all(m.weight.is_contiguous(memory_format=torch.channels_last) for m in convolutions)


def test_a_wrong_shape_or_type_is_refused_and_torch_keeps_its_threads(bundle: Bundle, torch_engine: Engine) -> None:
    size = bundle.input.size
    for wrong in (np.zeros((1, 3, size, size - 1), np.float32), np.zeros((1, 3, size, size), np.float64)):
        with pytest.raises(EngineError, match=r"expected float32 \(B"):
            torch_engine.run(0, 1, wrong)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="to itself"):
        torch_engine.run(1, 1, np.zeros((1, *bundle.cut_points[1].shape), np.float32))
    with pytest.raises(EngineError, match="does not give"):
        torch_engine.run(2, 1, np.zeros((1, *bundle.cut_points[2].shape), np.float32))
    frame = np.zeros((1, 3, size, size), np.float32)
    frame.flags.writeable = False  # as an array over received bytes is
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TorchEngine(bundle, threads=2).run(0, 1, frame)
    assert torch.get_num_threads() == 1


def test_a_device_that_is_not_there_is_refused(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="no device 'cuda:77'"):
        TorchEngine(bundle, device="cuda:77")


class Do(nn.Module):
    """A function as a module, with the modules that it uses."""

    def __init__(self, function: Callable[..., Any], *modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.used = nn.ModuleList(modules)

    def forward(self, x: Any) -> Any:
        return self.function(x, *self.used)


class Scale(nn.Module):
    """A weight for each channel, as in ConvNeXt."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.linspace(0.5, 2, channels))

    def forward(self, x: Any) -> Any:
        return x * self.gamma


def shuffle(x: Any) -> Any:
    b, c, h, w = x.shape
    return x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, -1, h, w)


def normed(x: Any) -> Any:
    return (x - x.mean((2, 3), keepdim=True)) / torch.sqrt(x.var((2, 3), keepdim=True, unbiased=False) + 1e-5)


MODULES: dict[str, Callable[[], nn.Module]] = {
    "conv, batch norm, relu": lambda: nn.Sequential(
        nn.Conv2d(8, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 8, 5, dilation=2, padding=4)
    ),
    "batch norm alone": lambda: nn.Sequential(nn.BatchNorm2d(8), nn.ReLU6()),
    "depthwise and grouped": lambda: nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.SiLU(), nn.Conv2d(8, 4, 1, groups=2), nn.Hardswish()
    ),
    "squeeze and excite": lambda: Do(
        lambda x, down, up: x * F.hardsigmoid(up(F.relu(down(F.adaptive_avg_pool2d(x, 1))))),
        nn.Conv2d(8, 2, 1),
        nn.Conv2d(2, 8, 1),
    ),
    "inception": lambda: Do(
        lambda x, a, b, c: torch.cat([a(x), b(x), c(F.avg_pool2d(x, 3, 1, 1)), F.max_pool2d(x, 3, 1, 1)], 1),
        nn.Conv2d(8, 4, 1),
        nn.Conv2d(8, 4, (1, 7), padding=(0, 3)),
        nn.Conv2d(8, 2, 1),
    ),
    "split and shuffle": lambda: Do(
        lambda x, c: shuffle(torch.cat([x.chunk(2, 1)[0], c(x.chunk(2, 1)[1])], 1)), nn.Conv2d(4, 4, 3, padding=1)
    ),
    "uneven split": lambda: Do(lambda x: torch.cat(torch.split(x, [3, 5], 1)[::-1], 1)),
    "slices": lambda: Do(lambda x: x[:, 1:-1, ::2, 1:] - x[:, -6:, ::2, :-1]),
    "ConvNeXt": lambda: Do(
        lambda x, conv, norm, up, act, down, scale: (
            x + scale(down(act(up(norm(conv(x).permute(0, 2, 3, 1)))))).permute(0, 3, 1, 2)
        ),
        nn.Conv2d(8, 8, 7, padding=3, groups=8),
        nn.LayerNorm(8),
        nn.Linear(8, 16),
        nn.GELU(),
        nn.Linear(16, 8),
        Scale(8),
    ),
    "layer norm by hand": lambda: Do(normed),
    "group norm": lambda: nn.GroupNorm(2, 8),
    "attention": lambda: Do(lambda x: (x.flatten(2).transpose(1, 2) @ x.flatten(2)).softmax(-1)),
    "average pool, ceil": lambda: nn.AvgPool2d(3, 2, ceil_mode=True),
    "average pool, pads counted": lambda: nn.AvgPool2d(3, 2, 1),
    "average pool, pads not counted": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "max pool, ceil": lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "max pool, dilated": lambda: nn.MaxPool2d(2, 1, dilation=2),
    "adaptive pools": lambda: Do(lambda x: F.adaptive_avg_pool2d(x, (2, 4)) + F.adaptive_max_pool2d(x, 1)),
    "transposed convolution": lambda: nn.ConvTranspose2d(8, 6, 3, 2, 1, output_padding=1, groups=2),
    "uneven pads": lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 2, 3)), nn.Conv2d(8, 4, 3)),
    "reflected and repeated pads": lambda: nn.Sequential(nn.ReflectionPad2d((1, 2, 0, 3)), nn.ReplicationPad2d(1)),
    "classifier": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, 5)),
    "mean and log softmax": lambda: Do(lambda x: F.log_softmax(x.mean((2, 3)), 1)),
    "reductions": lambda: Do(lambda x: x.sum(1) + x.amax(1) + x.amin(1)),
    "activations": lambda: Do(lambda x: F.elu(x) + F.leaky_relu(x, 0.1) + F.mish(x) + F.hardtanh(x) + torch.tanh(x)),
    "prelu": lambda: nn.PReLU(8, init=0.3),
    "arithmetic": lambda: Do(lambda x: (x.abs() + 1).log() * 2 - x.pow(2) / 3 + x.exp().reciprocal() - (-x).floor()),
    "extremes": lambda: Do(lambda x: torch.maximum(x, -x) + torch.minimum(x, x * 2) + torch.where(x == 0, x, x * x)),
    "squeeze and expand": lambda: Do(lambda x: x.mean(1, keepdim=True).squeeze(1).unsqueeze(1).expand(-1, 4, -1, -1)),
    "one axis": lambda: Do(lambda x, c: c(x.flatten(2)), nn.Conv1d(8, 4, 3, 2, 1)),
}


def agree(model: onnx.ModelProto, x: Floats, tolerance: float = 1e-4) -> None:
    expected = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    with torch.no_grad():
        got = TorchGraph(model).carve("x", "y")(torch.from_numpy(x)).numpy()
    assert got.shape == expected[0].shape and np.abs(got - expected[0]).max(initial=0) <= tolerance


@pytest.fixture(scope="module")
def pixels() -> Floats:
    return np.random.default_rng(7).normal(size=(3, 8, 16, 20)).astype(np.float32)


CHANGED_IN_18 = ("reductions", "mean and log softmax", "split and shuffle", "uneven split", "uneven pads")


@pytest.mark.parametrize(("name", "opset"), [(n, 17) for n in MODULES] + [(n, 18) for n in CHANGED_IN_18])
def test_what_torch_exports_gives_what_onnx_runtime_gives(name: str, opset: int, pixels: Floats) -> None:
    torch.manual_seed(1)
    module = MODULES[name]().eval()
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(
            module,
            (torch.from_numpy(pixels[:1]),),
            file,
            dynamo=False,
            opset_version=opset,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
        )
    agree(onnx.load_from_string(file.getvalue()), pixels)


def graph(
    op: str, *constants: npt.NDArray[Any] | None, opset: int = 17, outputs: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """x -> one operator with these further inputs -> y."""
    kept = {f"c{i}": c for i, c in enumerate(constants) if c is not None}
    names = ["x", *(f"c{i}" if c is not None else "" for i, c in enumerate(constants))]
    node = helper.make_node(op, names, ["y", *(f"y{i}" for i in range(1, outputs))], name="it", **attributes)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "xy")
    weights = [numpy_helper.from_array(c, n) for n, c in kept.items()]
    return helper.make_model(
        helper.make_graph([node], "g", [x], [y], weights), opset_imports=[helper.make_opsetid("", opset)], ir_version=8
    )


def floats(*shape: int) -> Floats:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


ints = np.int64


@pytest.mark.parametrize(
    "model",
    [
        graph("Conv", floats(4, 8, 3, 3), floats(4), kernel_shape=[3, 3], pads=[0, 1, 2, 0], strides=[2, 1]),
        graph("MaxPool", kernel_shape=[3, 3], pads=[0, 1, 2, 0], strides=[2, 2]),
        graph("AveragePool", kernel_shape=[3, 3], pads=[0, 1, 2, 0], strides=[2, 2]),
        graph("AveragePool", kernel_shape=[3, 3], pads=[0, 1, 2, 0], count_include_pad=1),
        graph("GlobalMaxPool"),
        graph("Clip", None, np.float32(0.5)),
        graph("Clip"),
        graph("HardSigmoid", alpha=0.3),
        graph("MatMul", floats(20, 6)),
        graph("MatMul", floats(3, 8, 20, 6)),
        graph("Gather", np.array([[-1, 2], [0, 1]], ints), axis=1),
        graph("Gather", np.array(-2, ints), axis=2),
        graph("Slice", *(np.array(n, ints) for n in ([-1, 9], [-(2**63), 2], [1, -1], [-1, -3]))),
        graph("Slice", *(np.array(n, ints) for n in ([2, -30], [2**62, -2], [-1, 1], [3, 2]))),
        graph("Slice", *(np.array(n, ints) for n in ([5], [2], [1]))),
        graph("Slice", *(np.array(n, ints) for n in ([2], [5], [1], [-1]))),
        graph("Split", axis=1, outputs=2),
        graph("Split", opset=18, axis=3, outputs=3, num_outputs=3),
        graph("Flatten", axis=-2),
        graph("Transpose"),
        graph("Reshape", np.array([0, -1, 4], ints)),
        graph("Expand", np.array([2, 1, 1, 1, 20], ints)),
        graph("ReduceMean", opset=18, keepdims=0),
        graph("Softmax", axis=1),
        graph("Pad", np.array([0, 1, 0, 2, 0, 0, 3, 0], ints), np.float32(1.5)),
        graph("Dropout", np.float32(0.3)),
    ],
    ids=lambda m: m.graph.node[0].op_type,
)
def test_forms_that_torch_does_not_export(model: onnx.ModelProto, pixels: Floats) -> None:
    agree(model, pixels)


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("bias", [None, floats(4), floats(3, 4)], ids=["no bias", "a row", "a matrix"])
def test_gemm_in_all_its_forms(turned: int, alpha: float, bias: Floats | None) -> None:
    weights = floats(4, 6) if turned else floats(6, 4)
    agree(graph("Gemm", weights, *([] if bias is None else [bias]), transB=turned, alpha=alpha), floats(3, 6))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (graph("Det"), r"Det 'it': the operator is not known"),
        (graph("Relu", opset=12), "version"),
        (graph("Relu", opset=21), "version"),
        (graph("MaxPool", kernel_shape=[2, 2], auto_pad="SAME_UPPER"), "MaxPool 'it': auto_pad is 'SAME_UPPER'"),
        (graph("MaxPool", kernel_shape=[2, 2], outputs=2), "2 outputs"),
        (graph("MaxPool", kernel_shape=[2, 2], storage_order=1), "storage_order is 1"),
        (graph("MaxPool", kernel_shape=[3, 3], pads=[0, 0, 1, 1], ceil_mode=1), "ceil_mode with pads"),
        (graph("AveragePool", kernel_shape=[2, 2], dilations=[2, 2]), "dilations"),
        (graph("Relu", flavour=1), "Relu 'it': attributes flavour are not known"),
        (graph("Relu", floats(1)), "2 inputs, expected at most 1"),
        (graph("Conv", floats(4, 8, 3, 3), kernel_shape=[5, 5]), r"kernel_shape is \[5, 5\]"),
        (graph("Conv", floats(4, 8, 3, 3).astype(np.float16)), "float16"),
        (graph("Pad", np.zeros(8, ints), mode="wrap"), "mode wrap"),
        (graph("Pad", np.array([0, 1, 0, 0, 0, 0, 0, 0], ints), mode="reflect"), "batch or channels"),
        (graph("Slice", *(np.array([n], ints) for n in (0, 9, 1, 0))), r"steps \[0\]"),
        (graph("LayerNormalization", floats(20), axis=1), "axis 1"),
        (graph("BatchNormalization", *[floats(8)] * 4, training_mode=1), "training_mode is 1"),
        (graph("Cast", to=TensorProto.STRING), "to type"),
        (graph("Reshape", np.array([0, -1], ints), allowzero=1), "allowzero is 1"),
    ],
    ids=lambda v: v.graph.node[0].op_type if isinstance(v, onnx.ModelProto) else None,
)
def test_what_is_not_known_is_refused_by_name(model: onnx.ModelProto, reason: str) -> None:
    with pytest.raises(EngineError, match=reason):
        TorchGraph(model)


def test_weights_that_are_computed_are_refused() -> None:
    model = graph("Conv", floats(4, 8, 3, 3))
    model.graph.node[0].input[1] = "x"
    with pytest.raises(EngineError, match=r"input 1 \(x\) is computed"):
        TorchGraph(model)


def test_a_constant_in_another_file_is_refused(tmp_path: Path, bundle: Bundle) -> None:
    model = graph("Add", floats(8, 16, 20))
    onnx.save(model, tmp_path / "outside.onnx", save_as_external_data=True, size_threshold=0, location="weights")
    with pytest.raises(EngineError, match="c0"):
        TorchGraph(onnx.load(tmp_path / "outside.onnx", load_external_data=False))
    with pytest.raises(BundleError, match="c0 lies in another file"):
        open_engine(replace(bundle, graph_path=tmp_path / "outside.onnx"), "torch")


def test_a_huge_constant_is_refused_before_it_is_made() -> None:
    nodes = [helper.make_node("ConstantOfShape", ["n"], ["big"]), helper.make_node("Add", ["x", "big"], ["y"])]
    model = graph("Relu")
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**20, 2**20], ints), "n"))
    with pytest.raises(EngineError, match="more than"):
        TorchGraph(model)


def test_batch_norm_s_statistics_are_no_parameters_even_where_a_weight_has_the_same_values() -> None:
    ones, zeros = np.ones(8, np.float32), np.zeros(8, np.float32)
    model = graph("BatchNormalization", ones, zeros, zeros, ones)
    model.graph.node[0].input[3:] = ["c1", "c0"]  # as an exporter does that stores equal tensors once
    part = TorchGraph(model).carve("x", "y")
    assert len(list(part.parameters())) == len(list(part.buffers())) == 2
    agree(model, floats(2, 8, 3, 3))
