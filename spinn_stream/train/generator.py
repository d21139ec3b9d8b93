"""The progressive model generator: a backbone and labelled images in, a calibrated early-exit bundle out."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.errors import ConfigError, DataError
from spinn_stream.runtime.engines.registry import installed, open_one
from spinn_stream.train.backbone.choose import BUILDERS, Backbone, choose_backbone
from spinn_stream.train.backbone.from_bundle import (
    FORM,
    BundleNetwork,
    check_classes,
    differing_labels,
    input_size,
    notes_of,
    source_bundle,
)
from spinn_stream.train.backbone.network import EarlyExitNetwork, attach_exits
from spinn_stream.train.cut.tracing import PrunedCut, trace_backbone
from spinn_stream.train.data.datasets import Dataset
from spinn_stream.train.data.images import LabelledImages, Scaling
from spinn_stream.train.pack.calibrate import PAYLOAD_IMAGES, calibrate
from spinn_stream.train.pack.export import export_draft

from .adoption import adopt_classifier, own_classifier
from .checkpoint import Checkpoint
from .training import Progress, TrainingConfig, train
from .views import Views, make_views, views_key

ADOPTION_IMAGES = 6000
"""Training images that are used to find the row of a new class in a pretrained classifier."""

CHECKPOINT = "checkpoint.pt"
LOG = "training.jsonl"
VIEWS = "views"

ENGINES = ("openvino", "onnxruntime")
"""Engines that run a frozen backbone over views; the first is faster on most processors
(decisions/0010-runtimes.md)."""


@dataclass(frozen=True)
class Recipe:
    """All that decides a bundle, besides the images."""

    backbone: str
    name: str
    image_size: int
    exits: int | None  # how many; None: six, or as many as have a place
    exit_at: tuple[str, ...] | None
    held_out: float  # share of the training images, or a number of them from 1 up; the last ones in order
    pretrained: bool
    training: TrainingConfig
    start: str | None = None  # checkpoint whose backbone, and heads where they fit, this training begins from

    def __post_init__(self) -> None:
        if self.held_out <= 0:
            raise ConfigError(f"held-out is {self.held_out:g}, expected a share below 1 or a number of images")
        if self.image_size < 32:
            raise ConfigError(f"the image size is {self.image_size} pixels, expected 32 or more")
        if self.backbone.startswith(FORM):
            options = {
                "--exits": self.exits is not None, "--exit-at": self.exit_at is not None,
                "--start": self.start is not None, "--no-pretrained": self.start is None and not self.pretrained,
            }  # fmt: skip
            given = [option for option, is_given in options.items() if is_given]
            if given:
                raise ConfigError(
                    f"{', '.join(given)} with --backbone {self.backbone}, which brings its exits and weights; "
                    "expected one without the other"
                )


def split_held_out(images: LabelledImages, held_out: float) -> tuple[LabelledImages, LabelledImages]:
    """Training images, and the held-out last ones, for temperatures and tables.

    Images that are sorted by class are first dealt out in turn, so that the last ones have every class.
    """
    labels = images.labels
    if len(labels) > 1 and labels[0] != labels[-1] and (np.diff(labels) >= 0).all():
        turn = np.zeros(len(labels), np.int64)  # how many of its class come before each image
        for c in np.unique(labels):
            turn[labels == c] = np.arange((labels == c).sum())
        order = np.lexsort((labels, turn))
        images = LabelledImages(images.pixels[order], labels[order])
    count = round(held_out * len(images)) if held_out < 1 else int(held_out)
    count = max(1, count)
    if len(images) - count < 2:
        raise DataError(
            f"got {len(images)} images with {count} of them held out, expected 2 or more to train on; "
            "give more images or a smaller --held-out"
        )
    return images.take(slice(0, len(images) - count)), images.take(slice(len(images) - count, len(images)))


@dataclass(frozen=True)
class Prepared:
    """A network ready to be trained.

    pruned, uncounted: for the manifest, see `tracing.Trace`. pretrained_classifier: see `Backbone`.
    source: the bundle whose weights it has. started_from: what the manifest says of it.
    """

    network: EarlyExitNetwork
    scaling: Scaling
    pruned: tuple[PrunedCut, ...]
    uncounted: tuple[str, ...]
    pretrained_classifier: nn.Linear | None = None
    source: Bundle | None = None
    started_from: dict[str, Any] | None = None


def prepare(recipe: Recipe, classes: int) -> Prepared:
    """Build the backbone, find its cut points and attach exits; or take all of that from a bundle.

    The same recipe gives the same weights.
    """
    source = source_bundle(recipe.backbone)
    if source is not None:
        return _prepare_from(source, recipe, classes)
    torch.manual_seed(recipe.training.seed)
    backbone = choose_backbone(
        recipe.backbone, num_classes=classes, image_size=recipe.image_size, pretrained=recipe.pretrained
    )
    keep_head, pretrained = recipe.training.keep_head, backbone.pretrained_classifier
    if keep_head:
        _keep_classifier(recipe, backbone, classes)
        pretrained = None
    trace = trace_backbone(backbone.module, (3, recipe.image_size, recipe.image_size), keep=recipe.exit_at or ())
    network = attach_exits(trace, classes, count=recipe.exits, places=recipe.exit_at, keep_head=keep_head)
    scaling = Scaling(backbone.mean, backbone.scale)
    return Prepared(network, scaling, trace.pruned, trace.uncounted, pretrained)


def _keep_classifier(recipe: Recipe, backbone: Backbone, classes: int) -> None:
    """Put back the classifier that came with the backbone's weights."""
    if recipe.start is None and (recipe.backbone in BUILDERS or not recipe.pretrained):
        raise ConfigError(
            f"--keep-head with {recipe.backbone} and no weights; expected a backbone that comes with weights, "
            "--start CHECKPOINT, or bundle:FOLDER"
        )
    own = own_classifier(backbone.module, classes)
    if backbone.pretrained_classifier is not None:
        own.load_state_dict(backbone.pretrained_classifier.state_dict())


def _prepare_from(source: Bundle, recipe: Recipe, classes: int) -> Prepared:
    input_size(source, recipe.image_size)
    check_classes(source, classes)
    network, notes = BundleNetwork(source), notes_of(source)
    network.check_sizes({size for _, size in recipe.training.image_sizes})
    return Prepared(
        network, Scaling(source.input.mean, source.input.scale), notes.pruned, notes.uncounted, source=source,
        started_from={"bundle": source.name, "hash": source.hash, "provenance": notes.provenance},
    )  # fmt: skip


def check_data(data: Dataset) -> None:
    """Raises DataError: a class has no image, so it would never be learned."""
    if data.empty_classes:
        shown = ", ".join(data.empty_classes[:5])
        raise DataError(
            f"{len(data.empty_classes)} of {len(data.classes)} classes have no image: {shown}; "
            "add images of them or leave them out of the classes"
        )


def generate(
    recipe: Recipe,
    prepared: Prepared,
    data: Dataset,
    *,
    out: Path,
    work: Path,
    device: str,
    report: Callable[[Progress], None],
    say: Callable[[str], None],
    checkpoint_every: int = 100,
    calibrate_on: LabelledImages | None = None,
    payload_images: int = PAYLOAD_IMAGES,
    arguments: Sequence[str] = sys.argv[1:],
) -> Bundle:
    """Train (or continue), export, calibrate and measure the tables; everything but the images is in the bundle.

    Args:
        work: folder of the checkpoint and the log; an interrupted training continues from there.
        checkpoint_every: steps.
        calibrate_on: images for temperatures, thresholds, codec and tables; None: those that are held out.
        payload_images: see `calibrate`.

    Raises:
        ConfigError, DataError, BundleError: see `train` and `export_draft`; `out` is what it begins from.
    """
    images, held_out = split_held_out(data.images, recipe.held_out)
    network, source = prepared.network, prepared.source
    if source is not None and source.graph_path.parent.resolve() == out.resolve():
        raise ConfigError(f"--out {out} is the bundle that this training begins from, expected another folder")
    try:
        work.mkdir(parents=True, exist_ok=True)
        log = (work / LOG).open("a")
    except OSError as error:
        raise ConfigError(f"cannot write to {work}: {error.strerror}") from error
    earlier = prepared.started_from
    with log:
        if source is not None:
            say(f"starting from the weights of bundle {source.name}")
            renamed = differing_labels(source, data.classes)
            if renamed is not None:
                say(renamed)
        if recipe.start is not None:
            start = Checkpoint(Path(recipe.start), "").read_weights(network)
            earlier = json.loads(start.config)
            say(f"starting from the weights of {recipe.start}")
            if start.untrained:
                say(f"new, and not trained yet: the exits at {', '.join(start.untrained)}")
        elif prepared.pretrained_classifier is not None and not (work / CHECKPOINT).exists():
            few = images.take(slice(0, ADOPTION_IMAGES))
            rows = adopt_classifier(network, prepared.pretrained_classifier, few, prepared.scaling)
            say(f"{rows} of {len(data.classes)} classes start from a row of their own of the pretrained classifier")

        def note(progress: Progress) -> None:
            log.write(json.dumps(asdict(progress)) + "\n")
            log.flush()
            report(progress)

        stored = _views(recipe, prepared, images, data.classes, work / VIEWS, say) if recipe.training.views else None
        train(
            network, images, recipe.training, prepared.scaling, checkpoint=work / CHECKPOINT, report=note,
            views=stored, device=device, checkpoint_every=checkpoint_every,
        )  # fmt: skip
    say("writing the graph")
    provenance: dict[str, Any] = {
        "command": shlex.join(["spinn", *map(without_folder, arguments)]),
        "recipe": {k: without_folder(v) if isinstance(v, str) else v for k, v in asdict(recipe).items()},
        "started_from": earlier,
        "images": {"training": len(images), "held_out": len(held_out), "skipped": data.skipped_total},
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    export_draft(
        network, out, name=recipe.name, mean=prepared.scaling.mean, scale=prepared.scaling.scale,
        labels=data.classes, pruned=prepared.pruned, uncounted=prepared.uncounted, provenance=provenance,
    )  # fmt: skip
    is_labelled = calibrate_on is not None or not recipe.training.keep_head
    calibrate(
        out, held_out if calibrate_on is None else calibrate_on, is_labelled=is_labelled,
        payload_images=payload_images, say=say,
    )  # fmt: skip
    return load_bundle(out)


def without_folder(argument: str) -> str:
    """A command's argument with only the name of a file, without its path on this machine.

    >>> without_folder("--data=/home/me/a.parquet"), without_folder("bundle:some/folder")
    ('--data=a.parquet', 'bundle:folder')
    """
    return re.sub(r"[^=:]*/(?=[^/])", "", argument.rstrip("/"))


def _views(
    recipe: Recipe,
    prepared: Prepared,
    images: LabelledImages,
    classes: Sequence[str],
    folder: Path,
    say: Callable[[str], None],
) -> Views:
    """Run the frozen backbone over views of the images, on an engine as in serving; or open the stored activations."""
    network, config = prepared.network, recipe.training
    if network.is_classifier_new:
        raise ConfigError("--views needs a final exit that is trained: give --start, or --backbone bundle:FOLDER")
    how: Any = {"views": config.views, "size": recipe.image_size, "seed": config.seed, "blended": config.blended}
    key = views_key(network, images, **how)
    with TemporaryDirectory() as draft:
        export_draft(
            network, Path(draft), name=recipe.name, mean=prepared.scaling.mean, scale=prepared.scaling.scale,
            labels=classes, provenance={},
        )  # fmt: skip
        bundle = load_bundle(Path(draft))
        engine = open_one(bundle, next(n for n in ENGINES if n in installed()), threads=torch.get_num_threads())
        exits = [(cut.name, i, cut.shape) for i in network.exit_cuts for cut in [network.cuts[i]]]
        return make_views(
            engine, exits, bundle.last, len(classes), images, prepared.scaling, folder, key=key, **how,
            progress=lambda done, total: say(f"{done} of {total} views of images have gone through the backbone"),
        )  # fmt: skip
