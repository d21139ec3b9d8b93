"""How the drone moves: a point mass at constant height that tilts to accelerate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .world import PHYSICS_HZ, Command, DroneState


@dataclass(frozen=True)
class Limits:
    """Of the drone.

    radius: of its hull, metres. acceleration: the most that its tilt gives in any direction, m/s^2 (35 degrees).
    tilt_s: time constant of tilting. velocity_s: time constant with which it closes in on the velocity it is told.
    """

    radius: float = 0.25
    acceleration: float = 7.0
    tilt_s: float = 0.08
    velocity_s: float = 0.15


class Body:
    """Follows commands within its limits. The nose stays on the course; the drone flies sideways to dodge.

    It approaches the commanded velocity by an acceleration that is proportional to the difference, bounded, and delayed
    by the time to tilt.
    """

    def __init__(self, start: DroneState, limits: Limits) -> None:
        self.state = start
        self._limits = limits
        self._ax = self._ay = 0.0

    def step(self, command: Command) -> None:
        """1/PHYSICS_HZ s, by the semi-implicit Euler rule."""
        dt, now, limits = 1 / PHYSICS_HZ, self.state, self._limits
        ax, ay = (command.forward - now.vx) / limits.velocity_s, (command.left - now.vy) / limits.velocity_s
        too_much = math.hypot(ax, ay) / limits.acceleration
        if too_much > 1:
            ax, ay = ax / too_much, ay / too_much
        share = dt / limits.tilt_s
        self._ax += share * (ax - self._ax)
        self._ay += share * (ay - self._ay)
        vx, vy = now.vx + dt * self._ax, now.vy + dt * self._ay
        self.state = DroneState(now.x + dt * vx, now.y + dt * vy, vx, vy)
