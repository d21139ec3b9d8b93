"""A service-level agreement: constraints that every plan must keep, and targets, the most important first.

A plan that breaks a constraint is out. Of the others, those within the first target's tolerance of its best go on to
the next target. At the last one, its best wins (Miettinen, Nonlinear Multiobjective Optimization, 1999, section 4.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", float, npt.NDArray[np.float64])


@dataclass(frozen=True)
class Metric:
    """A figure of a plan.

    said: its name in a sentence. rises: more is better. units: name -> size in the canonical unit, which comes first
    and is meant if no unit is written. scale: a violation counts 1 if the figure is off by its bound or by this,
    whichever is larger. absolute: it is a share up to 1, and tolerances are differences, not shares of the best.
    steady: it hardly wavers with the conditions.
    """

    name: str
    said: str
    rises: bool
    units: dict[str, float] = field(hash=False)
    scale: float = 1.0
    absolute: bool = False
    steady: bool = False

    @property
    def largest(self) -> float:
        """Bound that may be asked for."""
        return 1.0 if self.absolute else 1e21

    @property
    def verb(self) -> str:
        return "maximize" if self.rises else "minimize"

    def signed(self, value: Number) -> Number:
        """So that less is better; done twice, it is the figure again."""
        return -value if self.rises else value


_MS = {"ms": 1.0, "us": 1e-3, "s": 1e3}
_BYTES = {"B/s": 1.0, "kB/s": 1e3, "MB/s": 1e6, "b/s": 0.125, "kb/s": 125.0, "Mb/s": 125e3, "Gb/s": 125e6}
_SHARE = {"": 1.0, "%": 0.01}

METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("latency_ms", "the age of answers", False, _MS),
        Metric("latency_ms.p95", "the age that 95 % of the answers keep", False, _MS),
        Metric("throughput_fps", "the number of answers a second", True, {"fps": 1.0, "Hz": 1.0, "/s": 1.0}),
        Metric("accuracy", "the share of right answers", True, _SHARE, 0.1, absolute=True, steady=True),
        Metric("accuracy_drop", "the loss of accuracy", False, _SHARE, 0.1, absolute=True, steady=True),
        Metric("uplink", "the traffic to the server", False, _BYTES, 1e3),
        Metric("server_cost", "the server's work", False, _MS, steady=True),
        Metric("device_energy", "the device's energy for a frame", False, {"mJ": 1.0, "uJ": 1e-3, "J": 1e3}),
    )
}
"""All figures that an SLA may speak of, in the order of `Figures`; docs/scheduler/asking.md defines them."""

DEFAULT_TOLERANCE, DEFAULT_ABSOLUTE_TOLERANCE = 0.05, 0.005
"""A share of the best, as predictions are about as good as this (docs/scheduler/measured.md); and half a point of
accuracy, which payload tables count as equal, too."""


@dataclass(frozen=True)
class Constraint:
    """bound: in the metric's canonical unit; an upper one, or a lower one where more is better."""

    metric: Metric
    bound: float

    def __post_init__(self) -> None:
        if not 0 <= self.bound <= self.metric.largest:
            raise ValueError(f"{self.metric.name}: bound {self.bound}, expected 0 to {self.metric.largest:g}")

    @property
    def unit(self) -> float:
        """The distance from the bound that counts as a violation of 1."""
        return max(self.bound, self.metric.scale)

    def over(self, value: Number) -> Number:
        """How far beyond the bound; 0 or less if it is kept."""
        return self.bound - value if self.metric.rises else value - self.bound

    def violation(self, value: float) -> float:
        """0 if it is kept."""
        return max(0.0, self.over(value) / self.unit)

    def __str__(self) -> str:
        return f"{self.metric.name} {'>=' if self.metric.rises else '<='} {_written(self.metric, self.bound)}"


@dataclass(frozen=True)
class Target:
    """tolerance: what counts as equally good; None: the default. absolute: in the metric's unit; else of the best."""

    metric: Metric
    tolerance: float | None = None
    absolute: bool = False

    def __post_init__(self) -> None:
        if self.tolerance is not None and not 0 <= self.tolerance <= 1e21:
            raise ValueError(f"{self.metric.name}: tolerance {self.tolerance}, expected 0 to 1e21")
        if self.metric.absolute and self.tolerance is not None and not self.absolute:
            raise ValueError(f"{self.metric.name}: its tolerance is a difference, not a share of the best")

    def limit(self, best: float) -> float:
        """The worst figure that counts as good as the best one."""
        if self.tolerance is None:
            slack = DEFAULT_ABSOLUTE_TOLERANCE if self.metric.absolute else DEFAULT_TOLERANCE * abs(best)
        else:
            slack = self.tolerance if self.absolute else self.tolerance * abs(best)
        return best + self.metric.signed(slack)

    def __str__(self) -> str:
        if self.tolerance is None:
            return self.metric.name
        return f"{self.metric.name} within {_written(self.metric, self.tolerance, share=not self.absolute)}"


@dataclass(frozen=True)
class Sla:
    """Constraints in any order, at most one for each metric; one target or more, the most important first."""

    constraints: tuple[Constraint, ...]
    targets: tuple[Target, ...]

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("an SLA has one target or more")

    def most_lost(self, whole: float) -> float | None:
        """Accuracy that may be lost against the whole network's, 0 to 1; None: it says nothing of accuracy."""
        drops = [c.bound for c in self.constraints if c.metric.name == "accuracy_drop"]
        least = [max(0.0, whole - c.bound) for c in self.constraints if c.metric.name == "accuracy"]
        return min([*drops, *least], default=None)

    def __str__(self) -> str:
        """In the form that `parse_sla` reads."""
        text, verb = "", ""
        for target in self.targets:
            text += (", then " if text else "") + (f"{target.metric.verb} " if target.metric.verb != verb else "")
            text, verb = text + str(target), target.metric.verb
        constraints = ", ".join(map(str, self.constraints))
        return f"{constraints}; {text}" if constraints else text


def _written(metric: Metric, value: float, *, share: bool = False) -> str:
    """A number that reads back as the same float, with its unit. share: it is a share of the best, in %."""
    if share or "%" in metric.units:
        percent = Decimal(repr(value)).scaleb(2)
        percent = percent.normalize() if percent else Decimal(0)
        return f"{percent}%" if percent.adjusted() < -6 else f"{percent:f}%"  # as floats, with an exponent if tiny
    unit = next(iter(metric.units))
    return f"{math.trunc(value) if value == math.trunc(value) and value < 1e15 else repr(value)} {unit}"
