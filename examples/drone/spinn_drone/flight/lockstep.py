"""Flights in virtual time: the world moves on when its picture is asked for. Nothing waits."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np

from spinn_client import Result
from spinn_drone.pilot.answers import answer_of
from spinn_drone.pilot.pilot import Answer, Pilot
from spinn_drone.world.world import CAMERA_HZ, CONTROL_HZ, HOVER, PHYSICS_HZ, World
from spinn_stream.frame import Pixels
from spinn_traces.simulator import System, play_camera

from .referee import Flight, Referee

Look = Callable[[float], Answer]
"""What is seen at this time, seconds from the start."""


class LockStep:
    """A world and a pilot that fly on to any later time, the pilot commanding CONTROL_HZ times a second."""

    def __init__(self, world: World, pilot: Pilot, referee: Referee) -> None:
        self.world, self.pilot, self.referee = world, pilot, referee
        self._command = HOVER
        self._commands = 0
        self._ages: list[float] = []

    @property
    def ended(self) -> bool:
        return self.referee.ending is not None

    def advance(self, now: float) -> None:
        """Fly on until `now`, seconds from the start."""
        end = round(now * PHYSICS_HZ)
        while self.referee.steps < end and not self.ended:
            if self.referee.steps >= self._commands * PHYSICS_HZ / CONTROL_HZ:
                at = self._commands / CONTROL_HZ
                self._command = self.pilot.command(at)
                self._ages.append(min(self.pilot.age(at), self.referee.seconds))
                self._commands += 1
            self.referee.step(self._command)

    def heard(self, now: float, answer: Answer) -> None:
        """An answer comes in at `now`."""
        self.advance(now)
        self.pilot.heard(answer)

    def flight(self) -> Flight:
        """The flight so far."""
        return self.referee.flight(tuple(self._ages))


def fly_by(look: Look, flying: LockStep, *, delay: float = 0.0) -> Flight:
    """Fly by answers that are `delay` seconds late, with CAMERA_HZ looks a second."""
    late: deque[Answer] = deque()
    frame = 0
    while not flying.ended:
        now = frame / CAMERA_HZ
        while late and late[0].captured + delay <= now:
            answer = late.popleft()
            flying.heard(answer.captured + delay, answer)
        flying.advance(now)
        late.append(look(now))
        if delay == 0:
            flying.heard(now, late.popleft())
        frame += 1
    return flying.flight()


def fly_by_stream(system: System, flying: LockStep) -> Flight:
    """Fly by the answers of a simulated device, link and server (`spinn_traces.simulator`), until the flight ends."""

    def picture(frame: int) -> Pixels | None:
        flying.advance(frame / CAMERA_HZ)
        return None if flying.ended else flying.world.camera()

    def on_result(at: float, result: Result) -> None:
        captured = result.frame / CAMERA_HZ
        answer = answer_of(dict(result.top), captured)
        if answer is not None:
            flying.heard(max(at, captured), answer)

    play_camera(system, picture, on_result)
    return flying.flight()


def percentile_ms(ages_s: tuple[float, ...], percent: float) -> float:
    """Of ages in seconds, in milliseconds; infinite: there are none."""
    return 1000 * float(np.percentile(ages_s, percent)) if ages_s else math.inf
