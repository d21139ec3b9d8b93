"""Making a bundle: counting, training, calibrating, exporting, on a network small enough for a test."""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spinn_stream.errors import EngineError
from spinn_stream.model.bundle import Bundle, load_bundle
from spinn_stream.model.calibration import calibration_error, collect_logits, fit_temperature, threshold_curve
from spinn_stream.model.exit_head import ExitHead
from spinn_stream.model.export import export_bundle
from spinn_stream.model.images import LabelledImages, augment, load_parquet, resize
from spinn_stream.model.network import EarlyExitNetwork, count_macs
from spinn_stream.model.training import TrainingConfig, joint_loss, train
from spinn_stream.runtime import open_engine

CLASSES = 3
SIZE = 32


def tiny(seed: int = 0) -> EarlyExitNetwork:
    torch.manual_seed(seed)
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    stages["stem"] = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU6())  # (8, 8, 8)
    stages["middle"] = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1, groups=2), nn.ReLU6())  # (16, 4, 4)
    stages["final"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES))
    return EarlyExitNetwork(stages, {"stem": ExitHead(8, downsample=2, num_classes=CLASSES, width=16)})


@pytest.fixture(scope="module")
def images() -> LabelledImages:
    """Ninety pictures in three colours: a task that a few steps learn."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % CLASSES
    pixels = rng.integers(0, 60, (90, 16, 16, 3), np.uint8)
    for i, label in enumerate(labels):
        pixels[i, :, :, label] += 150
    return LabelledImages(pixels, labels)


CONFIG = TrainingConfig(epochs=4, batch_size=10, image_size=SIZE, lr_backbone=1e-2, lr_heads=1e-2)


def test_multiply_adds_equal_the_formulas() -> None:
    network = tiny()
    x = torch.zeros(1, 3, SIZE, SIZE)
    stem, x = count_macs(network.stages["stem"], x)
    assert stem == 8 * 8 * 8 * 3 * 9  # 8x8 outputs, 8 channels, 3 inputs, 3x3
    middle, x = count_macs(network.stages["middle"], x)
    assert middle == 4 * 4 * 16 * (8 // 2) * 9  # two groups: each output sees half the inputs
    assert count_macs(network.stages["final"], x)[0] == 16 * CLASSES
    with pytest.raises(ValueError, match="batch of 1"):
        count_macs(network, torch.zeros(2, 3, SIZE, SIZE))


def test_an_exit_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown cut points"):
        EarlyExitNetwork(OrderedDict(a=nn.Identity()), {"b": ExitHead(8, downsample=1, num_classes=2)})


def test_the_joint_loss_is_the_weighted_sum() -> None:
    final, early = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    config = TrainingConfig(label_smoothing=0, distillation=0.5, distillation_temperature=1, exit_weight_start=0.1)
    loss = joint_loss([early], final, torch.tensor([0]), config, progress=0.0)
    p = 1 / (1 + math.exp(-2))  # the final exit's probability of class 0
    hard, kl = math.log(2), p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)
    assert float(loss) == pytest.approx(-math.log(p) + 0.1 * (0.5 * hard + 0.5 * kl), rel=1e-5)


def test_training_learns_and_resumes_to_the_same_numbers(images: LabelledImages, tmp_path: Path) -> None:
    whole = tiny()
    train(whole, images, CONFIG, checkpoint=tmp_path / "whole.pt", report=lambda row: None)

    class Interrupted(Exception):
        pass

    def interrupt(row: dict[str, float]) -> None:
        if row["step"] == 20:
            raise Interrupted

    parts = tiny()
    with pytest.raises(Interrupted):
        train(parts, images, CONFIG, checkpoint=tmp_path / "parts.pt", report=interrupt, checkpoint_every=8)
    resumed = tiny(seed=99)  # everything must come from the checkpoint of step 16
    train(resumed, images, CONFIG, checkpoint=tmp_path / "parts.pt", report=lambda row: None, checkpoint_every=8)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)

    logits = collect_logits(whole, images, SIZE, mean=127, scale=1 / 128)
    assert logits.shape == (2, 90, CLASSES)
    right = logits.argmax(2).numpy() == images.labels
    assert right[-1].mean() > 0.9


def test_a_checkpoint_of_another_configuration_is_not_continued(images: LabelledImages, tmp_path: Path) -> None:
    short = TrainingConfig(epochs=0.2, batch_size=10, image_size=SIZE)
    train(tiny(), images, short, checkpoint=tmp_path / "c.pt", report=lambda row: None)
    with pytest.raises(ValueError, match="was made with"):
        train(tiny(), images, CONFIG, checkpoint=tmp_path / "c.pt", report=lambda row: None)


def test_a_fitted_temperature_is_the_one_the_labels_were_drawn_with() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 5, generator=generator) * 3
    labels = torch.multinomial((logits / 2.5).softmax(1), 1, generator=generator)[:, 0]
    assert fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.05)


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    right = np.array([True, True, True, False, True, False])
    # bin of 0.95: accuracy 0.75, four of six; bin of 0.55: accuracy 0.5, two of six
    assert calibration_error(confidence, right) == pytest.approx(4 / 6 * 0.2 + 2 / 6 * 0.05)


def test_the_threshold_curve_takes_the_first_confident_exit() -> None:
    confidences = np.array([[0.9, 0.3], [0.1, 0.2]])  # two exits, two pictures
    right = np.array([[False, True], [True, True]])
    curve = threshold_curve(confidences, right, [0.4, 1.0], [0.0, 0.5, 1.0])
    assert curve == [(0.0, 0.5, 0.4), (0.5, 0.5, 0.7), (1.0, 1.0, 1.0)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[EarlyExitNetwork, Bundle]:
    network = tiny().eval()
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_()  # type: ignore[union-attr]
        norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    out = tmp_path_factory.mktemp("tiny")
    export_bundle(network, out, name="tiny", image_size=SIZE, mean=127, scale=1 / 128, labels=list("abc"),
                  temperatures=[1.5, 0.9], default_threshold=0.7, provenance={})  # fmt: skip
    return network, load_bundle(out)


def test_a_bundle_is_what_was_exported(exported: tuple[EarlyExitNetwork, Bundle]) -> None:
    network, bundle = exported
    assert [c.name for c in bundle.cut_points] == ["input", "stem", "middle", "final"]
    assert [c.shape for c in bundle.cut_points] == [(3, 32, 32), (8, 8, 8), (16, 4, 4), (3,)]
    assert [(e.name, e.cut, e.temperature) for e in bundle.exits] == [("stem", 1, 1.5), ("final", 3, 0.9)]
    assert bundle.exits[0].macs == count_macs(network.exits["stem"], torch.zeros(1, 8, 8, 8))[0]
    assert bundle.labels == ("a", "b", "c") and bundle.default_threshold == 0.7


@pytest.mark.parametrize("split", [0, 1, 2])
def test_the_engine_computes_what_torch_does_up_to_the_rounding_of_weights(
    exported: tuple[EarlyExitNetwork, Bundle], split: int
) -> None:
    network, bundle = exported
    engine = open_engine(bundle)
    x = np.random.default_rng(1).normal(size=(2, 3, SIZE, SIZE)).astype(np.float32)
    with torch.inference_mode():
        exits, final = network(torch.from_numpy(x))
    found = {}
    for start, stop in bundle.pieces(0, split) + bundle.pieces(split, bundle.last):
        x, logits = engine.run(start, stop, x)
        if logits is not None:
            found[stop] = logits
    for cut, expected in ((1, exits[0]), (3, final)):
        scale = float(expected.abs().max())
        assert np.abs(found[cut] - expected.numpy()).max() <= 0.005 * max(1.0, scale)  # float16 has 11 bits
    with pytest.raises(EngineError):
        engine.run(2, 2, x)


def test_labels_and_temperatures_must_be_as_many_as_needed(tmp_path: Path) -> None:
    common = {"name": "x", "image_size": SIZE, "mean": 0.0, "scale": 1.0, "default_threshold": 0.5, "provenance": {}}
    with pytest.raises(ValueError, match="1 temperatures for 2 exits"):
        export_bundle(tiny(), tmp_path, labels=list("abc"), temperatures=[1.0], **common)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 labels for 3 classes"):
        export_bundle(tiny(), tmp_path, labels=list("ab"), temperatures=[1.0, 1.0], **common)  # type: ignore[arg-type]


def test_parquet_files_are_read_and_checked(tmp_path: Path) -> None:
    import cv2
    import pyarrow as pa
    import pyarrow.parquet as pq

    picture = np.zeros((8, 8, 3), np.uint8)
    picture[..., 2] = 200  # red, as OpenCV writes it
    good = cv2.imencode(".png", picture)[1].tobytes()

    def write(name: str, **columns: list[object]) -> Path:
        pq.write_table(pa.table(columns), tmp_path / name)
        return tmp_path / name

    images = load_parquet([write("a", image=[good, good], label=[1, 2]), write("b", image=[good], label=[0])])
    assert images.pixels.shape == (3, 8, 8, 3) and images.labels.tolist() == [1, 2, 0]
    assert images.pixels[0, 0, 0].tolist() == [200, 0, 0]  # RGB
    with pytest.raises(ValueError, match="image 0 does not decode"):
        load_parquet([write("c", image=[b"junk"], label=[0])])
    with pytest.raises(ValueError, match=r"columns \['label'\] are missing"):
        load_parquet([write("d", image=[good])])
    with pytest.raises(ValueError, match="no parquet file"):
        load_parquet([])


def test_augmenting_keeps_shape_range_and_seed() -> None:
    pixels = torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8)
    one = augment(pixels, SIZE, torch.Generator().manual_seed(1))
    assert one.shape == (5, 3, SIZE, SIZE) and 0 <= float(one.min()) <= float(one.max()) <= 255
    assert torch.equal(one, augment(pixels, SIZE, torch.Generator().manual_seed(1)))
    assert not torch.equal(one, augment(pixels, SIZE, torch.Generator().manual_seed(2)))


def test_training_resizes_as_the_camera_path_does() -> None:
    """Torch's bilinear interpolation, rounded, is OpenCV's to within one level."""
    from spinn_stream.frame import crop

    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    ours = crop(pixels[0, ..., ::-1], 128)  # BGR in, RGB out
    theirs = resize(torch.from_numpy(pixels), 128).round()[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - theirs).max() <= 1
