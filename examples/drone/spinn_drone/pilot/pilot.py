"""How the drone flies: towards the free direction, as fast as the newest answer and its age allow.

In the manner of DroNet (Loquercio et al., RA-L 2018): speed falls with the probability that the way is blocked, and
both speed and direction are low-pass filtered. It slows down in a turn: until its course has followed, it flies where
the answer did not promise a free way. The age of an answer counts as distance: the free distance that an
answer promised shrinks by the distance flown since. Without an answer for `stop_after_s` it brakes to a stop, as PX4's
collision prevention does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from spinn_drone.world.world import CONTROL_HZ, HOVER, Command

AS_GOOD = 0.1
"""A direction with this share of the likeliest one's probability is about as good."""

NEAR_RAD = math.radians(15)
"""Headings that differ by less are the same way out."""

FARTHEST_RAD = math.radians(45)
"""It never flies farther to the side than this: the camera sees 50 degrees to each."""


@dataclass(frozen=True)
class Answer:
    """What is known of the way ahead.

    captured: when the picture was taken, seconds of the pilot's clock. blocked: probability that no direction is free.
    directions: (heading, probability that it is the most open), headings in radians from forward, positive to the left.
    Some may be missing, so probabilities need not add up to 1.
    """

    captured: float
    blocked: float
    directions: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class PilotConfig:
    """Speeds in m/s, distances in metres, times in seconds.

    cruise: with a free way. creep: with a blocked one. promised: how far an answer's direction is free. braking: the
    deceleration, m/s^2, that it counts on. reaction: from a command until the drone brakes. stop_after: without an
    answer younger than this, it stops (0.5 s: PX4's COL_PREV_DELAY and its time-out). smooth: time constant of the
    filters. doubt: share of the speed that an answer without confidence takes away. turning: time constant with which
    the drone's course follows. while_turning: share of the speed that is left if the course is FARTHEST_RAD from where
    it steers. dodge: how many times as far to the side it steers as an answer says, since that direction passes the
    tree with nothing to spare.
    """

    cruise: float = 8.0
    creep: float = 1.5
    promised: float = 6.0
    braking: float = 5.0
    reaction: float = 0.1
    stop_after: float = 0.5
    smooth: float = 0.08
    doubt: float = 0.5
    turning: float = 0.25
    while_turning: float = 0.3
    dodge: float = 1.3


class Pilot:
    """Takes answers and gives commands, CONTROL_HZ times a second. `now` is seconds, never falling."""

    def __init__(self, config: PilotConfig) -> None:
        self.config = config
        self.answer: Answer | None = None
        self._speed = self._direction = self._course = 0.0

    def heard(self, answer: Answer) -> None:
        """An answer came in; one of an older picture than the newest changes nothing."""
        if self.answer is None or answer.captured >= self.answer.captured:
            self.answer = answer

    def age(self, now: float) -> float:
        """Age of the answer in use, seconds; infinite: there was none."""
        return math.inf if self.answer is None else now - self.answer.captured

    def command(self, now: float) -> Command:
        """What to fly now."""
        answer, age = self.answer, self.age(now)
        share = _share(self.config.smooth)
        if answer is None or age > self.config.stop_after:
            self._speed = 0.0
            return HOVER
        heading, confidence = self.choice(answer)
        steered = self._steered(heading)
        self._direction += share * (steered - self._direction)
        self._course += _share(self.config.turning) * (self._direction - self._course)
        dares = self.config.cruise * (1 - answer.blocked) * (1 - self.config.doubt * (1 - confidence))
        dares *= 1 - (1 - self.config.while_turning) * min(abs(steered - self._course) / FARTHEST_RAD, 1.0)
        target = min(max(dares, self.config.creep), self.braking_speed(age))
        self._speed += share * (target - self._speed)
        return Command(self._speed * math.cos(self._direction), self._speed * math.sin(self._direction))

    def braking_speed(self, age: float) -> float:
        """The speed from which it stops in time: v (age + reaction) + v^2 / (2 braking) = promised."""
        late, a = age + self.config.reaction, self.config.braking
        return a * (math.sqrt(late * late + 2 * self.config.promised / a) - late)

    def choice(self, answer: Answer) -> tuple[float, float]:
        """The heading to fly, and the probability that it or one about the same is the freest.

        Of the headings about as likely as the best one, it is the nearest to the present course, so that the drone does
        not waver between two sides of a tree.
        """
        least = AS_GOOD * max((p for _, p in answer.directions), default=0.0)
        heading = min(
            (h for h, p in answer.directions if p >= least),
            key=lambda h: abs(self._steered(h) - self._direction),
            default=0.0,
        )
        every = sum(p for _, p in answer.directions)
        near = sum(p for h, p in answer.directions if abs(h - heading) < NEAR_RAD)
        return heading, near / every if every else 0.0

    def _steered(self, heading: float) -> float:
        """The direction to fly for an answer's heading."""
        return min(max(self.config.dodge * heading, -FARTHEST_RAD), FARTHEST_RAD)


def _share(time_constant: float) -> float:
    """How far a low-pass filter goes towards its input from one command to the next."""
    return 1 - math.exp(-1 / (CONTROL_HZ * time_constant))
