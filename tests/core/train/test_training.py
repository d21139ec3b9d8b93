"""Training: the loss, resuming, freezing, and what goes wrong."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spinn_stream.errors import ConfigError, DataError
from spinn_stream.train.adoption import adopt_classifier
from spinn_stream.train.backbone.exit_head import ExitHead
from spinn_stream.train.backbone.network import EarlyExitNetwork
from spinn_stream.train.checkpoint import Checkpoint
from spinn_stream.train.data.images import LabelledImages, augment, resize
from spinn_stream.train.generator import split_held_out
from spinn_stream.train.training import ALL, Progress, TrainingConfig, joint_loss, new_classifier, train

from .tiny import CLASSES, CONFIG, SCALING, SIZE, ignore, images, network


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def right(net: EarlyExitNetwork, data: LabelledImages) -> list[float]:
    net.eval()
    with torch.inference_mode():
        x = (resize(torch.from_numpy(data.pixels), SIZE) - SCALING.mean) * SCALING.scale
        exits, final = net(x)
    return [float((e.argmax(1).numpy() == data.labels).mean()) for e in [*exits, final]]


def test_the_joint_loss_is_the_weighted_sum() -> None:
    final, early = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    config = TrainingConfig(label_smoothing=0, distillation=0.5, distillation_temperature=1, exit_weight_start=0.1)
    loss = joint_loss([early], final, torch.tensor([0]), config, progress=0.0)
    p = 1 / (1 + math.exp(-2))  # the final exit's probability of class 0
    hard, kl = math.log(2), p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)
    assert float(loss) == pytest.approx(-math.log(p) + 0.1 * (0.5 * hard + 0.5 * kl), rel=1e-5)


def test_training_learns_and_resumes_to_the_same_numbers(tmp_path: Path) -> None:
    whole = network()
    train(whole, images(), CONFIG, SCALING, checkpoint=tmp_path / "whole.pt", report=ignore)

    class Interrupted(Exception):
        pass

    def interrupt(progress: Progress) -> None:
        if progress.step == 20:
            raise Interrupted

    parts = network()
    with pytest.raises(Interrupted):
        train(parts, images(), CONFIG, SCALING, checkpoint=tmp_path / "p.pt", report=interrupt, checkpoint_every=8)
    resumed = network(seed=99)  # everything must come from the checkpoint of step 16
    train(resumed, images(), CONFIG, SCALING, checkpoint=tmp_path / "p.pt", report=ignore, checkpoint_every=8)
    assert same(whole, resumed)
    assert right(whole, images())[-1] > 0.9


def test_the_image_size_follows_its_schedule(tmp_path: Path) -> None:
    seen = []
    net = network()
    net.stages[0].register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].shape[-1]))
    config = TrainingConfig(epochs=1, batch_size=15, image_sizes=((0.5, 32), (1.0, 48)))
    train(net, images(), config, SCALING, checkpoint=tmp_path / "c.pt", report=ignore)
    assert seen == [32, 32, 32, 48, 48, 48]
    for wrong in ((), ((0.5, 32),), ((0.6, 32), (0.5, 48), (1.0, 32)), ((1.0, 8),)):
        with pytest.raises(ValueError, match="rising shares"):
            TrainingConfig(image_sizes=wrong)


@pytest.mark.parametrize("freeze", [ALL, "stem", "middle"])
def test_what_is_frozen_stays_and_the_rest_learns(tmp_path: Path, freeze: str) -> None:
    net, before = network(exits=("stem", "middle")), network(exits=("stem", "middle"))
    config = replace(CONFIG, epochs=1, freeze=freeze)
    train(net, images(), config, SCALING, checkpoint=tmp_path / "c.pt", report=ignore)
    frozen = {"stem": 1, "middle": 2, ALL: 2}[freeze]
    for i, (new, old) in enumerate(zip(net.stages, before.stages, strict=True)):
        if list(new.parameters()):  # the last stage's classifier is new: it learns in any case
            assert same(new, old) == (i < frozen), i
    assert not any(same(new, old) for new, old in zip(net.heads, before.heads, strict=True))
    with pytest.raises(ConfigError, match="cannot freeze up to 'nowhere'; expected backbone or one of stem, middle"):
        train(network(), images(), replace(config, freeze="nowhere"), SCALING, checkpoint=tmp_path / "d", report=ignore)


def test_a_checkpoint_of_another_configuration_is_not_continued(tmp_path: Path) -> None:
    short = TrainingConfig(epochs=0.2, batch_size=10, image_sizes=((1.0, SIZE),))
    train(network(), images(), short, SCALING, checkpoint=tmp_path / "c.pt", report=ignore)
    with pytest.raises(ConfigError, match=r"was made with .* asked for .* --work"):
        train(network(), images(), CONFIG, SCALING, checkpoint=tmp_path / "c.pt", report=ignore)
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(DataError, match="is not a checkpoint of this network"):
        train(network(), images(), CONFIG, SCALING, checkpoint=tmp_path / "junk.pt", report=ignore)
    with pytest.raises(DataError, match="is not a checkpoint of this network"):
        train(network(exits=("stem", "middle")), images(), short, SCALING, checkpoint=tmp_path / "c.pt", report=ignore)


def trained(path: Path, exits: tuple[str, ...]) -> EarlyExitNetwork:
    net = network(exits=exits)
    short = TrainingConfig(epochs=0.4, batch_size=10, image_sizes=((1.0, SIZE),))
    train(net, images(), short, SCALING, checkpoint=path, report=ignore)
    return net


def test_a_training_starts_from_a_checkpoint_with_other_exits(tmp_path: Path) -> None:
    first = trained(tmp_path / "c.pt", ("stem",))
    net, fresh = network(seed=5, exits=("stem", "middle")), network(seed=5, exits=("stem", "middle"))
    start = Checkpoint(tmp_path / "c.pt", "").read_weights(net)
    assert start.untrained == ("middle",)
    assert same(net.stages, first.stages)
    assert same(net.heads[0], first.heads[0]) and same(net.heads[1], fresh.heads[1])


def test_a_head_of_another_design_starts_untrained(tmp_path: Path) -> None:
    trained(tmp_path / "c.pt", ("stem",))
    net = network(seed=5)
    net.heads[0] = ExitHead(8, width=48, halvings=0, num_classes=CLASSES)
    assert Checkpoint(tmp_path / "c.pt", "").read_weights(net).untrained == ("stem",)


def test_the_backbone_of_a_checkpoint_is_the_same_wherever_the_exits_cut_it(tmp_path: Path) -> None:
    """Which cut points there are may depend on the exits; with them the names of the stages' tensors do."""
    first = trained(tmp_path / "c.pt", ("stem",))
    net = network(seed=5)
    joined = EarlyExitNetwork(
        (net.cuts[0], *net.cuts[2:]), (nn.Sequential(*net.stages[:2]), *net.stages[2:]), {1: nn.Identity()}
    )
    Checkpoint(tmp_path / "c.pt", "").read_weights(joined)
    assert same(joined.stages, first.stages)


def test_a_checkpoint_of_another_backbone_is_no_start(tmp_path: Path) -> None:
    trained(tmp_path / "c.pt", ("stem",))
    other = network()
    other.stages[1] = nn.Conv2d(8, 24, 3, 2, 1)
    with pytest.raises(DataError, match=r"weight of shape \(16, 4, 3, 3\), expected weight of shape \(24, 8, 3, 3\)"):
        Checkpoint(tmp_path / "c.pt", "").read_weights(other)
    other.stages[1] = nn.Identity()
    with pytest.raises(DataError, match="another backbone"):
        Checkpoint(tmp_path / "c.pt", "").read_weights(other)
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(DataError, match="is not a checkpoint of a training"):
        Checkpoint(tmp_path / "junk.pt", "").read_weights(other)


def test_exits_alone_are_trained_beside_a_final_exit_that_is_trained_already(tmp_path: Path) -> None:
    first = trained(tmp_path / "c.pt", ("stem",))
    net = network(seed=5, exits=("middle",))
    Checkpoint(tmp_path / "c.pt", "").read_weights(net)
    before = copy.deepcopy(net.heads)
    train(net, images(), replace(CONFIG, epochs=1, freeze=ALL), SCALING, checkpoint=tmp_path / "d.pt", report=ignore)
    assert same(net.stages, first.stages) and not same(net.heads, before)


def test_a_full_disk_loses_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    train(network(), images(), CONFIG, SCALING, checkpoint=path, report=ignore, checkpoint_every=8, stop_after=16)
    whole = path.read_bytes()
    (tmp_path / "c.partial").symlink_to("/dev/full")  # every write there fails as on a full disk
    with pytest.raises(
        DataError, match=r"cannot write the checkpoint of step 24: .*; the checkpoint before it is whole"
    ):
        train(network(), images(), CONFIG, SCALING, checkpoint=path, report=ignore, checkpoint_every=8)
    assert path.read_bytes() == whole and not (tmp_path / "c.partial").is_symlink()
    train(network(), images(), CONFIG, SCALING, checkpoint=path, report=ignore, checkpoint_every=8)  # room again


def test_a_loss_that_is_not_finite_says_what_to_do(tmp_path: Path) -> None:
    net = network()
    with torch.no_grad():
        next(net.heads.parameters()).fill_(math.nan)
    with pytest.raises(DataError, match="the loss is nan at step 1; lower --lr"):
        train(net, images(), replace(CONFIG, epochs=1), SCALING, checkpoint=tmp_path / "c.pt", report=ignore)
    with pytest.raises(DataError, match="got 1 images to train on, expected 2 or more"):
        train(network(), images(1), CONFIG, SCALING, checkpoint=tmp_path / "c.pt", report=ignore)


def test_a_new_class_starts_from_the_pretrained_row_that_fires_on_it() -> None:
    """The pretrained rows are the network's own, shuffled among others: each class must find its own again."""
    net = network(seed=3).eval()
    final = new_classifier(net)
    assert final is not None
    data = images()
    with torch.no_grad():  # a classifier that knows the three colours: by nearest class mean of the features
        x = (resize(torch.from_numpy(data.pixels), SIZE) - SCALING.mean) * SCALING.scale
        for stage in net.stages[:-1]:
            x = stage(x)
        features = x.flatten(1)  # pooled by the stage before the last
        means = torch.stack([features[torch.from_numpy(data.labels) == c].mean(0) for c in range(CLASSES)])
        pretrained = nn.Linear(16, 7)
        pretrained.weight.zero_()
        pretrained.bias.fill_(-100.0)
        for row, c in ((5, 0), (1, 1), (3, 2)):
            pretrained.weight[row] = 200 * means[c]
            pretrained.bias[row] = -100 * means[c].square().sum()
    assert adopt_classifier(net, pretrained, data, SCALING) == CLASSES
    for c, row in enumerate((5, 1, 3)):
        assert torch.equal(final.weight[c], pretrained.weight[row])
    with pytest.raises(ConfigError, match="does not end in the linear layer"):
        adopt_classifier(net, nn.Linear(5, 7), data, SCALING)


def test_held_out_images_are_the_last_ones_and_hold_every_class() -> None:
    data = images(90)
    train_part, held = split_held_out(data, 0.2)
    assert len(held) == 18 and len(train_part) == 72
    assert np.array_equal(held.labels, data.labels[-18:])
    order = np.argsort(data.labels, kind="stable")  # sorted by class, as folders are
    _, held = split_held_out(LabelledImages(data.pixels[order], data.labels[order]), 6)
    assert np.bincount(held.labels).tolist() == [2, 2, 2]
    with pytest.raises(DataError, match="got 10 images with 9 of them held out"):
        split_held_out(images(10), 9)


def test_a_layout_that_is_kept_changes_in_brightness_and_contrast_alone() -> None:
    """Of a picture that is dark to the left and light to the right, every augmented one is, too."""
    ramp = np.linspace(60, 180, SIZE).astype(np.uint8)
    pixels = torch.from_numpy(np.broadcast_to(ramp[None, None, :, None], (16, SIZE, SIZE, 3)).copy())
    kept = augment(pixels, SIZE, torch.Generator().manual_seed(1), keep_layout=True)
    assert bool((kept.diff(dim=3) >= 0).all()) and not torch.equal(kept[0], kept[1])
    moved = augment(pixels, SIZE, torch.Generator().manual_seed(1))
    assert not bool((moved.diff(dim=3) >= 0).all())


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
