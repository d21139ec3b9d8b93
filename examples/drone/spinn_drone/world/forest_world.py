"""The world of the built-in flights: a drone's motion among the trees of a forest, and a camera on it."""

from __future__ import annotations

from spinn_drone.world.body import Body, Limits
from spinn_drone.world.bullet import BulletCamera
from spinn_drone.world.forest import Forest
from spinn_drone.world.looks import Looks
from spinn_drone.world.world import Command, DroneState
from spinn_stream.frame import Pixels


class ForestWorld:
    """As `World`. `close` lets the camera go, which is opened by the first picture; or use it in a `with` block.

    Args:
        seed: of the camera's jitter and noise.
    """

    def __init__(self, forest: Forest, looks: Looks, *, seed: int, start: DroneState, limits: Limits) -> None:
        self.forest = forest
        self._looks, self._seed, self._limits = looks, seed, limits
        self._body = Body(start, limits)
        self._camera: BulletCamera | None = None

    def __enter__(self) -> ForestWorld:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        if self._camera is not None:
            self._camera.close()

    @property
    def drone(self) -> DroneState:
        return self._body.state

    def place(self, state: DroneState) -> None:
        """Put the drone elsewhere."""
        self._body = Body(state, self._limits)

    def step(self, command: Command) -> None:
        """See `World`."""
        self._body.step(command)

    def clearance(self) -> float:
        """See `World`."""
        return self.forest.clearance(self.drone.x, self.drone.y) - self._limits.radius

    def camera(self) -> Pixels:
        """See `World`: (PICTURE, PICTURE, 3)."""
        if self._camera is None:
            self._camera = BulletCamera(self.forest, self._looks, seed=self._seed)
        return self._camera.picture(self.drone.x, self.drone.y)
