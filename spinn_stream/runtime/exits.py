"""Logits of an exit -> a calibrated answer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from spinn_stream.runtime.engines.base import ExitOutput

TOP_K = 5

PLAIN = 60
"""Exponentials of values from minus this to this, and the sum of a million of them, are ordinary float32."""

Top = tuple[tuple[int, float], ...]
"""(class, probability), the likeliest first."""


class Answer:
    """One exit's answer for one frame.

    exit: name of the exit. confidence: calibrated probability of the likeliest class.
    """

    __slots__ = ("_label", "_logits", "_temperature", "_top", "confidence", "exit")

    def __init__(
        self,
        exit: str,
        label: int | None,
        confidence: float,
        top: Top | None,
        *,
        logits: npt.NDArray[np.float32] | None = None,
        temperature: float = 1.0,
    ) -> None:
        """
        Args:
            label, top: the likeliest class, and the likeliest ones; None: computed from the frame's logits, (classes,),
                on demand.
        """
        self.exit, self.confidence = exit, confidence
        self._label, self._top, self._logits, self._temperature = label, top, logits, temperature

    @property
    def label(self) -> int:
        """Index of the likeliest class."""
        if self._label is None:
            assert self._logits is not None
            self._label = int(self._logits.argmax())
        return self._label

    @property
    def top(self) -> Top:
        """The TOP_K likeliest classes."""
        if self._top is None:
            assert self._logits is not None
            shares = probabilities(self._logits, self._temperature)
            best = np.argsort(-shares, kind="stable")[:TOP_K]
            self._top = tuple((int(k), float(shares[k])) for k in best)
        return self._top

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Answer):
            return NotImplemented
        return (self.exit, self.label, self.confidence, self.top) == (
            other.exit, other.label, other.confidence, other.top
        )  # fmt: skip

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Answer({self.exit!r}, {self.label}, {self.confidence:.4f}, {self.top})"


def probabilities(logits: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float64]:
    """Softmax of logits / temperature over the last axis."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=-1, keepdims=True)
    return scaled


def grouped(exit_name: str, output: ExitOutput, temperature: float, group_of: npt.NDArray[np.intp]) -> list[Answer]:
    """One answer for each row of the logits, with groups of classes: their calibrated probabilities are added up.

    Args:
        group_of: (classes,), for each class the index of its group.
    """
    found = []
    for shares in probabilities(output.logits, temperature):
        sums = np.bincount(group_of, weights=shares)
        best = np.argsort(-sums, kind="stable")[:TOP_K]
        top = tuple((int(k), min(float(sums[k]), 1.0)) for k in best)
        found.append(Answer(exit_name, top[0][0], top[0][1], top))
    return found


def answers(exit_name: str, output: ExitOutput, temperature: float) -> list[Answer]:
    """One answer for each row of the logits, which are copied.

    Confidence is the largest softmax probability of logits / temperature (Guo et al. 2017). All else is computed on
    demand, since most answers of early exits are only compared.
    """
    logits = output.logits
    if output.confidence is not None:
        if len(logits) == 1:
            own = logits[0].copy()
            return [Answer(exit_name, None, output.confidence.item(), None, logits=own, temperature=temperature)]
        return [
            Answer(exit_name, None, confidence, None, logits=row, temperature=temperature)
            for confidence, row in zip(output.confidence.ravel().tolist(), logits.copy(), strict=True)
        ]
    if len(logits) == 1:
        label = int(logits.argmax())
        peak = logits.item(label) / temperature
        if -PLAIN < peak < PLAIN:
            # A device does this after every exit, its caches full of weights: each call of numpy costs microseconds.
            scaled = logits[0] / temperature
            total = float(np.add.reduce(np.exp(scaled)))
            return [Answer(exit_name, label, math.exp(peak) / total, None, logits=scaled)]
    with np.errstate(over="ignore"):  # a difference beyond float32 is a probability of 0
        shares = logits - logits.max(axis=1, keepdims=True)
        shares *= np.float32(1 / temperature)
    np.exp(shares, out=shares)
    confidences = (1 / shares.sum(axis=1)).tolist()
    return [
        Answer(exit_name, label, confidence, None, logits=row, temperature=temperature)
        for label, confidence, row in zip(logits.argmax(axis=1).tolist(), confidences, logits.copy(), strict=True)
    ]
