"""Labelled images in memory, and how training and evaluation prepare them; `datasets` reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class LabelledImages:
    """Decoded images of one size, held in memory.

    pixels: (N, H, W, 3) uint8, RGB. labels: (N,) int64.
    """

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: slice) -> LabelledImages:
        return LabelledImages(self.pixels[index], self.labels[index])


@dataclass(frozen=True)
class Scaling:
    """Network input = (pixel - mean) * scale."""

    mean: float
    scale: float


def augment(
    pixels: torch.Tensor,
    size: int,
    generator: torch.Generator,
    *,
    smallest_area: float = 0.35,
    keep_layout: bool = False,
) -> torch.Tensor:
    """Random resized crop, mirror, brightness and contrast for a whole batch at once.

    Args:
        pixels: (B, H, W, 3) uint8.
        size: side of the result in pixels.
        smallest_area: least share of the image's area that a crop keeps.
        keep_layout: no crop and no mirror, for labels that say where something is.

    Returns:
        (B, 3, size, size) float32 in 0..255, channels last.
    """
    batch = pixels.shape[0]

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.empty(batch).uniform_(low, high, generator=generator)

    area, log_ratio = uniform(smallest_area, 1.0), uniform(-0.288, 0.288)  # aspect ratio 3/4 .. 4/3, as torchvision
    w = (area * log_ratio.exp()).sqrt().clamp(max=1.0)
    h = (area / log_ratio.exp()).sqrt().clamp(max=1.0)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = w * mirror, uniform(-1, 1) * (1 - w)
    theta[:, 1, 1], theta[:, 1, 2] = h, uniform(-1, 1) * (1 - h)
    if keep_layout:
        images = resize(pixels, size)
    else:
        images = pixels.permute(0, 3, 1, 2).float()  # (B, 3, H, W)
        grid = F.affine_grid(theta, [batch, 3, size, size], align_corners=False)
        images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    mean = images.mean((1, 2, 3), keepdim=True)
    contrast, brightness = uniform(0.7, 1.3).view(-1, 1, 1, 1), uniform(0.7, 1.3).view(-1, 1, 1, 1)
    images = ((images - mean) * contrast + mean * brightness).clamp(0, 255)
    return images.contiguous(memory_format=torch.channels_last)


def blend(images: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Lay another image of the batch over some of them, at random opacity (mixup, Zhang et al. 2018).

    A blend looks like no real image, but a teacher can answer it (Beyer et al. 2022).

    Args:
        images: (B, 3, H, W). share: of the images that become such a blend.
    """
    batch = len(images)
    others = images[torch.randperm(batch, generator=generator)]
    opacity = torch.empty(batch, 1, 1, 1).uniform_(0, 1, generator=generator)
    chosen = torch.empty(batch, 1, 1, 1).uniform_(0, 1, generator=generator) < share
    return torch.lerp(images, others, opacity * chosen)


def resize(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Resizing for evaluation: (B, H, W, 3) uint8 -> (B, 3, size, size) float32 in 0..255, bilinear."""
    images = pixels.permute(0, 3, 1, 2).float()
    images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
    return images.contiguous(memory_format=torch.channels_last)
