"""Joint training of a backbone and its exits, with checkpoints to resume from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from .images import LabelledImages, augment, resize
from .network import EarlyExitNetwork

PIXEL_MEAN = 127.0
PIXEL_SCALE = 1 / 128.0
"""Network input = (pixel - mean) * scale, as EfficientNet-Lite was trained (TPU repository, lite preprocessing)."""


@dataclass(frozen=True)
class TrainingConfig:
    """What decides the result of a run, besides the data and the network."""

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
    seed: int = 1

    def __post_init__(self) -> None:
        if self.epochs <= 0 or self.batch_size <= 1:
            raise ValueError(f"epochs must be > 0 and batch_size > 1, got {self}")
        ends = [end for end, _ in self.image_sizes]
        if ends != sorted(ends) or not ends or ends[-1] != 1.0 or any(size < 32 for _, size in self.image_sizes):
            raise ValueError(f"image_sizes must be rising shares up to 1.0, each of 32 pixels or more, got {self}")

    def image_size(self, progress: float) -> int:
        """Pixels at this share of the training."""
        return next(size for end, size in self.image_sizes if progress < end or end == 1.0)


def joint_loss(
    exits: list[torch.Tensor], final: torch.Tensor, labels: torch.Tensor, config: TrainingConfig, progress: float
) -> torch.Tensor:
    """Final loss + weight(progress) * the sum of the exits' losses (SPINN, section on the model generator).

    Args:
        exits: (B, num_classes) logits per exit. final: the same of the final exit.
        labels: (B,) int64.
        progress: share of the training that is done, 0 to 1.
    """
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


def adopt_classifier(network: EarlyExitNetwork, pretrained: torch.nn.Linear, images: LabelledImages, size: int) -> int:
    """Start the final classifier from the rows of a pretrained one that fire most on each class's images.

    The new classes are often among those the backbone knows; which row is whose is found by looking.

    Returns:
        How many classes got a row that no other class got.
    """
    final_stage = network.stages["final"]
    assert isinstance(final_stage, torch.nn.Sequential)
    final = final_stage[-1]
    assert isinstance(final, torch.nn.Linear)
    features: list[torch.Tensor] = []
    network.eval()
    with torch.inference_mode():
        for i in range(0, len(images), 100):
            x = (resize(torch.from_numpy(images.pixels[i : i + 100]), size) - PIXEL_MEAN) * PIXEL_SCALE
            for name, stage in network.stages.items():
                x = stage(x) if name != "final" else final_stage[:-1](x)
            features.append(x)
        probabilities = pretrained(torch.cat(features)).softmax(1)
        labels = torch.from_numpy(images.labels)
        classes = final.out_features
        score = torch.stack([probabilities[labels == c].mean(0) for c in range(classes)])  # (classes, rows)
        rows = score.argmax(1)
        final.weight.copy_(pretrained.weight[rows])
        final.bias.copy_(pretrained.bias[rows])
    return len(set(rows.tolist()))


def _rate(step: int, steps: int, warmup: float) -> float:
    rise = max(1, int(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def train(
    network: EarlyExitNetwork,
    images: LabelledImages,
    config: TrainingConfig,
    *,
    checkpoint: Path,
    report: Callable[[dict[str, float]], None],
    checkpoint_every: int = 100,
) -> None:
    """Train in place; continue from `checkpoint` where it exists.

    The order of the images and every crop depend on the seed and the step alone, so that a resumed run
    sees what an uninterrupted one would have seen.

    Args:
        report: called every 20 steps with step, steps, loss, images_per_s, minutes_left.

    Raises:
        ValueError: the checkpoint was made with another configuration.
        FloatingPointError: the loss is no longer finite.
    """
    steps = int(config.epochs * len(images) / config.batch_size)
    new = [p for n, p in network.named_parameters() if n.startswith("exits.") or n.startswith("stages.final.5")]
    known = {id(p) for p in new}
    old = [p for p in network.parameters() if id(p) not in known]
    optimizer = torch.optim.AdamW(
        [{"params": old, "peak": config.lr_backbone}, {"params": new, "peak": config.lr_heads}],
        lr=config.lr_backbone,
        weight_decay=config.weight_decay,
    )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    start = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["config"] != json.dumps(asdict(config)):
            raise ValueError(f"{checkpoint} was made with {saved['config']}, asked for {json.dumps(asdict(config))}")
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        start = int(saved["step"])
    network.train()
    per_epoch = len(images) // config.batch_size
    order: torch.Tensor | None = None
    seen_since, since = 0, time.monotonic()
    for step in range(start, steps):
        epoch, position = divmod(step, per_epoch)
        if order is None or position == 0:
            order = torch.randperm(len(images), generator=torch.Generator().manual_seed(config.seed * 1000 + epoch))
        generator = torch.Generator().manual_seed(config.seed * 10_000_000 + step)
        torch.manual_seed(config.seed * 10_000_000 + step)  # dropout
        rows = order[position * config.batch_size : (position + 1) * config.batch_size].numpy()
        x = augment(torch.from_numpy(images.pixels[rows]), config.image_size(step / steps), generator)
        x = (x - PIXEL_MEAN) * PIXEL_SCALE
        labels = torch.from_numpy(images.labels[rows])
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * _rate(step, steps, config.warmup)
        with torch.autocast("cpu", torch.bfloat16):
            exits, final = network(x)
        loss = joint_loss([e.float() for e in exits], final.float(), labels, config, step / steps)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}; lower the learning rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        seen_since += len(rows)
        if (step + 1) % 20 == 0 or step + 1 == steps:
            rate = seen_since / (time.monotonic() - since)
            report(
                {
                    "step": step + 1,
                    "steps": steps,
                    "loss": round(loss.item(), 4),
                    "images_per_s": round(rate, 1),
                    "minutes_left": round((steps - step - 1) * config.batch_size / rate / 60, 1),
                }
            )
            seen_since, since = 0, time.monotonic()
        if (step + 1) % checkpoint_every == 0 or step + 1 == steps:
            partial = checkpoint.with_suffix(".partial")
            torch.save(
                {
                    "network": network.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step + 1,
                    "config": json.dumps(asdict(config)),
                },
                partial,
            )
            partial.replace(checkpoint)
