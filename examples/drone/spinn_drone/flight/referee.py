"""Watches a flight: whether and how it has ended, and its figures."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from spinn_drone.world.world import PHYSICS_HZ, Command, World

Ending = Literal["arrived", "crashed", "out of time", "given up"]

TIME_LIMIT_S = 60.0
"""Of a flight."""

TRACK_HZ = 20
"""How often the track is written down."""


@dataclass(frozen=True)
class Flight:
    """The figures of a flight.

    seconds, metres: its duration, and the length of its track. clearance_m: the smallest, from hull to bark. ages_s: of
    the used answer, at each command. track: (TRACK_HZ a second) x and y in metres, speed in m/s.
    """

    seed: int
    ending: Ending
    seconds: float
    metres: float
    clearance_m: float
    ages_s: tuple[float, ...] = ()
    track: tuple[tuple[float, float, float], ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Referee:
    """Steps a world until the drone has crashed, or passed `length` metres, or its time is over."""

    def __init__(self, world: World, *, seed: int, length: float, time_limit: float = TIME_LIMIT_S) -> None:
        self._world = world
        self._seed, self._length, self._time_limit = seed, length, time_limit
        self._metres = 0.0
        self._least = math.inf
        self._track: list[tuple[float, float, float]] = []
        self.steps = 0
        self.ending: Ending | None = None

    @property
    def seconds(self) -> float:
        return self.steps / PHYSICS_HZ

    def step(self, command: Command) -> None:
        """1/PHYSICS_HZ s, unless the flight has ended."""
        if self.ending is not None:
            return
        before = self._world.drone
        if self.steps % (PHYSICS_HZ // TRACK_HZ) == 0:
            self._track.append((before.x, before.y, before.speed))
        self._world.step(command)
        self.steps += 1
        now, clearance = self._world.drone, self._world.clearance()
        self._metres += math.hypot(now.x - before.x, now.y - before.y)
        self._least = min(self._least, clearance)
        if clearance <= 0:
            self.ending = "crashed"
        elif now.x >= self._length:
            self.ending = "arrived"
        elif self.seconds >= self._time_limit:
            self.ending = "out of time"

    def flight(self, ages_s: tuple[float, ...] = ()) -> Flight:
        """The flight so far. If it has not ended, it counts as given up."""
        return Flight(
            self._seed, self.ending or "given up", self.seconds, self._metres, self._least, ages_s, tuple(self._track)
        )
