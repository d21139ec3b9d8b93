"""Exits that learn from the stored activations of a frozen backbone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from spinn_stream.errors import ConfigError, DataError
from spinn_stream.train import views as module
from spinn_stream.train.backbone.network import EarlyExitNetwork
from spinn_stream.train.data.images import LabelledImages, augment
from spinn_stream.train.training import ALL, TrainingConfig, new_classifier, train
from spinn_stream.train.views import Views, make_views, views_key

from .tiny import CLASSES, CONFIG, SCALING, SIZE, ignore, images, network


class TorchStages:
    """Runs a network's stages as an engine does. broken: it ends after that number of runs."""

    name = "stages"

    def __init__(self, net: EarlyExitNetwork, broken: int | None = None) -> None:
        self._stages, self._left, self.runs = net.eval().stages, broken, 0

    def run(self, start: int, stop: int, x: Any, *, exit: bool = True) -> tuple[Any, None]:
        self.runs += 1
        if self.runs == self._left:
            raise KeyboardInterrupt
        y = torch.from_numpy(x)
        with torch.inference_mode():
            for stage in self._stages[start:stop]:
                y = stage(y)
        return y.numpy(), None


def made(net: EarlyExitNetwork, folder: Path, data: LabelledImages, *, engine: Any = None, views: int = 3) -> Views:
    exits = [(net.cuts[i].name, i, net.cuts[i].shape) for i in net.exit_cuts]
    return make_views(
        engine or TorchStages(net), exits, len(net.cuts) - 1, CLASSES, data, SCALING, folder,
        key=views_key(net, data, views=views, size=SIZE, seed=1), views=views, size=SIZE, seed=1,
    )  # fmt: skip


def test_what_is_stored_is_what_the_backbone_makes_of_each_crop(tmp_path: Path) -> None:
    net, data = network(exits=("stem", "middle")), images(70)  # a whole batch and a part of one for each view
    stored = made(net, tmp_path, data)
    assert [a.shape for a in stored.activations] == [(3, 70, 8, 8, 8), (3, 70, 16, 4, 4)]
    assert stored.logits.shape == (3, 70, CLASSES)
    crops = augment(torch.from_numpy(data.pixels[64:]), SIZE, torch.Generator().manual_seed(1 * 10_000_000 + 3))
    with torch.inference_mode():
        x = net.stages[0]((crops - SCALING.mean) * SCALING.scale)
        final = net.eval()((crops - SCALING.mean) * SCALING.scale)[1]
    assert np.allclose(stored.activations[0][1, 64:], x, atol=4e-3)  # the fourth batch: view 1, images 64 to 69
    assert np.allclose(stored.logits[1, 64:], final, atol=4e-3)


def test_an_image_is_seen_in_another_view_every_epoch(tmp_path: Path) -> None:
    net, rows = network(), np.array([4, 5, 9])
    stored = made(net, tmp_path, images(10))
    for epoch in range(4):
        exits, final = stored.answers(net, rows, epoch, "cpu")
        assert len(exits) == 1 and exits[0].shape == (3, CLASSES) and exits[0].requires_grad
        expected = [stored.logits[(row + epoch) % 3, row] for row in rows]
        assert torch.equal(final, torch.from_numpy(np.stack(expected)))


def test_an_interrupted_run_continues_to_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    monkeypatch.setattr(module, "SAVE_EVERY", 2)
    net, data = network(), images(10)  # three batches a view, two pieces each: 18 runs in all
    whole = made(net, tmp_path / "whole", data)
    with pytest.raises(KeyboardInterrupt):
        made(net, tmp_path / "parts", data, engine=TorchStages(net, broken=11))  # in the sixth batch
    rest = TorchStages(net)
    resumed = made(net, tmp_path / "parts", data, engine=rest)
    assert rest.runs == 2 * (9 - 4)
    assert np.array_equal(whole.activations[0], resumed.activations[0])
    assert np.array_equal(whole.logits, resumed.logits)
    opened = TorchStages(net)
    made(net, tmp_path / "parts", data, engine=opened)
    assert opened.runs == 0


def test_exits_learn_from_what_is_stored_and_nothing_else_changes(tmp_path: Path) -> None:
    net, data = network(exits=("stem", "middle")), images()
    net.is_classifier_new = False
    stored = made(net, tmp_path / "views", data)
    before = {name: t.clone() for name, t in net.stages.state_dict().items()}
    config = replace(CONFIG, freeze=ALL, views=3, distillation=0.0)
    train(net, data, config, SCALING, checkpoint=tmp_path / "c.pt", report=ignore, views=stored)
    assert all(torch.equal(t, before[name]) for name, t in net.stages.state_dict().items())
    net.eval()
    exits, _ = stored.answers(net, np.arange(90), 0, "cpu")
    assert all(float((e.argmax(1).numpy() == data.labels).mean()) > 0.9 for e in exits)


def test_activations_of_something_else_are_not_used(tmp_path: Path) -> None:
    net, data = network(), images(10)
    made(net, tmp_path, data)
    for other, pictures, count in ((network(seed=1), data, 3), (net, images(9), 3), (net, data, 2)):
        with pytest.raises(ConfigError, match="holds activations of another backbone, of other images or in other"):
            made(other, tmp_path, pictures, views=count)
    with pytest.raises(ConfigError, match="holds activations at stem, final, not at middle"):
        made(network(exits=("stem", "middle")), tmp_path, data)
    (tmp_path / "views.json").write_text(json.dumps({"key": 1}))
    with pytest.raises(DataError, match="is damaged"):
        made(net, tmp_path, data)


def test_a_disk_with_too_little_room_is_an_error_before_anything_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 3 views of 10 images, (8, 8, 8) + 3 numbers of 2 bytes each: 30,900 bytes
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=30_899))
    net = network()
    with pytest.raises(DataError, match=r"activations of 3 views take 0.0 GB, .* has 0.0 GB free; expected fewer"):
        made(net, tmp_path, images(10))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=30_900))
    made(net, tmp_path, images(10))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot keep activations in"):
        made(net, tmp_path / "file", images(10))


def test_activations_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    net = network()
    final = new_classifier(net)
    assert final is not None
    with torch.no_grad():
        final.bias.fill_(1e5)
    with pytest.raises(DataError, match="activations at final reach beyond 60000"):
        made(net, tmp_path, images(10))


def test_views_go_with_a_backbone_that_is_frozen_in_whole() -> None:
    for wrong in ({"views": -1}, {"views": 2}, {"views": 2, "freeze": "stem"}):
        with pytest.raises(ValueError, match="expected one size and backbone frozen"):
            TrainingConfig(**wrong)
    with pytest.raises(ValueError, match="with 2 image sizes"):
        TrainingConfig(views=2, freeze=ALL, image_sizes=((0.5, 32), (1.0, 64)))
