"""Temperatures, so that confidence means the chance of being right."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle
from spinn_stream.frame import crop, normalise
from spinn_stream.runtime.engines.base import Engine
from spinn_stream.runtime.exits import probabilities

BINS = 15
"""Bins of the expected calibration error, as in Guo et al. 2017."""

LEAST_TEMPERATURE, GREATEST_TEMPERATURE = 0.05, 20.0

Logits = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


def batches(bundle: Bundle, pixels: Pixels, size: int = 50) -> Iterator[npt.NDArray[np.float32]]:
    """Images as the network sees frames of them, `size` at a time.

    Args:
        pixels: (N, H, W, 3) uint8, RGB.
    """
    for i in range(0, len(pixels), size):
        rows = (normalise(crop(p[:, :, ::-1], bundle.input.size), bundle.input) for p in pixels[i : i + size])
        yield np.concatenate(list(rows))


def collect_logits(
    bundle: Bundle, engine: Engine, pixels: Pixels, progress: Callable[[int], None] = lambda done: None
) -> Logits:
    """One pass over the images: (exits, N, classes) logits, the final exit last.

    Args:
        pixels: (N, H, W, 3) uint8, RGB. progress: called with the number of images done.
    """
    rows: list[npt.NDArray[np.float32]] = []
    for x in batches(bundle, pixels):
        exits = []
        y = x
        for start, stop in bundle.pieces(0, bundle.last):
            y, output = engine.run(start, stop, y)
            assert output is not None  # each piece ends at an exit
            exits.append(output.logits.copy())  # the engine may use its memory again
        rows.append(np.stack(exits))
        progress(sum(r.shape[1] for r in rows))
    return np.concatenate(rows, axis=1)


def _negative_log_likelihood(logits: Logits, labels: npt.NDArray[np.int64], temperature: float) -> float:
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    own = scaled[np.arange(len(labels)), labels]
    return float((np.log(np.exp(scaled).sum(axis=1)) - own).mean())


def fit_temperature(logits: Logits, labels: npt.NDArray[np.int64]) -> float:
    """The temperature that gives the labels the highest likelihood (Guo et al. 2017), by golden section.

    The likelihood has one maximum over 1 / temperature, since it is concave there.

    Args:
        logits: (N, classes). labels: (N,).
    """
    golden = (5**0.5 - 1) / 2
    low, high = np.log(LEAST_TEMPERATURE), np.log(GREATEST_TEMPERATURE)
    a, b = high - golden * (high - low), low + golden * (high - low)
    at_a = _negative_log_likelihood(logits, labels, float(np.exp(a)))
    at_b = _negative_log_likelihood(logits, labels, float(np.exp(b)))
    while high - low > 1e-4:
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - golden * (high - low)
            at_a = _negative_log_likelihood(logits, labels, float(np.exp(a)))
        else:
            low, a, at_a = a, b, at_b
            b = low + golden * (high - low)
            at_b = _negative_log_likelihood(logits, labels, float(np.exp(b)))
    return float(np.exp((low + high) / 2))


def confidences(
    logits: Logits, temperatures: tuple[float, ...], labels: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Confidence of each exit's answer, and whether it is right, both (exits, N).

    Args:
        logits: (exits, N, classes). temperatures: one per exit. labels: (N,).
    """
    sure, right = [], []
    for exit_logits, temperature in zip(logits, temperatures, strict=True):
        p = probabilities(exit_logits, temperature)
        sure.append(p.max(axis=1))
        right.append(p.argmax(axis=1) == labels)
    return np.stack(sure), np.stack(right)


def calibration_error(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error: mean |accuracy - confidence| over equal-width bins, weighted by their share."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    error = 0.0
    for b in range(BINS):
        inside = bins == b
        if inside.any():
            error += float(inside.mean()) * abs(float(right[inside].mean()) - float(confidence[inside].mean()))
    return error
