"""Bases are fitted to what the network makes of them, and a bundle is calibrated without touching its weights."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from spinn_stream.bundle import CODEC, GRAPH, MANIFEST, Bundle, load_bundle
from spinn_stream.codec import transform
from spinn_stream.codec.basis import Basis, basis_of
from spinn_stream.runtime import Engine, open_engine
from spinn_stream.train.pack.calibration import batches
from spinn_stream.train.pack.codec_fit import TARGET_BITS, TARGET_NATS, fit_bases
from spinn_stream.train.pack.export import export_draft, write_bases

from ...processes import said, spinn
from .tiny import CLASSES, SIZE, images, network

Floats = np.ndarray


def export(folder: Path) -> Bundle:
    """The tiny network without early exits, whose statistics differ from channel to channel."""
    net = network(exits=()).eval()
    torch.manual_seed(3)
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_()  # type: ignore[union-attr]
        norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    export_draft(net, folder, name="tiny", mean=127, scale=1 / 128, labels=list("abc"), provenance={"seed": 1})
    return load_bundle(folder)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    return open_engine(bundle, "onnxruntime")


@pytest.fixture(scope="module")
def fitted(bundle: Bundle, engine: Engine) -> dict[int, Basis]:
    told: list[tuple[int, int]] = []
    bases = fit_bases(bundle, engine, images(60).pixels, lambda done, total: told.append((done, total)))
    assert told == [(cut, 3) for cut in (1, 2, 3)]
    return bases


def at(engine: Engine, bundle: Bundle, cut: int) -> Floats:
    """(N, C, H, W): activations of the images that the bases were fitted to."""
    inputs = np.concatenate(list(batches(bundle, images(60).pixels)))
    return engine.run(0, cut, inputs, exit=False)[0].copy()


def test_every_cut_point_that_activations_are_sent_from_has_a_basis(bundle: Bundle, fitted: dict[int, Basis]) -> None:
    assert {cut: basis.shape for cut, basis in fitted.items()} == {1: (8, 8, 8), 2: (16, 4, 4), 3: (16, 1, 1)}
    assert [basis.forward.shape for basis in fitted.values()] == [(8, 8), (16, 16), (16, 16)]


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_basis_can_be_turned_back(bundle: Bundle, engine: Engine, fitted: dict[int, Basis], cut: int) -> None:
    """The grid's own rounding is half a unit in each component; the rest is float32's."""
    basis = fitted[cut]
    for x in at(engine, bundle, cut)[:10]:
        z = basis.to_grid(x)
        assert np.abs(basis.backward @ z + basis.mean[:, None] - x.reshape(len(basis.mean), -1)).max() <= 1e-4
        back = basis.from_grid(np.rint(z).astype(np.int16))
        assert np.abs(basis.to_grid(back) - np.rint(z)).max() <= 0.01 * max(1.0, np.abs(z).max() / 1000)


@pytest.mark.parametrize("cut", [1, 2])
def test_components_are_uncorrelated_and_the_strongest_come_first(
    bundle: Bundle, engine: Engine, fitted: dict[int, Basis], cut: int
) -> None:
    z = np.concatenate([fitted[cut].to_grid(x) for x in at(engine, bundle, cut)], axis=1)
    covariance = np.cov(z)
    energy = np.diag(covariance)
    strong = energy > 1e-3 * energy.max()
    loose = covariance[np.ix_(strong, strong)] / np.sqrt(np.outer(energy[strong], energy[strong]))
    assert np.abs(loose - np.eye(len(loose))).max() <= 0.05  # matrices are kept in half precision
    assert (np.diff(fitted[cut].component) <= 0).all()
    assert (energy[strong][:-1] * 1.1 >= energy[strong][1:]).all()


def log_softmax(logits: Floats) -> Floats:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def divergence(bundle: Bundle, engine: Engine, cut: int, basis: Basis, bits: int) -> float:
    """Kullback-Leibler divergence of the coded network's answers from its own, by the definition, in nats."""
    x = at(engine, bundle, cut)
    coded = np.stack([basis.from_grid(transform.encode_key(basis, bits, one)[1]).reshape(one.shape) for one in x])
    own, other = (log_softmax(engine.run(cut, bundle.last, y, exit=False)[0].copy()) for y in (x, coded))
    return float((np.exp(own) * (own - other)).sum(axis=1).mean())


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_the_unit_is_as_coarse_as_the_answers_allow(
    bundle: Bundle, engine: Engine, fitted: dict[int, Basis], cut: int
) -> None:
    assert divergence(bundle, engine, cut, fitted[cut], TARGET_BITS) <= TARGET_NATS
    coarser = divergence(bundle, engine, cut, fitted[cut], TARGET_BITS - 2)
    assert coarser > divergence(bundle, engine, cut, fitted[cut], transform.BITS[-1])


def test_a_wide_vector_is_scaled_channel_by_channel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from spinn_stream.train.pack import codec_fit

    monkeypatch.setattr(codec_fit, "MOST_CHANNELS", 10)
    bundle = export(tmp_path)
    fitted = fit_bases(bundle, open_engine(bundle, "onnxruntime"), images(30).pixels)
    assert {cut: basis.forward.shape for cut, basis in fitted.items()} == {1: (8, 8), 2: (16,), 3: (16,)}
    write_bases(tmp_path, fitted)
    again = load_bundle(tmp_path)
    assert basis_of(again, 2).shape == (16, 4, 4) and np.array_equal(basis_of(again, 2).mean, fitted[2].mean)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    data = images(30)
    for i, (pixels, label) in enumerate(zip(data.pixels, data.labels, strict=True)):
        folder = tmp_path / "pictures" / "abc"[label]
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{i:02}.png"), pixels[..., ::-1])
    return tmp_path / "pictures"


def test_spinn_calibrate_writes_a_bundle_and_leaves_the_weights(tmp_path: Path, pictures: Path) -> None:
    before = export(tmp_path / "draft")
    done = said("calibrate", str(tmp_path / "draft"), "--data", str(pictures), "--out", str(tmp_path / "new"),
                "--held-out", "12")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "wrote" in done.stderr and "Traceback" not in done.stderr
    after = load_bundle(tmp_path / "new")
    assert (tmp_path / "new" / GRAPH).read_bytes() == (tmp_path / "draft" / GRAPH).read_bytes()
    assert {f.name for f in (tmp_path / "new").iterdir()} == {GRAPH, MANIFEST, CODEC}
    assert after.cut_points == before.cut_points and after.labels == before.labels and after.hash != before.hash
    assert before.payloads == () and {p.cut for p in after.payloads} == {0, 1, 2, 3}
    assert [basis_of(after, cut).elements for cut in (1, 2, 3)] == [512, 256, 16]
    assert not (tmp_path / "draft" / CODEC).exists()


def test_spinn_calibrate_in_place_replaces_what_was_there(tmp_path: Path, pictures: Path) -> None:
    folder = tmp_path / "draft"
    export(folder)
    hashes = set()
    for held_out in ("9", "15"):
        done = said("calibrate", str(folder), "--data", str(pictures), "--out", str(folder), "--held-out", held_out)
        assert done.returncode == 0, done.stderr
        hashes.add(load_bundle(folder).hash)
        manifest = json.loads((folder / MANIFEST).read_text())
        assert manifest["provenance"]["tables"]["thresholds_on"] == int(held_out)
        assert manifest["provenance"]["seed"] == 1
    assert len(hashes) == 2


@pytest.mark.slow
def test_spinn_calibrate_can_measure_payloads_alone(tmp_path: Path, pictures: Path) -> None:
    export(tmp_path / "draft")
    for out, options in (("new", ()), ("again", ("--payloads-only",))):
        source = "draft" if out == "new" else "new"
        done = spinn("calibrate", str(tmp_path / source), "--data", str(pictures), "--out", str(tmp_path / out),
                     "--held-out", "12", *options, timeout=120)  # fmt: skip
        assert done.returncode == 0, done.stderr
    first, again = (load_bundle(tmp_path / name) for name in ("new", "again"))
    assert again.payloads == first.payloads and again.hash == first.hash
    assert (tmp_path / "again" / CODEC).read_bytes() == (tmp_path / "new" / CODEC).read_bytes()


@pytest.mark.parametrize(
    ("bundle_name", "data_name", "expected"),
    [("nowhere", "pictures", "nowhere is not a bundle"), ("draft", "nothing", "nothing")],
)
def test_spinn_calibrate_says_in_one_line_what_is_wrong(
    tmp_path: Path, pictures: Path, bundle_name: str, data_name: str, expected: str
) -> None:
    export(tmp_path / "draft")
    done = said("calibrate", str(tmp_path / bundle_name), "--data", str(tmp_path / data_name),
                "--out", str(tmp_path / "new"))  # fmt: skip
    assert done.returncode == 1 and expected in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "new").exists()


def test_classes_and_size_are_the_bundle_s(bundle: Bundle) -> None:
    assert len(bundle.labels) == CLASSES and bundle.input.size == SIZE
