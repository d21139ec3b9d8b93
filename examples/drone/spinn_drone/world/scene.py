"""A forest to fly through; its seed decides everything."""

from __future__ import annotations

from dataclasses import dataclass

from spinn_drone.world.body import Limits
from spinn_drone.world.forest import Forest, ForestConfig
from spinn_drone.world.forest_world import ForestWorld
from spinn_drone.world.looks import Looks
from spinn_drone.world.world import DroneState

COURSE = ForestConfig(density=0.048, length=50.0)
"""The default forest (docs/decisions/0030-drone.md)."""


@dataclass(frozen=True)
class Scene:
    """A forest's seed and what it is like."""

    seed: int
    config: ForestConfig = COURSE

    def forest(self) -> Forest:
        return Forest.grown(self.config, self.seed)

    def open(self) -> ForestWorld:
        """With the drone at the start, hovering."""
        return ForestWorld(
            self.forest(), Looks.of(self.seed), seed=self.seed, start=DroneState(0.0, 0.0), limits=Limits()
        )
