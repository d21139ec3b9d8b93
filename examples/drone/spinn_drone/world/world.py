"""What a world is: it moves on in steps, has a camera, and knows the distance to the next obstacle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from spinn_stream.frame import Pixels

PHYSICS_HZ, CONTROL_HZ, CAMERA_HZ = 240, 50, 20


@dataclass(frozen=True)
class Command:
    """Horizontal velocity to fly with, m/s. forward: the way that the camera looks. left: positive to the left."""

    forward: float
    left: float


HOVER = Command(0.0, 0.0)


@dataclass(frozen=True)
class DroneState:
    """Where the drone is and how it moves: metres and m/s. x: forward from the start. y: to the left."""

    x: float
    y: float
    vx: float = 0.0
    vy: float = 0.0

    @property
    def speed(self) -> float:
        return (self.vx**2 + self.vy**2) ** 0.5  # type: ignore[no-any-return]


class World(Protocol):
    """A place to fly in. Another simulator needs these three methods."""

    @property
    def drone(self) -> DroneState: ...

    def step(self, command: Command) -> None:
        """One step of 1/PHYSICS_HZ s under this command."""

    def camera(self) -> Pixels:
        """What the camera sees now, (H, W, 3) uint8 BGR."""

    def clearance(self) -> float:
        """From the drone's hull to the nearest obstacle, metres; 0 or less: it has crashed."""
