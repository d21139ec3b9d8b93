"""Temperatures and calibration errors, against what they are by definition."""

from __future__ import annotations

import numpy as np
import pytest

from spinn_stream.runtime.exits import probabilities
from spinn_stream.train.pack.calibration import calibration_error, confidences, fit_temperature


def drawn(temperature: float, images: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(0)
    logits = (3 * rng.normal(size=(images, 5))).astype(np.float32)
    p = probabilities(logits, temperature)
    labels = (p.cumsum(axis=1) > rng.uniform(size=(images, 1))).argmax(axis=1)
    return logits, labels.astype(np.int64)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5, 7.0])
def test_a_fitted_temperature_is_the_one_the_labels_were_drawn_with(temperature: float) -> None:
    logits, labels = drawn(temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


def test_a_fitted_temperature_calibrates() -> None:
    logits, labels = drawn(2.5)
    sure, right = confidences(np.stack([logits, logits]), (1.0, fit_temperature(logits, labels)), labels)
    assert calibration_error(sure[0], right[0]) > 0.1
    assert calibration_error(sure[1], right[1]) < 0.015


def test_one_image_gives_a_temperature_within_bounds() -> None:
    one = np.array([[5.0, 0.0]], np.float32)
    assert 0.04 < fit_temperature(one, np.array([0])) < 0.2  # right: surer than float64 can tell from certain
    assert 19 < fit_temperature(one, np.array([1])) < 21  # wrong: as unsure as allowed


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    right = np.array([True, True, True, False, True, False])
    # bin of 0.95: accuracy 0.75, four of six; bin of 0.55: accuracy 0.5, two of six
    assert calibration_error(confidence, right) == pytest.approx(4 / 6 * 0.2 + 2 / 6 * 0.05)
