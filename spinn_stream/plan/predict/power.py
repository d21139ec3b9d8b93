"""What a frame costs the device's battery, as an estimate.

    energy = compute_mw x busy time + up_mj_per_mbit x megabits sent + radio_mw x time on air

Only energy above idle counts: no plan changes what the board and its camera take anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

PI4_CORE_MW = 925.0
"""A Raspberry Pi 4 B takes 2.7 W idle and 6.4 W with four cores under `stress` (Geerling, pidramble.com, "Power
Consumption Benchmarks", 2019): a fourth of the difference."""

WIFI_MJ_PER_MBIT, WIFI_MW = 283.17, 132.86
"""Huang et al., "A Close Examination of Performance and Power Characteristics of 4G LTE Networks", MobiSys 2012, table
4: a phone of 2012, so trust only the order of magnitude. Afterwards the radio stays awake, which is not counted."""


@dataclass(frozen=True)
class EnergyRates:
    """compute_mw: above idle, while it computes. up_mj_per_mbit: for each megabit sent. radio_mw: while on air."""

    compute_mw: float = PI4_CORE_MW
    up_mj_per_mbit: float = WIFI_MJ_PER_MBIT
    radio_mw: float = WIFI_MW

    @classmethod
    def of_cores(cls, cores: int) -> EnergyRates:
        """For a device that computes on `cores` cores at once. An upper bound, since cores also wait for each other."""
        return cls(cores * PI4_CORE_MW)
