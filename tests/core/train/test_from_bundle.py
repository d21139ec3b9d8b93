"""Training that begins from a bundle: the same network, the same graph, other weights."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from spinn_stream.bundle import DEFAULT_BUNDLE, GRAPH, MANIFEST, Bundle, load_bundle
from spinn_stream.errors import BundleError, ConfigError, DataError
from spinn_stream.runtime import open_engine
from spinn_stream.train.backbone.from_bundle import BundleNetwork, differing_labels, notes_of, source_bundle
from spinn_stream.train.backbone.network import EarlyExitNetwork, attach_exits
from spinn_stream.train.cut.tracing import PrunedCut, trace_backbone
from spinn_stream.train.data.datasets import Dataset
from spinn_stream.train.data.images import resize
from spinn_stream.train.generator import Recipe, generate, prepare
from spinn_stream.train.pack.export import export_draft, write_manifest
from spinn_stream.train.training import ALL, TrainingConfig, new_classifier, train

from . import zoo
from .tiny import CLASSES, CONFIG, SCALING, SIZE, ignore, images, network

SOON = replace(CONFIG, lr_heads=2e-3)  # heads without batch norm bear less
SHORT = replace(SOON, epochs=0.7)  # six steps of ten images
STILL = replace(SHORT, lr_backbone=0.0, lr_heads=0.0)
PRUNED = PrunedCut("stem.0", (8, 8, 8), 110592, "stem is better")


def write(net: EarlyExitNetwork, folder: Path, labels: str = "abc") -> Bundle:
    export_draft(
        net, folder, name="tiny", mean=SCALING.mean, scale=SCALING.scale, labels=list(labels), pruned=[PRUNED],
        uncounted=["operator aten.x at stem"], provenance={"seed": 7},
    )  # fmt: skip
    return load_bundle(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    net = network(exits=("stem", "middle"))
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_()  # type: ignore[union-attr]
        norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return write(net, tmp_path_factory.mktemp("source"))


def recipe(source: Bundle, training: TrainingConfig = STILL, **other: Any) -> Recipe:
    values: dict[str, Any] = {
        "backbone": f"bundle:{source.graph_path.parent}", "name": "next", "image_size": SIZE, "exits": None,
        "exit_at": None, "held_out": 30, "pretrained": True, "training": training,
    }  # fmt: skip
    return Recipe(**values | other)


def assert_same(one: Bundle, two: Bundle) -> None:
    """The same numbers at every cut point and exit, from the same operators."""
    assert one.cut_points == two.cut_points
    assert [(e.name, e.macs) for e in one.exits] == [(e.name, e.macs) for e in two.exits]
    operators = [Counter(n.op_type for n in onnx.load(str(b.graph_path)).graph.node) for b in (one, two)]
    assert operators[0] == operators[1]
    engines = [open_engine(b, "onnxruntime") for b in (one, two)]
    x = np.random.default_rng(1).normal(size=(3, *one.cut_points[0].shape)).astype(np.float32)
    for cut in range(one.last):
        (a, a_exit), (b, b_exit) = (engine.run(cut, cut + 1, x) for engine in engines)
        assert np.abs(a - b).max() <= 1e-5 * max(1.0, np.abs(a).max())
        if a_exit is not None and b_exit is not None:
            assert np.abs(a_exit.logits - b_exit.logits).max() <= 1e-5 * max(1.0, np.abs(a_exit.logits).max())
        x = a


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_what_is_trained_at_a_rate_of_zero_is_the_same_bundle(source: Bundle, tmp_path: Path) -> None:
    said: list[str] = []
    data = Dataset(images(), ("a", "c", "b"), (), 0)
    asked = recipe(source)
    found = generate(
        asked, prepare(asked, CLASSES), data, out=tmp_path / "out", work=tmp_path / "work", device="cpu",
        report=ignore, say=said.append, arguments=["train"],
    )  # fmt: skip
    assert_same(source, found)
    assert found.input == source.input and found.labels == ("a", "c", "b") and found.name == "next"
    assert said[0] == "starting from the weights of bundle tiny"
    assert said[1] == "2 of 3 classes get new names, the same ones in another order: 'c' for what was 'b', and so on"
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest["provenance"]["started_from"] == {
        "bundle": "tiny", "hash": source.hash, "provenance": {"seed": 7}
    }  # fmt: skip
    notes = notes_of(found)
    assert notes.pruned == (PRUNED,) and notes.uncounted == ("operator aten.x at stem",)
    with pytest.raises(ConfigError, match="is the bundle that this training begins from"):
        generate(
            asked, prepare(asked, CLASSES), data, out=source.graph_path.parent, work=tmp_path / "w", device="cpu",
            report=ignore, say=said.append,
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["shufflenet", "convnext", "densenet"])
def test_a_graph_stays_as_it_is_for_any_batch(kind: str, tmp_path: Path) -> None:
    """Sizes read from the batch, matrix products with turned weights, batch norm that could not be folded."""
    side = zoo.ZOO[kind].side
    trace = trace_backbone(zoo.build(kind), (3, side, side))
    first = write(attach_exits(trace, zoo.CLASSES, count=1), tmp_path / "1", "abcdefghij")
    net = BundleNetwork(first)
    assert EarlyExitNetwork.head_macs.fget(net) == net.head_macs  # type: ignore[attr-defined]
    second = write(net, tmp_path / "2", "abcdefghij")
    assert_same(first, second)
    assert_same(second, write(BundleNetwork(second), tmp_path / "3", "abcdefghij"))


def test_weights_that_were_trained_are_in_the_next_bundle(source: Bundle, tmp_path: Path) -> None:
    net, data, losses = BundleNetwork(source), images(), []
    train(
        net, data, replace(SOON, epochs=8), SCALING, checkpoint=tmp_path / "c.pt",
        report=lambda p: losses.append(p.loss), report_every=1,
    )  # fmt: skip
    assert losses[-1] < 0.6 * losses[0]
    engine = open_engine(write(net, tmp_path / "out"), "onnxruntime")
    x = (resize(torch.from_numpy(data.pixels), SIZE) - SCALING.mean) * SCALING.scale
    net.eval()
    with torch.inference_mode():
        exits, final = net(x)
    assert float((final.argmax(1).numpy() == data.labels).mean()) > 0.9
    first, output = engine.run(0, 1, x.numpy())
    assert (
        output is not None and np.abs(output.logits - exits[0].numpy()).max() < 0.05
    )  # weights are rounded to float16
    assert np.abs(engine.run(1, 4, first)[0] - final.numpy()).max() < 0.05


def test_it_resumes_to_the_same_numbers_and_only_from_the_same_bundle(source: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "parts.pt"
    whole, parts, resumed = (BundleNetwork(source) for _ in range(3))
    train(whole, images(), SHORT, SCALING, checkpoint=tmp_path / "whole.pt", report=ignore)
    train(parts, images(), SHORT, SCALING, checkpoint=path, report=ignore, stop_after=3)
    train(resumed, images(), SHORT, SCALING, checkpoint=path, report=ignore)
    assert same(whole, resumed) and not same(parts, resumed)
    other = BundleNetwork(write(whole, tmp_path / "other"))
    with pytest.raises(ConfigError, match=r"was made with .* --work"):
        train(other, images(), SHORT, SCALING, checkpoint=path, report=ignore)


def test_the_final_classifier_is_a_layer_of_the_backbone_like_the_others(source: Bundle, tmp_path: Path) -> None:
    net, before = BundleNetwork(source), BundleNetwork(source)
    assert new_classifier(net) is None
    exits_alone = replace(SHORT, freeze=ALL)
    train(net, images(), exits_alone, SCALING, checkpoint=tmp_path / "1.pt", report=ignore)
    assert same(net.stages, before.stages)
    assert not any(same(new, old) for new, old in zip(net.heads, before.heads, strict=True))
    net = BundleNetwork(source)
    backbone_alone = replace(SHORT, lr_heads=0.0)
    train(net, images(), backbone_alone, SCALING, checkpoint=tmp_path / "2.pt", report=ignore)
    assert same(net.heads, before.heads) and not same(net.stages[-1], before.stages[-1])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"exits": 2}, r"^--exits with --backbone bundle:.*, which brings its exits and weights"),
        ({"exit_at": ("stem",), "exits": 1}, "^--exits, --exit-at with"),
        ({"start": "checkpoint.pt", "pretrained": False}, "^--start with"),
        ({"pretrained": False}, "^--no-pretrained with"),
        ({"image_size": 64}, "--image-size is 64, bundle tiny takes 32 pixels"),
    ],
)
def test_options_that_the_bundle_answers_are_refused(source: Bundle, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        prepare(recipe(source, **options), CLASSES)


def test_a_source_that_does_not_fit_is_refused(source: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got images of 5 classes, expected the 3 of bundle tiny"):
        prepare(recipe(source), 5)
    with pytest.raises(BundleError, match=r"nowhere is not a bundle: manifest.json"):
        prepare(replace(recipe(source), backbone=f"bundle:{tmp_path / 'nowhere'}"), CLASSES)
    manifest = json.loads((source.graph_path.parent / MANIFEST).read_text())
    (tmp_path / GRAPH).write_bytes(source.graph_path.read_bytes())
    write_manifest(tmp_path, manifest | {"pruned": [{"name": "stem.0"}]})
    with pytest.raises(BundleError, match=r"manifest.json: KeyError: 'shape'"):
        prepare(replace(recipe(source), backbone=f"bundle:{tmp_path}"), CLASSES)
    model = onnx.load(str(source.graph_path))
    (last,) = (node for node in model.graph.node if "final" in node.output)
    last.output[0] = "before"
    model.graph.node.append(helper.make_node("Det", ["before"], ["final"], name="it"))
    (tmp_path / GRAPH).write_bytes(model.SerializeToString())
    unknown = replace(load_bundle(source.graph_path.parent), graph_path=tmp_path / GRAPH)
    with pytest.raises(ConfigError, match=r"bundle tiny cannot be trained on: .*Det 'it': .* not known here$"):
        BundleNetwork(unknown)


def test_a_weight_that_two_uses_would_pull_apart_is_refused(source: Bundle, tmp_path: Path) -> None:
    """A square weight that is multiplied with upright and turned, as no training leaves two of them alike."""
    model = onnx.load(str(source.graph_path))
    (last,) = (node for node in model.graph.node if "final" in node.output)
    last.output[0] = "before"
    square = onnx.numpy_helper.from_array(np.ones((CLASSES, CLASSES), np.float32), "square")
    model.graph.initializer.append(square)
    model.graph.node.append(helper.make_node("Gemm", ["before", "square"], ["between"], name="upright", transB=1))
    model.graph.node.append(helper.make_node("MatMul", ["between", "square"], ["final"], name="turned"))
    (tmp_path / GRAPH).write_bytes(model.SerializeToString())
    with pytest.raises(ConfigError, match="cannot be trained on: constant square is stored once for two weights"):
        BundleNetwork(replace(source, graph_path=tmp_path / GRAPH))


def test_image_sizes_that_the_graph_has_no_room_for_are_told_before_training(source: Bundle, tmp_path: Path) -> None:
    trace = trace_backbone(zoo.build("tutorial"), (3, 32, 32))
    fixed = BundleNetwork(write(attach_exits(trace, zoo.CLASSES, count=1), tmp_path, "abcdefghij"))
    fixed.check_sizes([32])
    with pytest.raises(ConfigError, match=r"does not run on images of 48 pixels; expected --train-sizes of 32 alone"):
        fixed.check_sizes([32, 48])
    BundleNetwork(source).check_sizes([32, 48])


def test_the_names_of_a_backbone_that_mean_bundles(source: Bundle) -> None:
    built_in = source_bundle("bundle:default")
    assert built_in is not None and built_in.graph_path.parent == DEFAULT_BUNDLE
    again = source_bundle(f"bundle:{source.graph_path.parent}")
    assert again is not None and again.hash == source.hash
    assert source_bundle("resnet18") is None
    assert differing_labels(source, ("a", "b", "c")) is None
    assert differing_labels(source, ("a", "b", "z")) == "1 of 3 classes get new names: 'z' for what was 'c'"


def test_the_command_line_takes_size_and_exits_from_the_bundle(
    source: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from spinn_stream.cli.train import train as command

    monkeypatch.setattr("spinn_stream.train.training.keep_freed_memory", lambda: None)
    for i, (pixels, label) in enumerate(zip(images(12).pixels, images(12).labels, strict=True)):
        (tmp_path / "data" / "abc"[label]).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "data" / "abc"[label] / f"{i}.png"), pixels[..., ::-1])
    options: dict[str, Any] = {
        "backbone": f"bundle:{source.graph_path.parent}", "data": [tmp_path / "data"], "out": tmp_path / "out",
        "epochs": 1, "batch_size": 3, "held_out": 3, "lr": 0.0, "lr_heads": 0.0, "threads": 1,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="--image-size is 64"):
        command(**options, image_size=64)
    command(**options)
    said = capsys.readouterr().err
    assert "exits at stem" in said and "(1 pruned)" in said and "not counted: operator aten.x at stem" in said
    assert "new names" not in said
    found = load_bundle(tmp_path / "out")
    assert_same(source, found)
    training = json.loads((tmp_path / "out" / MANIFEST).read_text())["provenance"]["recipe"]["training"]
    assert training["image_sizes"] == [[1.0, SIZE]] and training["exit_weight_start"] == training["exit_weight_end"]
