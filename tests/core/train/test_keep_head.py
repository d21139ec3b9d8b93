"""Exits that learn from a final exit that is trained already, from images without labels."""

from __future__ import annotations

import json
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
from spinn_stream.train.data.datasets import Dataset
from spinn_stream.train.data.images import LabelledImages
from spinn_stream.train.generator import Recipe, generate, prepare, without_folder
from spinn_stream.train.pack.evaluation import evaluate
from spinn_stream.train.training import ALL, TrainingConfig, joint_loss, train

from .tiny import CLASSES, CONFIG, SCALING, SIZE, backbone, ignore, images, network

KEEP = replace(CONFIG, keep_head=True, freeze=ALL)


def unlabelled(count: int = 90) -> LabelledImages:
    data = images(count)
    return LabelledImages(data.pixels, np.zeros(count, np.int64))


def pretrained(num_classes: int) -> nn.Module:
    """A user's backbone that comes with weights: the tiny one, trained a little."""
    net = network()
    train(net, images(), CONFIG, SCALING, checkpoint=Path(_scratch) / "teacher.pt", report=ignore)
    module = backbone()
    weights = iter([t for k, t in net.state_dict().items() if k.startswith("stages.")])
    module.load_state_dict({k: next(weights) for k in module.state_dict()})
    return module


_scratch = ""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setitem(globals(), "_scratch", str(tmp_path))
    return Recipe(
        backbone=f"{__name__}:pretrained", name="kept", image_size=SIZE, exits=None, exit_at=("stem",), held_out=20,
        pretrained=True, training=replace(KEEP, epochs=12),
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


def test_exits_begin_with_the_classifier_that_is_kept(recipe: Recipe) -> None:
    net = prepare(recipe, CLASSES).network
    own = own_classifier(net.stages[-1], CLASSES)
    assert torch.equal(net.heads[0].classifier.weight[:, :, 0, 0], own.weight)
    assert torch.equal(net.heads[0].classifier.bias, own.bias)
    with pytest.raises(ConfigError, match="linear layer of 5 outputs with a bias; this backbone has one of 3 outputs"):
        own_classifier(net.stages[-1], 5)


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
    bundle = generate(
        recipe, prepare(recipe, CLASSES), data, out=tmp_path / "out", work=tmp_path / "work", device="cpu",
        report=ignore, say=lambda _: None, calibrate_on=images(40),
    )  # fmt: skip
    assert bundle.exits[-1].temperature != 1.0
    tables = json.loads((tmp_path / "out" / "manifest.json").read_text())["provenance"]["tables"]
    assert tables == {"thresholds_on": 40, "payloads_on": 40}


def test_a_backbone_without_weights_has_no_head_to_keep(recipe: Recipe) -> None:
    for wrong in (replace(recipe, backbone="mobilenet-v2", exit_at=None), replace(recipe, pretrained=False)):
        with pytest.raises(ConfigError, match=r"--keep-head with .* and no weights; expected a backbone that comes"):
            prepare(wrong, CLASSES)


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
