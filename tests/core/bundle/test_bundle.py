"""Bundles: what is read, and what is refused with a reason."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from spinn_stream.bundle import CODEC, DEFAULT_BUNDLE, GRAPH, MANIFEST, Bundle, load_bundle
from spinn_stream.errors import BundleError, ConfigError, EngineError
from spinn_stream.runtime import open_engine

from ...bundles import LITE2_200


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(LITE2_200, tmp_path / "bundle"))


def change(folder: Path, how: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    how(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_the_default_bundle_is_small_and_has_early_exits_and_the_classes_of_imagenet() -> None:
    bundle = load_bundle()
    assert len(bundle.exits) >= 3 and bundle.exits[-1].cut == bundle.last
    assert len(bundle.labels) == 1000 and len(bundle.payloads) > 100
    assert sum(f.stat().st_size for f in DEFAULT_BUNDLE.iterdir()) <= 24_000_000
    assert {f.name for f in DEFAULT_BUNDLE.iterdir()} == {MANIFEST, GRAPH, CODEC, "training.jsonl"}


def test_shapes_and_costs_grow_as_arithmetic_says(bundle: Bundle) -> None:
    names = [c.name for c in bundle.cut_points]
    assert bundle.cut_points[0].shape == (3, 128, 128)
    # stem: 3x3 convolution of stride 2, 3 -> 32 channels
    stem = bundle.cut_points[1]
    assert stem.shape == (32, 64, 64) and stem.macs == 64 * 64 * 32 * 3 * 9
    # block0: 3x3 per channel on 32 channels, then 1x1 to 16
    assert bundle.cut_points[2].macs - stem.macs == 64 * 64 * 32 * 9 + 64 * 64 * 32 * 16
    # final: 1x1 convolution 352 -> 1280 on 4x4, then 1280 -> 200
    last = bundle.cut_points[names.index("final")].macs - bundle.cut_points[names.index("block20")].macs
    assert last == 4 * 4 * 352 * 1280 + 1280 * 200


def test_the_way_is_broken_after_every_exit(bundle: Bundle) -> None:
    cuts = [e.cut for e in bundle.exits]
    assert bundle.pieces(0, bundle.last) == list(zip([0, *cuts[:-1]], cuts, strict=True))
    assert bundle.pieces(cuts[0], cuts[0]) == []
    assert bundle.pieces(cuts[0], cuts[0] + 1) == [(cuts[0], cuts[0] + 1)]
    with pytest.raises(ConfigError):
        bundle.pieces(5, 4)


def test_splits_have_names_and_numbers(bundle: Bundle) -> None:
    assert bundle.split_index("0") == bundle.split_index("input") == 0
    assert bundle.split_index(str(bundle.last)) == bundle.split_index("final") == bundle.last
    for wrong in (str(bundle.last + 1), "-1", "nowhere", "", "1.5"):
        with pytest.raises(ConfigError, match=f"expected 0 to {bundle.last} or one of input"):
            bundle.split_index(wrong)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is not a bundle: manifest\.json"):
        load_bundle(tmp_path / "nowhere")


def test_another_graph_than_the_manifest_names_is_refused(copy: Path) -> None:
    data = bytearray((copy / GRAPH).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / GRAPH).write_bytes(data)
    with pytest.raises(BundleError, match="SHA-256"):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda m: m.update(version=1), "reads version 2"),
        (lambda m: m.update(format="zip"), "format is not"),
        (lambda m: m.pop("exits"), "exits"),
        (lambda m: m["exits"].pop(), "last at the last cut point"),
        (lambda m: m["exits"][0].update(cut="nowhere"), "nowhere"),
        (lambda m: m["exits"][0].update(temperature=0), "expected a number"),
        (lambda m: m["exits"][0].update(temperature=True), "expected a number"),
        (lambda m: m["cut_points"][3].update(shape=[10**9, 10**9]), "expected a whole number"),
        (lambda m: m["cut_points"][3].update(shape=[10**4, 10**4]), "elements"),
        (lambda m: m["cut_points"][3].update(name="stem"), "different names"),
        (lambda m: m["labels"].pop(), "have shapes"),
        (lambda m: m["input"].update(size="big"), "expected a whole number"),
        (lambda m: m.update(default_threshold=float("nan")), "expected a number"),
        (lambda m: m.pop("thresholds"), "thresholds"),
        (lambda m: m.update(thresholds=[]), "one row or more"),
        (lambda m: m["thresholds"].reverse(), "rising"),
        (lambda m: m["thresholds"][3]["needed"].pop(), "needs"),
        (lambda m: m["thresholds"][3]["needed"].__setitem__(0, "high"), "expected a number"),
        (lambda m: m.update(payloads=[{}] * 20_000), "at most 10000 rows"),
        (lambda m: m["payloads"][0].update(cut="nowhere"), "nowhere"),
        (lambda m: m["payloads"][0].update(accuracy={"nowhere": 1.0}), "which are not there"),
        (lambda m: m["payloads"][0].update(lost=[0.1]), "1 losses for 51 thresholds"),
        (lambda m: m["payloads"][0].update(lost=["much"] * 51), "expected a number"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(copy: Path, how: Callable[[dict[str, Any]], None], said: str) -> None:
    change(copy, how)
    with pytest.raises(BundleError, match=said):
        load_bundle(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"spinn-bundle"'])
def test_a_manifest_that_is_no_manifest_is_refused(copy: Path, text: str) -> None:
    (copy / MANIFEST).write_text(text)
    with pytest.raises(BundleError):
        load_bundle(copy)


def put_graph(folder: Path, data: bytes) -> None:
    (folder / GRAPH).write_bytes(data)
    change(folder, lambda m: m.update(graph_sha256=hashlib.sha256(data).hexdigest()))


def test_a_graph_that_is_none_is_refused(copy: Path) -> None:
    put_graph(copy, b"not a graph")
    with pytest.raises(BundleError, match="not an ONNX graph"):
        open_engine(load_bundle(copy), "onnxruntime")


def test_weights_in_other_files_are_refused(copy: Path) -> None:
    model = onnx.load(str(copy / GRAPH))
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../etc/passwd")
    put_graph(copy, model.SerializeToString())
    with pytest.raises(BundleError, match="lies in another file"):
        open_engine(load_bundle(copy), "onnxruntime")


def test_operators_beyond_standard_onnx_are_refused(copy: Path) -> None:
    model = onnx.load(str(copy / GRAPH))
    model.graph.node[-1].domain = "com.example"
    put_graph(copy, model.SerializeToString())
    with pytest.raises(BundleError, match=r"com\.example"):
        open_engine(load_bundle(copy), "onnxruntime")


def test_a_cut_point_that_the_graph_lacks_is_an_engine_error(copy: Path) -> None:
    change(copy, lambda m: (m["cut_points"][4].update(name="elsewhere"), m.update(payloads=[])))
    renamed = load_bundle(copy)
    with pytest.raises(EngineError, match="cannot build cut points 4 to"):
        open_engine(renamed, "onnxruntime").prepare(*renamed.pieces(4, renamed.last)[0])


def test_an_unknown_runtime_is_named(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="expected one of auto, onnxruntime"):
        open_engine(bundle, "tensorrt")


def test_a_bundle_that_is_built_in_is_known_by_its_name() -> None:
    bundle = load_bundle(Path("lite-1000"))
    assert bundle.name == "lite-1000" and len(bundle.labels) == 1000
