"""How patient the scheduler is: the constants of `hysteresis` and `scheduler`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SchedulerConfig:
    """How eagerly plans change. Shares are of the figure that decides."""

    look_again: float = 0.05  # look if a condition moved by more
    min_interval_s: float = 0.2  # between two looks
    max_interval_s: float = 5.0  # look even if nothing moved: small changes add up
    margin: float = 0.10  # a better plan must be better by more
    headroom: float = 0.05  # a better plan has this to spare: share of a bound on latency, throughput, uplink, energy
    caution: float = 0.10  # a better plan must be no worse if device, server and link are this much slower or faster
    repair_s: float = 0.3  # the plan in force may break a constraint for this time
    repairs_s: float = 5.0  # each such change within this time makes the next one wait three times as long
    proof: float = 0.1  # s x share beyond the margin: better by 30 % for 0.5 s, by 20 % for 1 s
    most_gain: float = 0.35  # more does not count: a pause of 0.3 s may make a gain look enormous
    settle_s: float = 1.2  # a gain not proved within this time is a tie
    tie_s: float = 20.0  # after this time in a tie, the mean decides
    patience_s: float = 0.8  # a plan better in a later target only waits for this time
    rest_s: float = 5.0  # between a change and one for a later target only
    hold_s: float = 4.0  # between leaving a plan and going back to it
    longest_hold_s: float = 120.0
    least_hold_s: float = 1.0  # the same if it seems much better: just after a step, beliefs may be off by half
    remember_s: float = 300.0  # a plan that was left is remembered for this time
    clear_margin: float = 0.25  # much better: by more than this, with the headroom below
    clear_headroom: float = 0.15

    def __post_init__(self) -> None:
        if not all(value >= 0 for value in vars(self).values()):
            raise ValueError(f"got {self}, expected numbers from 0")
