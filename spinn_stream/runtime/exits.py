"""Logits of an exit -> a calibrated answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TOP_K = 5


@dataclass(frozen=True)
class Answer:
    """What one exit says of one frame.

    exit: name of the exit. label: index of the likeliest class. confidence: its calibrated probability.
    top: the TOP_K likeliest (class, probability), best first.
    """

    exit: str
    label: int
    confidence: float
    top: tuple[tuple[int, float], ...]


def probabilities(logits: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float64]:
    """Softmax of logits / temperature over the last axis."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=-1, keepdims=True)
    return scaled


def answers(exit_name: str, logits: npt.NDArray[np.float32], temperature: float) -> list[Answer]:
    """One answer for each row of the logits.

    Confidence is the largest softmax probability of logits / temperature (Guo et al. 2017).

    Args:
        logits: (B, classes) float32.
    """
    with np.errstate(over="ignore"):  # a difference beyond float32 is a probability of 0
        scores = logits - logits.max(axis=1, keepdims=True)
        scores *= np.float32(1 / temperature)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    count = min(TOP_K, scores.shape[1])
    best = np.argpartition(scores, scores.shape[1] - count, axis=1)[:, -count:]
    rows = []
    for row, classes in zip(scores, best, strict=True):
        ordered = sorted((-float(row[k]), int(k)) for k in classes)
        top = tuple((k, -p) for p, k in ordered)
        rows.append(Answer(exit_name, top[0][0], top[0][1], top))
    return rows
