"""What a frame costs the device's battery. It is called an estimate unless a meter is plugged in.

    energy = compute_mw x busy time + up_mj_per_mbit x megabits sent + radio_mw x time on air

Only energy above idle counts: no plan changes what the board and its camera take anyway.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class EnergyRates:
    """compute_mw: above idle, while one core computes. up_mj_per_mbit: for each megabit sent. radio_mw: while on
    air."""

    compute_mw: float
    up_mj_per_mbit: float
    radio_mw: float

    def __post_init__(self) -> None:
        if not all(0 <= rate < math.inf for rate in (self.compute_mw, self.up_mj_per_mbit, self.radio_mw)):
            raise ValueError(f"got {self}, expected numbers from 0")


class PowerMeter(Protocol):
    """Knows what this device takes; a real meter corrects its rates as it reads.

    estimated: whether the figures are to be called an estimate.
    """

    @property
    def estimated(self) -> bool: ...

    def rates(self) -> EnergyRates:
        """The present rates; asked at every planning, so quick."""
        ...


PI4_CORE_MW = 925.0
"""A Raspberry Pi 4 B takes 2.7 W idle and 6.4 W with four cores under `stress` (Geerling, pidramble.com, "Power
Consumption Benchmarks", 2019): a fourth of the difference."""

WIFI = (283.17, 132.86)
LTE = (438.39, 1288.04)
THREE_G = (868.98, 817.88)
"""Sending, in mW for each Mb/s (that is mJ for each megabit), and mW while on air: Huang et al., "A Close Examination
of Performance and Power Characteristics of 4G LTE Networks", MobiSys 2012, table 4. These are phones of 2012, so trust
only the order of magnitude. The time that the radio stays awake afterwards is not counted."""


@dataclass(frozen=True)
class PowerModel:
    """Constant rates; see `PowerMeter`."""

    constants: EnergyRates = EnergyRates(PI4_CORE_MW, *WIFI)

    @classmethod
    def of_cores(cls, cores: int) -> PowerModel:
        """For a device that computes on `cores` cores at once. An upper bound, since cores also wait for each other."""
        return cls(EnergyRates(cores * PI4_CORE_MW, *WIFI))

    @property
    def estimated(self) -> bool:
        return True

    def rates(self) -> EnergyRates:
        return self.constants
