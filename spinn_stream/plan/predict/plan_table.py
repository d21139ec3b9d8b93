"""Every plan that a bundle allows, with all figures that depend on neither link nor loads. Set up once.

A *way* is what the device does to a frame under a split and a threshold (and the time to encode behind it); plans
that differ in the codec alone share one. Arrays are over ways (W) or plans (P); exits (E) count the final one.
Milliseconds are those of undisturbed machines. Formulas: docs/scheduler/prediction.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from spinn_stream.codec.settings import CodecSetting
from spinn_stream.plan.plan import Plan

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

QUANTILE = 0.95
Z95 = math.sqrt(3) / math.pi * math.log(QUANTILE / (1 - QUANTILE))
"""What `latency_ms.p95` speaks of, and its place in a logistic distribution, in standard deviations from the mean."""


@dataclass(frozen=True)
class Ways:
    """What the device does to a frame, from taking it on.

    ends: (E + 1, W) ms, when each exit on the device is done; the last row: when a frame is ready to be sent.
    weights: (E + 1, W), share of the frames that end at each exit, 0 behind the split; the last row: the share sent.
    alone: (E, W), accuracy if the exit answers all frames that come to it; -inf: it is not run on the device.
    sent_var: (W,) ms^2, variance of the last row of `ends`.
    local_ms, late_ms: (W,), mean of the frames answered on the device, and the 95 % quantile of all frames if it is
        among these.
    """

    ends: Floats
    weights: Floats
    alone: Floats
    sent_var: Floats
    local_ms: Floats
    late_ms: Floats


@dataclass(frozen=True)
class PlanTable:
    """P plans, in the order of splits, then settings, then thresholds.

    reference: accuracy of the whole network without exits and codec.
    rescue_ms, rescue_accuracy: of a rescue, the device's run to its first exit.
    number: (P,), the plan's index in the whole table.
    split, threshold, setting: indices into the bundle's cut points, `thresholds` and `settings` (-1: nothing is sent).
    way: index of its way. sent: share of the frames that are sent.
    size, size_var: bytes of one message, bytes^2, by the tables.
    server, tail_var: ms of decoding and tail for a frame sent; ms^2.
    z: place of the 95 % quantile among the frames sent, in standard deviations from their mean.
    accuracy: without late answers.
    """

    ways: Ways
    thresholds: tuple[float | None, ...]
    settings: tuple[CodecSetting, ...]
    last: int
    reference: float
    rescue_ms: float
    rescue_accuracy: float
    number: Ints
    split: Ints
    threshold: Ints
    setting: Ints
    way: Ints
    sent: Floats
    size: Floats
    size_var: Floats
    server: Floats
    tail_var: Floats
    z: Floats
    accuracy: Floats

    def __len__(self) -> int:
        return len(self.split)

    def plan(self, index: int, id: int = 0) -> Plan:
        """One of them, as the client takes it."""
        setting = int(self.setting[index])
        codec = None if setting < 0 else self.settings[setting]
        return Plan(id, int(self.split[index]), self.thresholds[self.threshold[index]], codec)

    def take(self, chosen: npt.ArrayLike) -> PlanTable:
        """Some of the plans, by index or mask; `number` says which they were."""
        keep = np.arange(len(self))[np.asarray(chosen) if np.size(chosen) else slice(0)]
        taken: dict[str, Any] = {
            f.name: getattr(self, f.name)[keep] for f in fields(self) if f.type in ("Ints", "Floats")
        }
        return replace(self, **taken)
