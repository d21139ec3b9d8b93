"""Every plan that a bundle allows, with all figures that depend on neither link nor loads. Set up once.

A *way* is what the network does to a frame under a split and a threshold (and the time to encode behind it); plans
that differ in the codec alone share one. Arrays are over ways (W) or plans (P); exits (E) count the final one.
Milliseconds are those of undisturbed machines. Formulas: docs/scheduler/prediction.md.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from spinn_stream.codec.settings import CodecSetting
from spinn_stream.plan.plan import Plan

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Ways:
    """What the device does to a frame, from taking it on.

    ends: (E + 1, W) ms, when each exit on the device is done (an exit that is not run counts as the one before it); the
        last row: when a frame is ready to be sent.
    weights: (E + 1, W), share of the frames that end at each exit, 0 behind the split; the last row: the share sent.
    busy: (W,) ms, the mean of `ends`. slowest: (W,) ms, the last exit that answers; 0: none does.
    fallback: (E, W), accuracy if the best exit up to this one answers all frames that would go beyond it; -inf: none is
        evaluated on the device.
    local_mean, local_spread: (W,) ms, mean of the frames answered on the device, and distance to their quantile.
    head_var: (W,) ms^2, variance of the time until a frame is sent.
    """

    ends: Floats
    weights: Floats
    busy: Floats
    slowest: Floats
    fallback: Floats
    local_mean: Floats
    local_spread: Floats
    head_var: Floats


@dataclass(frozen=True)
class PlanTable:
    """P plans, in the order of splits, then settings, then thresholds.

    reference: accuracy of the whole network without exits and codec.
    rescue_ms, rescue_accuracy: of a rescue, the device's run to its first exit.
    number: (P,), the plan's index in the whole table.
    split, threshold, setting: indices into the bundle's cut points, `thresholds` and `settings` (-1: nothing is sent).
    way: index of its way. sent: share of the frames that are sent.
    size, size_var: bytes of one message, bytes^2, by the tables.
    server: ms of decoding and tail for a frame sent; server_cv2: their squared coefficient of variation; tail_var:
    ms^2.
    on_device: whether the 95 % quantile is among the frames answered on the device. If not, zz is z |z| for its place z
        among the frames sent, in standard deviations, and tail_dd the same for the tail alone, in ms from its mean.
    accuracy: without late answers. server_cost: ms a frame.
    """

    ways: Ways
    thresholds: tuple[float | None, ...]
    settings: tuple[CodecSetting, ...]
    last: int
    reference: float
    rescue_ms: float
    rescue_accuracy: float
    split: Ints
    threshold: Ints
    setting: Ints
    way: Ints
    sent: Floats
    size: Floats
    size_var: Floats
    server: Floats
    server_cv2: Floats
    tail_var: Floats
    zz: Floats
    tail_dd: Floats
    on_device: npt.NDArray[np.bool_]
    accuracy: Floats
    server_cost: Floats
    number: Ints

    def __len__(self) -> int:
        return len(self.split)

    def plan(self, index: int, id: int = 0) -> Plan:
        """One of them, as the client takes it."""
        setting = int(self.setting[index])
        return Plan(
            id, int(self.split[index]), self.thresholds[self.threshold[index]],
            None if setting < 0 else self.settings[setting],
        )  # fmt: skip

    def take(self, chosen: npt.ArrayLike) -> PlanTable:
        """Some of the plans, by index or mask; `number` says which they were."""
        keep = np.flatnonzero(chosen) if np.asarray(chosen).dtype == bool else np.asarray(chosen, np.intp)
        used, way = np.unique(self.way[keep], return_inverse=True)
        per_plan = {
            f.name: value[keep]
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), np.ndarray) and f.name != "way"
        }
        ways = Ways(**{f.name: np.ascontiguousarray(getattr(self.ways, f.name)[..., used]) for f in fields(Ways)})
        return PlanTable(
            ways=ways, way=way, thresholds=self.thresholds, settings=self.settings, last=self.last,
            reference=self.reference, rescue_ms=self.rescue_ms, rescue_accuracy=self.rescue_accuracy,
            **per_plan,
        )  # fmt: skip
