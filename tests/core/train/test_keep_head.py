"""Exits that learn from a final exit that is trained already, from images without labels."""

from __future__ import annotations

import functools
import json
import tempfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spinn_stream.bundle import load_bundle
from spinn_stream.errors import ConfigError
from spinn_stream.runtime import open_engine
from spinn_stream.train.adoption import own_classifier
from spinn_stream.train.backbone.exit_head import ExitHead
from spinn_stream.train.backbone.network import attach_exits
from spinn_stream.train.cut.tracing import trace_backbone
from spinn_stream.train.data.datasets import Dataset
from spinn_stream.train.data.images import LabelledImages, blend
from spinn_stream.train.generator import Recipe, generate, prepare, without_folder
from spinn_stream.train.pack.evaluation import evaluate
from spinn_stream.train.training import ALL, TrainingConfig, joint_loss, train

from .tiny import CLASSES, CONFIG, SCALING, SIZE, backbone, ignore, images, network

KEEP = replace(CONFIG, keep_head=True, freeze=ALL)


def unlabelled(count: int = 90) -> LabelledImages:
    data = images(count)
    return LabelledImages(data.pixels, np.zeros(count, np.int64))


@functools.cache
def weights() -> list[torch.Tensor]:
    """Of the tiny backbone, trained a little."""
    net = network()
    with tempfile.TemporaryDirectory() as folder:
        train(net, images(), CONFIG, SCALING, checkpoint=Path(folder) / "teacher.pt", report=ignore)
    return [t for k, t in net.state_dict().items() if k.startswith("stages.")]


def pretrained(num_classes: int) -> nn.Module:
    """A user's backbone that comes with weights."""
    module = backbone()
    module.load_state_dict(dict(zip(module.state_dict(), weights(), strict=True)))
    return module


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        backbone=f"{__name__}:pretrained", name="kept", image_size=SIZE, exits=None, exit_at=("stem",), held_out=20,
        pretrained=True, training=replace(KEEP, epochs=12, blended=0.25),
    )  # fmt: skip


def test_the_head_that_is_kept_is_the_only_teacher() -> None:
    final, early = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    losses = [joint_loss([early], final, torch.tensor([label]), KEEP, progress=1.0) for label in (0, 1)]
    assert losses[0] == losses[1]
    hard = replace(KEEP, distillation=0.0, label_smoothing=0.0, exit_weight_end=1.0)
    assert float(joint_loss([early], final, torch.tensor([1]), hard, progress=1.0)) == pytest.approx(np.log(2))


def test_a_head_is_kept_with_the_whole_backbone_frozen() -> None:
    with pytest.raises(ValueError, match="got a head to keep with stem frozen, expected backbone frozen"):
        TrainingConfig(keep_head=True, freeze="stem")


class Residual(nn.Module):
    """Adds to what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU6())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.body(x)
        return x + y


def residual() -> nn.Sequential:
    """The tiny backbone with a stage that can be left out, and batch norm that has seen something."""
    stages = OrderedDict(backbone().named_children())
    rows = [("stem", stages["stem"]), ("added", Residual()), ("middle", stages["middle"]), ("final", stages["final"])]
    module = nn.Sequential(OrderedDict(rows))
    with torch.no_grad():
        module.train()(torch.randn(8, 3, SIZE, SIZE))
    return module.eval()


def test_an_exit_is_the_rest_of_the_backbone_without_what_can_be_left_out() -> None:
    module = residual()
    trace = trace_backbone(module, (3, SIZE, SIZE), keep=["stem", "added", "middle"])
    net = attach_exits(trace, CLASSES, places=["stem", "added", "middle"], keep_head=True).eval()
    assert [type(head) for head in net.heads] == [nn.Sequential, ExitHead, ExitHead]  # nothing to leave out behind
    assert net.heads[0] is not None and not any(isinstance(m, nn.BatchNorm2d) for m in net.heads[0].modules())
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        (early, *_), final = net(x)
        assert torch.allclose(early, module.final(module.middle(module.stem(x))), atol=1e-5)
        assert torch.allclose(final, module(x), atol=1e-5)
    ours, theirs = ({p.data_ptr() for p in m.parameters()} for m in (net.heads[0], net.stages))
    assert not ours & theirs and all(p.requires_grad for p in net.heads[0].parameters())


def test_the_head_that_is_kept_is_the_linear_layer_of_as_many_classes() -> None:
    assert own_classifier(backbone(), CLASSES).out_features == CLASSES
    with pytest.raises(ConfigError, match="linear layer of 5 outputs with a bias; this backbone has one of 3 outputs"):
        own_classifier(backbone(), 5)


def test_blends_lie_between_two_images_of_the_batch() -> None:
    dark_and_bright = torch.cat([torch.zeros(50, 3, 4, 4), torch.full((50, 3, 4, 4), 100.0)])
    mixed = blend(dark_and_bright, 0.5, torch.Generator().manual_seed(1))
    changed = (mixed != dark_and_bright).flatten(1).any(1)
    assert 10 < int(changed.sum()) < 40  # half of them, of which half have a partner of the other kind
    assert float(mixed.min()) >= 0 and float(mixed.max()) <= 100
    assert torch.equal(blend(dark_and_bright, 0.0, torch.Generator()), dark_and_bright)
    with pytest.raises(ValueError, match=r"got blended 0.5, expected 0 to 1, and 0 if labels teach"):
        TrainingConfig(blended=0.5)


@pytest.mark.slow
def test_exits_learn_to_say_what_the_final_exit_says_and_it_stays_as_it_was(recipe: Recipe, tmp_path: Path) -> None:
    prepared = prepare(recipe, CLASSES)
    before = {name: t.clone() for name, t in prepared.network.stages.state_dict().items()}
    data = Dataset(unlabelled(), ("red", "green", "blue"), (), 0)
    bundle = generate(
        recipe, prepared, data, out=tmp_path / "out", work=tmp_path / "work", device="cpu", report=ignore,
        say=lambda _: None, arguments=["train", "--data", "/some/where/pool.parquet", "--out=here/kept/"],
    )  # fmt: skip
    assert all(torch.equal(t, before[name]) for name, t in prepared.network.stages.state_dict().items())
    found = evaluate(bundle, open_engine(bundle, "onnxruntime", threads=1), images().pixels, None)
    assert found.exits[0].agreement > 0.9 and found.exits[-1].agreement == 1.0
    assert bundle.exits[-1].temperature == 1.0
    provenance = json.loads((tmp_path / "out" / "manifest.json").read_text())["provenance"]
    assert provenance["command"] == "spinn train --data pool.parquet --out=kept"


def test_temperatures_come_from_labelled_images_if_there_are_some(recipe: Recipe, tmp_path: Path) -> None:
    data = Dataset(unlabelled(), ("red", "green", "blue"), (), 0)
    short = replace(recipe, training=replace(recipe.training, epochs=1))
    bundle = generate(
        short, prepare(short, CLASSES), data, out=tmp_path / "out", work=tmp_path / "work", device="cpu",
        report=ignore, say=lambda _: None, calibrate_on=images(40),
    )  # fmt: skip
    assert bundle.exits[-1].temperature != 1.0
    tables = json.loads((tmp_path / "out" / "manifest.json").read_text())["provenance"]["tables"]
    assert tables == {"thresholds_on": 40, "payloads_on": 40}


def test_a_backbone_without_weights_has_no_head_to_keep(recipe: Recipe) -> None:
    for wrong in (replace(recipe, backbone="mobilenet-v2", exit_at=None), replace(recipe, pretrained=False)):
        with pytest.raises(ConfigError, match=r"--keep-head with .* and no weights; expected a backbone that comes"):
            prepare(wrong, CLASSES)


@pytest.mark.slow
def test_without_labels_a_bundle_is_scored_by_agreement_alone(recipe: Recipe, tmp_path: Path) -> None:
    data = Dataset(unlabelled(), ("red", "green", "blue"), (), 0)
    generate(
        recipe, prepare(recipe, CLASSES), data, out=tmp_path / "out", work=tmp_path / "work", device="cpu",
        report=ignore, say=lambda _: None,
    )  # fmt: skip
    bundle = load_bundle(tmp_path / "out")
    engine = open_engine(bundle, "onnxruntime", threads=1)
    found = evaluate(bundle, engine, images().pixels, None).as_json()
    assert found.keys() == {"images", "exits", "thresholds"}
    assert [row.keys() for row in found["exits"]] == [{"name", "macs_fraction", "agreement"}] * 2
    assert found["thresholds"][-1]["agreement"] == 1.0
    scored = evaluate(bundle, engine, images().pixels, images().labels).as_json()
    assert scored["exits"][0]["agreement"] == found["exits"][0]["agreement"] and "ece" in scored["exits"][0]


def test_a_path_becomes_the_name_of_its_file() -> None:
    given = ["--data=/a/b.parquet", "bundle:a/b", "c/d/", "0.5", "96:0.6,128:1", "timm:resnet18"]
    assert [without_folder(a) for a in given] == [
        "--data=b.parquet", "bundle:b", "d", "0.5", "96:0.6,128:1", "timm:resnet18"
    ]  # fmt: skip
