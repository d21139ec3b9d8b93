"""Joint training of a backbone and its exits, with checkpoints to resume from."""

from __future__ import annotations

import ctypes
import json
import math
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from spinn_stream.errors import ConfigError, DataError
from spinn_stream.train.backbone.depthwise import fast_depthwise
from spinn_stream.train.backbone.network import EarlyExitNetwork
from spinn_stream.train.data.images import LabelledImages, Scaling, augment, blend

from .checkpoint import Checkpoint
from .views import Views

ALL = "backbone"
"""A value of `freeze`: every layer of the backbone but a new classifier."""


@dataclass(frozen=True)
class TrainingConfig:
    """All that decides the result of a run, besides the data and the network."""

    epochs: float = 4.0  # passes over the images; a fraction is allowed
    batch_size: int = 64
    image_sizes: tuple[tuple[float, int], ...] = ((1.0, 128),)  # (until this share of the steps, pixels), in order
    lr_backbone: float = 4e-4  # peak, AdamW
    lr_heads: float = 2e-3  # peak, new classifiers and exit heads
    weight_decay: float = 0.02
    warmup: float = 0.03  # share of the steps over which the rate rises; then a cosine to zero
    label_smoothing: float = 0.05
    exit_weight_start: float = 0.3  # weight of every exit's loss beside the final one's 1.0: rises over
    exit_weight_end: float = 0.7  # the first half of training, then stays
    distillation: float = 0.5  # share of an exit's loss that comes from the final exit's softened answer
    distillation_temperature: float = 2.0
    freeze: str = ""  # name of the cut point up to which the backbone stays as it is; `backbone`: all of it
    keep_head: bool = False  # the final exit is trained already: it stays, and its answers are the labels
    blended: float = 0.0  # with a head that is kept: share of the crops over which another one is laid
    views: int = 0  # with all of it frozen: augmented views of every image that it is run on, once; 0: every epoch
    keep_layout: bool = False  # pictures are neither cropped nor mirrored: labels say where something is
    seed: int = 1

    def __post_init__(self) -> None:
        if self.epochs <= 0 or self.batch_size <= 1:
            raise ValueError(
                f"got {self.epochs:g} epochs and a batch of {self.batch_size}, expected epochs > 0 and 2 or more"
            )
        if self.keep_head and self.freeze != ALL:
            raise ValueError(f"got a head to keep with {self.freeze or 'nothing'} frozen, expected {ALL} frozen")
        if not 0 <= self.blended <= (1 if self.keep_head else 0):
            raise ValueError(f"got blended {self.blended:g}, expected 0 to 1, and 0 if labels teach")
        if self.views and self.keep_layout:
            raise ValueError(f"got {self.views} views and a layout to keep, expected one of them")
        if self.views < 0 or (self.views and (self.freeze != ALL or len(self.image_sizes) > 1)):
            raise ValueError(
                f"got {self.views} views with {len(self.image_sizes)} image sizes and {self.freeze or 'nothing'} "
                f"frozen, expected one size and {ALL} frozen, or no views"
            )
        ends = [end for end, _ in self.image_sizes]
        if ends != sorted(ends) or not ends or ends[-1] != 1.0 or any(size < 32 for _, size in self.image_sizes):
            raise ValueError(
                f"image sizes are {self.image_sizes}, expected rising shares up to 1, each of 32 or more pixels"
            )

    def image_size(self, progress: float) -> int:
        """Pixels at this share of the training."""
        return next(size for end, size in self.image_sizes if progress < end or end == 1.0)


def joint_loss(
    exits: list[torch.Tensor], final: torch.Tensor, labels: torch.Tensor, config: TrainingConfig, progress: float
) -> torch.Tensor:
    """Final loss + weight(progress) * the sum of the exits' losses (SPINN, section on the model generator).

    If the head is kept, there is no final loss, and its likeliest class is the label.

    Args:
        exits: (B, num_classes) logits per exit. final: the same of the final exit.
        labels: (B,) int64; ignored if the head is kept.
        progress: share of the training that is done, 0 to 1.
    """
    if config.keep_head:
        labels, total = final.detach().argmax(1), final.new_zeros(())
    else:
        total = F.cross_entropy(final, labels, label_smoothing=config.label_smoothing)
    ramp = min(1.0, 2 * progress)
    weight = config.exit_weight_start + (config.exit_weight_end - config.exit_weight_start) * ramp
    t = config.distillation_temperature
    teacher = F.log_softmax(final.detach() / t, dim=1)
    for logits in exits:
        hard = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
        soft = F.kl_div(F.log_softmax(logits / t, dim=1), teacher, log_target=True, reduction="batchmean") * t * t
        total = total + weight * ((1 - config.distillation) * hard + config.distillation * soft)
    return total


def new_classifier(network: EarlyExitNetwork) -> nn.Linear | None:
    """The backbone's last linear layer, if it makes the logits and was not trained to these classes before."""
    if not network.is_classifier_new:
        return None
    classes = network.cuts[-1].shape[0]
    linear = [m for m in network.stages[-1].modules() if isinstance(m, nn.Linear) and m.out_features == classes]
    return linear[-1] if linear else None


@dataclass(frozen=True)
class Progress:
    """The progress of a training. images_per_s: since the last report."""

    step: int
    steps: int
    loss: float
    images_per_s: float
    minutes_left: float


def keep_freed_memory() -> None:
    """Let glibc keep memory that tensors free, instead of returning it and faulting it in again every step.

    This makes training on a CPU faster (benchmarks/training.py). Without glibc, nothing happens.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # M_* of malloc.h
    mallopt(mmap_threshold, 2**31 - 1)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 2**28)


def _rate(step: int, steps: int, warmup: float) -> float:
    rise = max(1, int(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _frozen(network: EarlyExitNetwork, freeze: str) -> int:
    """Number of stages that stay as they are."""
    if not freeze:
        return 0
    names = [c.name for c in network.cuts[1:]]
    if freeze == ALL:
        return len(names)
    if freeze not in names:
        raise ConfigError(f"cannot freeze up to {freeze!r}; expected {ALL} or one of {', '.join(names)}")
    return names.index(freeze) + 1


def _freeze(network: EarlyExitNetwork, frozen: int, new: Iterable[nn.Parameter]) -> None:
    """Keep the first `frozen` stages as they are, except for what is new in them."""
    network.freeze(frozen)
    for p in new:
        p.requires_grad_(True)


def _optimizer(network: EarlyExitNetwork, new: list[nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
    known = {id(p) for p in new}
    every = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in every if id(p) not in known], "peak": config.lr_backbone},
            {"params": [p for p in every if id(p) in known], "peak": config.lr_heads},
        ],
        lr=config.lr_backbone,
        weight_decay=config.weight_decay,
    )


def _run(
    network: EarlyExitNetwork,
    pixels: torch.Tensor,
    scaling: Scaling,
    *,
    size: int,
    blended: float,
    keep_layout: bool,
    seed: int,
    device: str,
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Logits of every exit and the final one for crops of these images, (B, H, W, 3) uint8, that the seed decides."""
    generator = torch.Generator().manual_seed(seed)
    x = augment(pixels, size, generator, keep_layout=keep_layout)
    x = blend(x, blended, generator) if blended else x
    with torch.autocast(device, torch.bfloat16):
        answers: tuple[list[torch.Tensor], torch.Tensor] = network(((x - scaling.mean) * scaling.scale).to(device))
    return answers


def train(
    network: EarlyExitNetwork,
    images: LabelledImages,
    config: TrainingConfig,
    scaling: Scaling,
    *,
    checkpoint: Path,
    report: Callable[[Progress], None],
    views: Views | None = None,
    device: str = "cpu",
    checkpoint_every: int = 100,
    report_every: int = 20,
    stop_after: int | None = None,
) -> None:
    """Train in place; continue from `checkpoint` where it exists.

    The order of the images and every crop depend on the seed and the step alone, so that a resumed run
    sees what an uninterrupted one would have seen. Autocast to bfloat16, channels last.

    Args:
        views: stored activations of the backbone, which then is not run. See `make_views`.
        device: cpu or cuda.
        stop_after: end after this step as if interrupted.

    Raises:
        ConfigError: the checkpoint was made with another configuration or from another bundle; a freeze that names
            no cut point.
        DataError: fewer than two images, an unreadable checkpoint, a checkpoint that cannot be written,
            a loss that is no longer finite.
    """
    if len(images) < 2:
        raise DataError(f"got {len(images)} images to train on, expected 2 or more")
    batch_size = min(config.batch_size, len(images))
    steps = max(1, int(config.epochs * len(images) / batch_size))
    frozen = _frozen(network, config.freeze)
    new = [p for module in (network.heads, new_classifier(network)) if module is not None for p in module.parameters()]
    _freeze(network, frozen, new)
    optimizer = _optimizer(network, new, config)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.to(device)
    origin = {"bundle": network.origin} if network.origin else {}
    saved = Checkpoint(checkpoint, json.dumps(asdict(config) | origin))
    start = saved.load(network, optimizer)
    network.train()
    _freeze(network, frozen, new)
    per_epoch = len(images) // batch_size
    order: torch.Tensor | None = None
    seen_since, since = 0, time.monotonic()
    end = steps if stop_after is None else min(steps, stop_after)
    with fast_depthwise(network) if device == "cpu" else nullcontext():
        for step in range(start, end):
            epoch, position = divmod(step, per_epoch)
            if order is None or position == 0:
                order = torch.randperm(len(images), generator=torch.Generator().manual_seed(config.seed * 1000 + epoch))
            rows = order[position * batch_size : (position + 1) * batch_size].numpy()
            labels = torch.from_numpy(images.labels[rows]).to(device)
            seed = config.seed * 10_000_000 + step
            torch.manual_seed(seed)  # dropout
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * _rate(step, steps, config.warmup)
            if views is not None:
                exits, final = views.answers(network, rows, epoch, device)
            else:
                pixels, size = torch.from_numpy(images.pixels[rows]), config.image_size(step / steps)
                exits, final = _run(
                    network, pixels, scaling, size=size, blended=config.blended, keep_layout=config.keep_layout,
                    seed=seed, device=device,
                )  # fmt: skip
            loss = joint_loss([e.float() for e in exits], final.float(), labels, config, step / steps)
            if not torch.isfinite(loss):
                raise DataError(
                    f"the loss is {loss.item()} at step {step + 1}; lower --lr or --lr-heads, "
                    f"and continue from {checkpoint} or begin anew in another --work folder"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_([p for p in network.parameters() if p.requires_grad], 5.0)
            optimizer.step()
            seen_since += len(rows)
            if (step + 1) % report_every == 0 or step + 1 == steps:
                speed = seen_since / (time.monotonic() - since)
                left = (steps - step - 1) * batch_size / speed / 60
                report(Progress(step + 1, steps, loss.item(), speed, left))
                seen_since, since = 0, time.monotonic()
            if (step + 1) % checkpoint_every == 0 or step + 1 == end:
                saved.save(network, optimizer, step + 1)
    network.cpu()
