"""Temperatures, so that confidence means the chance of being right, and the threshold curve they give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from .images import LabelledImages, resize
from .network import EarlyExitNetwork

BINS = 15
"""Of the expected calibration error, as Guo et al. 2017."""


def collect_logits(
    network: EarlyExitNetwork, images: LabelledImages, size: int, *, mean: float, scale: float, batch: int = 100
) -> torch.Tensor:
    """One pass over the images: (exits + 1, N, classes) logits, the final exit last."""
    network.eval()
    rows: list[torch.Tensor] = []
    with torch.inference_mode():
        for i in range(0, len(images), batch):
            x = resize(torch.from_numpy(images.pixels[i : i + batch]), size).round()  # as OpenCV, to whole pixels
            exits, final = network((x - mean) * scale)
            rows.append(torch.stack([*exits, final]))
    return torch.cat(rows, dim=1)


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The temperature that gives the labels the highest likelihood (Guo et al. 2017).

    Args:
        logits: (N, classes). labels: (N,) int64.
    """
    log_t = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], lr=0.1, max_iter=100)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(logits / log_t.exp(), labels)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return float(log_t.detach().exp())


def calibration_error(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error: mean |accuracy - confidence| over equal-width bins, weighted by their share."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    error = 0.0
    for b in range(BINS):
        inside = bins == b
        if inside.any():
            error += float(inside.mean()) * abs(float(right[inside].mean()) - float(confidence[inside].mean()))
    return error


def threshold_curve(
    confidences: npt.NDArray[np.float64],
    right: npt.NDArray[np.bool_],
    costs: Sequence[float],
    thresholds: Sequence[float],
) -> list[tuple[float, float, float]]:
    """What each threshold gives when the first exit that is confident enough answers.

    Args:
        confidences, right: (exits + 1, N). costs: of answering at each exit, heads before it included,
            as a share of the backbone's multiply-adds.

    Returns:
        (threshold, accuracy, mean cost) for each threshold.
    """
    curve = []
    for threshold in thresholds:
        passes = confidences >= threshold
        passes[-1] = True
        first = passes.argmax(axis=0)
        rows = np.arange(right.shape[1])
        curve.append((threshold, float(right[first, rows].mean()), float(np.asarray(costs)[first].mean())))
    return curve
