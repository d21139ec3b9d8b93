"""What the scheduler's patience is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SchedulerConfig:
    """How eagerly plans change. Shares are of the figure that decides."""

    look_again: float = 0.05  # a condition moves by more: look
    min_interval_s: float = 0.2  # between two looks
    max_interval_s: float = 5.0  # look though nothing moved: what is small adds up
    margin: float = 0.10  # a better plan is better by more
    headroom: float = 0.05  # of a bound on latency, throughput, uplink or energy: what a better plan has to spare
    caution: float = 0.10  # device, server and link may be this much slower or faster: a better plan is no worse then
    repair_s: float = 0.3  # for how long the plan in force breaks a constraint before another one takes its place
    repairs_s: float = 5.0  # a change for that reason within this time makes the next one wait three times as long
    proof: float = 0.1  # seconds times the share beyond the margin: better by 30 % for 0.5 s, by 20 % for 1 s
    most_gain: float = 0.35  # more does not count: what a hiccup of 0.3 s does to the belief may look enormous
    settle_s: float = 1.2  # how long a question is open; what is not proved by then is a tie
    tie_s: float = 20.0  # how long a tie stays one; then the mean decides
    patience_s: float = 0.8  # for what is better in a later target
    rest_s: float = 5.0  # after a change, before one for a later target alone: nobody is in a hurry for that
    hold_s: float = 4.0  # since a plan was left, before going back to it
    longest_hold_s: float = 120.0
    least_hold_s: float = 1.0  # however much better it seems: what is believed just after a step may be half of it
    remember_s: float = 300.0  # how long it is known that a plan was left
    clear_margin: float = 0.25  # better by more, with the headroom below: no noise, and so not held
    clear_headroom: float = 0.15

    def __post_init__(self) -> None:
        if not all(value >= 0 for value in vars(self).values()):
            raise ValueError(f"got {self}, expected numbers from 0")
