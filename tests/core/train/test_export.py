"""A trained network becomes a bundle that computes what the network did, and tables that say what it is worth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spinn_stream.bundle import MANIFEST, Bundle, load_bundle
from spinn_stream.codec import CodecSetting, decode_payload, encode_payload
from spinn_stream.errors import BundleError, ConfigError, EngineError
from spinn_stream.runtime import open_engine
from spinn_stream.train.backbone.network import EarlyExitNetwork, attach_exits
from spinn_stream.train.cut.tracing import trace_backbone
from spinn_stream.train.pack.calibrate import calibrate
from spinn_stream.train.pack.calibration import collect_logits, confidences
from spinn_stream.train.pack.evaluation import costs_of, evaluate
from spinn_stream.train.pack.export import export_draft
from spinn_stream.train.pack.tables import settings_of
from spinn_stream.train.pack.thresholds import GRID

from .tiny import CLASSES, SIZE, backbone, images, network
from .zoo import ZOO, build

Exported = tuple[EarlyExitNetwork, Bundle]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    net = network().eval()
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_()  # type: ignore[union-attr]
        norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    out = tmp_path_factory.mktemp("tiny")
    export_draft(net, out, name="tiny", mean=127, scale=1 / 128, labels=list("abc"), provenance={"seed": 1})
    calibrate(out, images(60), say=lambda text: None)
    return net, load_bundle(out)


def test_a_bundle_is_what_was_exported(exported: Exported) -> None:
    _, bundle = exported
    assert [c.name for c in bundle.cut_points] == ["input", "stem", "middle", "final.1", "final"]
    assert [c.shape for c in bundle.cut_points] == [(3, 32, 32), (8, 8, 8), (16, 4, 4), (16,), (3,)]
    stem, middle = 8 * 8 * 8 * 3 * 9, 4 * 4 * 16 * (8 // 2) * 9  # the second in two groups
    assert [c.macs for c in bundle.cut_points] == [
        0, stem, stem + middle, stem + middle, stem + middle + 16 * CLASSES
    ]  # fmt: skip
    assert [(e.name, e.cut) for e in bundle.exits] == [("stem", 1), ("final", 4)]
    assert bundle.labels == ("a", "b", "c")


def test_a_head_costs_what_its_layers_say(exported: Exported) -> None:
    """8x8 pixels of 8 channels, not halved: 8 to 32, 3x3, 32 to 384; then the three classes."""
    net, bundle = exported
    assert bundle.exits[0].macs == net.head_macs[0] == 64 * (8 * 32 + 32 * 32 * 9 + 32 * 384) + 384 * 3


@pytest.mark.parametrize("split", [0, 1, 2, 3])
@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_engines_compute_what_the_network_did_up_to_the_rounding_of_weights(
    exported: Exported, split: int, runtime: str
) -> None:
    net, bundle = exported
    engine = open_engine(bundle, runtime)
    x = np.random.default_rng(1).normal(size=(2, 3, SIZE, SIZE)).astype(np.float32)
    with torch.inference_mode():
        exits, final = net(torch.from_numpy(x))
    found = {}
    for start, stop in bundle.pieces(0, split) + bundle.pieces(split, bundle.last):
        same, none = engine.run(start, stop, x, exit=False)
        x, output = engine.run(start, stop, x)
        assert np.abs(same - x).max() <= 1e-5 and (none is None or stop == bundle.last)
        if output is not None:
            found[stop] = output.logits
    for cut, expected in ((1, exits[0]), (4, final)):
        scale = float(expected.abs().max())
        assert np.abs(found[cut] - expected.numpy()).max() <= 0.005 * max(1.0, scale)  # float16 has 11 bits
    with pytest.raises(EngineError):
        engine.run(2, 2, x)


@pytest.mark.parametrize("text", ["transform:6", "cnn-co:8", "cnn-co:4"])
def test_the_tables_hold_what_a_run_of_each_split_gives(exported: Exported, text: str) -> None:
    _, bundle = exported
    engine, data = open_engine(bundle, "onnxruntime"), images(60)
    rows = {(p.cut, p.codec): p for p in bundle.payloads}
    assert {cut: [codec for c, codec in rows if c == cut] for cut in range(bundle.last)} == {
        cut: [str(setting) for setting in settings_of(bundle, cut)] for cut in range(bundle.last)
    }
    whole = collect_logits(bundle, engine, data.pixels)
    for row in bundle.payloads:
        assert 0 < row.bytes_mean <= row.bytes_p95 * 1.5
        assert row.accuracy.keys() == {e.name for e in bundle.exits if e.cut > row.cut}
    right = float((whole[-1].argmax(1) == data.labels).mean())
    assert rows[0, "png"].accuracy["final"] == pytest.approx(right, abs=1e-4)  # the frame is sent whole
    from spinn_stream.frame import crop, normalise

    setting, sizes, good, coded = CodecSetting.parse(text), [], 0, list[np.ndarray]()
    for pixels, label in zip(data.pixels, data.labels, strict=True):  # by hand, one image at a time
        x, _ = engine.run(0, 2, normalise(crop(pixels[..., ::-1], SIZE), bundle.input))
        payload = encode_payload(bundle, 2, setting, x, pixels)
        sizes.append(len(payload))
        coded.append(engine.run(2, 4, decode_payload(bundle, 2, setting.codec, payload))[0][0].copy())
        good += int(coded[-1].argmax() == label)
    assert rows[2, text].bytes_mean == pytest.approx(np.mean(sizes), abs=0.05)
    assert rows[2, text].accuracy["final"] == pytest.approx(good / 60, abs=1e-4)
    sure = confidences(whole, tuple(e.temperature for e in bundle.exits), data.labels)[0][0]
    assert len(rows[2, text].lost) == len(bundle.thresholds) == len(GRID)
    for threshold, lost in zip(bundle.thresholds, rows[2, text].lost, strict=True):
        least = threshold.needed[0]  # of the stem's exit, which is before the cut
        sent = [least is None or c < least for c in sure]
        before = sum(s and w.argmax() == y for s, w, y in zip(sent, whole[-1], data.labels, strict=True))
        after = sum(s and c.argmax() == y for s, c, y in zip(sent, coded, data.labels, strict=True))
        assert lost == pytest.approx((before - after) / 60, abs=1e-4)


def test_evaluation_plays_the_needs_that_calibration_wrote(exported: Exported) -> None:
    _, bundle = exported
    data = images(60)
    found = evaluate(bundle, open_engine(bundle, "onnxruntime"), data.pixels, data.labels)
    for row, told in zip(bundle.thresholds, found.rows, strict=True):
        assert told.needed == row.needed
    assert found.rows[-1].outcome.accuracy == pytest.approx(bundle.thresholds[-1].accuracy, abs=1e-4)
    assert found.rows[-1].outcome.accuracy == pytest.approx(found.exits[-1].top1)
    costs = costs_of(bundle)
    assert found.exits[0].macs_fraction == pytest.approx(costs.backbone[0] + costs.heads[0])


def test_needs_between_two_rows_are_the_higher_row_s(exported: Exported) -> None:
    _, bundle = exported
    assert bundle.needed(None) == {}
    by_threshold = {r.threshold: r.needed for r in bundle.thresholds}
    for asked, row in ((0.5, 0.5), (0.501, 0.52), (1.0, 1.0)):
        needed = by_threshold[row][0]
        assert bundle.needed(asked) == ({} if needed is None else {1: needed})


def test_labels_must_be_as_many_as_classes_and_the_place_writable(tmp_path: Path) -> None:
    common = {"name": "x", "mean": 0.0, "scale": 1.0, "provenance": {}}
    with pytest.raises(BundleError, match=r"got 2 labels for logits of shape \(3,\)"):
        export_draft(network(), tmp_path, labels=list("ab"), **common)  # type: ignore[arg-type]
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot write the bundle"):
        export_draft(network(), tmp_path / "file" / "x", labels=list("abc"), **common)  # type: ignore[arg-type]


def test_a_draft_runs_and_no_early_exit_of_it_fires(tmp_path: Path) -> None:
    export_draft(network(), tmp_path, name="x", mean=0.0, scale=1.0, labels=list("abc"), provenance={})
    bundle = load_bundle(tmp_path)
    assert bundle.needed(0.0) == bundle.needed(1.0) == {} and bundle.payloads == ()
    assert json.loads((tmp_path / MANIFEST).read_text())["provenance"] == {}


def test_exits_where_there_are_none_are_refused() -> None:
    trace = trace_backbone(backbone(), (3, SIZE, SIZE), keep=["stem", "middle"])
    for places in (["nowhere"], ["final"], ["input"], ["stem", "stem"]):
        with pytest.raises(ConfigError, match="expected different ones of stem, middle"):
            attach_exits(trace, CLASSES, places=places)
    with pytest.raises(ConfigError):
        attach_exits(trace, CLASSES, count=3)


@pytest.mark.parametrize("name", ZOO)
def test_every_kind_of_network_becomes_a_bundle_whose_head_and_tail_are_the_whole(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, side = build(name).eval(), ZOO[name].side
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        whole = module(x).numpy()
    trace = trace_backbone(module, (3, side, side))
    net = attach_exits(trace, whole.shape[1], count=1)
    labels = [str(i) for i in range(whole.shape[1])]
    export_draft(net, tmp_path, name=name, mean=127, scale=1 / 128, labels=labels, provenance={})
    bundle = load_bundle(tmp_path)
    engine = open_engine(bundle, "onnxruntime")
    for split in {1, bundle.last // 2, bundle.last - 1} - {0, bundle.last}:
        head, _ = engine.run(0, split, x.numpy(), exit=False)
        found, _ = engine.run(split, bundle.last, head)
        scale = np.abs(whole).max()
        np.testing.assert_allclose(found / scale, whole / scale, atol=5e-3)  # weights are rounded to float16
