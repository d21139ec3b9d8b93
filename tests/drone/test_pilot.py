"""The pilot's rules, with numbers for clocks."""

from __future__ import annotations

import math

import pytest

from spinn_drone.perception.classes import BLOCKED
from spinn_drone.pilot.answers import answer_of
from spinn_drone.pilot.pilot import Answer, Pilot, PilotConfig
from spinn_drone.world.world import CONTROL_HZ, HOVER, Command

AHEAD = ((0.0, 1.0),)
CONFIG = PilotConfig(cruise=5.0, promised=20.0)


def flown(pilot: Pilot, answer: Answer, seconds: float, *, ages: float = 0.0) -> Command:
    """The command after these seconds of one answer, given again and again, each as old as `ages`."""
    command = HOVER
    for k in range(round(seconds * CONTROL_HZ)):
        now = k / CONTROL_HZ
        pilot.heard(Answer(now - ages, answer.blocked, answer.directions))
        command = pilot.command(now)
    return command


def test_without_an_answer_it_hovers() -> None:
    assert Pilot(CONFIG).command(3.0) == HOVER


def test_with_a_free_way_it_comes_to_cruise() -> None:
    command = flown(Pilot(CONFIG), Answer(0, 0.0, AHEAD), 2.0)
    assert command.forward == pytest.approx(5.0, rel=1e-3) and command.left == 0


def test_speed_falls_with_the_probability_of_a_blocked_way_but_it_creeps() -> None:
    half = flown(Pilot(CONFIG), Answer(0, 0.5, ((0.0, 0.5),)), 2.0)
    assert half.forward == pytest.approx(2.5, rel=1e-3)
    assert flown(Pilot(CONFIG), Answer(0, 1.0, AHEAD), 2.0).forward == pytest.approx(CONFIG.creep, rel=1e-3)


def test_speed_and_direction_are_filtered() -> None:
    """After one time constant of the filter, 1 - 1/e of the way is done."""
    config = PilotConfig(cruise=5.0, promised=20.0, smooth=0.1, while_turning=1.0, dodge=1.0)
    command = flown(Pilot(config), Answer(0, 0.0, ((0.5, 1.0),)), 0.1)
    share = 1 - math.exp(-1)
    assert math.hypot(command.forward, command.left) == pytest.approx(5.0 * share, rel=1e-6)
    assert math.atan2(command.left, command.forward) == pytest.approx(0.5 * share, rel=1e-6)


def test_it_slows_down_in_a_turn_until_the_course_has_followed() -> None:
    """45 degrees at once leave the least speed, 22.5 degrees half of what is between; later it is as fast as before."""
    config = PilotConfig(cruise=5.0, promised=20.0, smooth=1e-6, turning=0.25, while_turning=0.4, dodge=1.0)
    for turn, share in ((math.radians(45), 0.4), (math.radians(22.5), 0.7)):
        pilot, answer = Pilot(config), Answer(0, 0.0, ((turn, 1.0),))
        step = 1 / (CONTROL_HZ * config.turning)
        at_once = flown(pilot, answer, 1 / CONTROL_HZ)
        left = math.exp(-step)  # of the turn, once the course has followed for one command
        assert math.hypot(at_once.forward, at_once.left) == pytest.approx(5.0 * (1 - (1 - share) * left), rel=1e-3)
        later = flown(pilot, answer, 3.0)
        assert math.hypot(later.forward, later.left) == pytest.approx(5.0, rel=1e-3)


def test_it_steers_farther_aside_than_the_answer_says_but_not_out_of_sight() -> None:
    """0.2 rad becomes 0.3 rad; 0.7 rad would become 1.05 rad, and the most is 45 degrees."""
    for heading, flies in ((0.2, 0.3), (-0.7, -math.radians(45))):
        command = flown(Pilot(PilotConfig(dodge=1.5)), Answer(0, 0.0, ((heading, 1.0),)), 2.0)
        assert math.atan2(command.left, command.forward) == pytest.approx(flies, rel=1e-3)


def test_of_two_good_sides_it_takes_the_one_it_flies_to() -> None:
    pilot = Pilot(CONFIG)
    flown(pilot, Answer(0, 0.0, ((-0.3, 1.0),)), 1.0)
    assert pilot.choice(Answer(1, 0.0, ((-0.3, 0.4), (0.3, 0.6))))[0] == -0.3
    assert pilot.choice(Answer(1, 0.0, ((-0.3, 0.05), (0.3, 0.95))))[0] == 0.3


def test_a_doubtful_direction_is_flown_slowly() -> None:
    """A quarter of the probability near the choice: an answer of no confidence takes away half of the speed."""
    spread = ((0.0, 0.25), (0.35, 0.25), (-0.35, 0.25), (0.7, 0.25))
    command = flown(Pilot(CONFIG), Answer(0, 0.0, spread), 2.0)
    assert command.forward == pytest.approx(5.0 * (1 - 0.5 * 0.75), rel=1e-3)


@pytest.mark.parametrize("age", [0.0, 0.1, 0.3])
def test_it_flies_as_fast_as_it_can_brake_for(age: float) -> None:
    """What is flown until the brakes hold, and the braking distance, are together what the answer promised."""
    pilot = Pilot(PilotConfig(cruise=50.0, promised=6.0))
    speed = flown(pilot, Answer(0, 0.0, AHEAD), 3.0, ages=age).forward
    config = pilot.config
    assert speed * (age + config.reaction) + speed**2 / (2 * config.braking) == pytest.approx(6.0, rel=1e-3)


def test_an_answer_that_is_too_old_stops_it() -> None:
    pilot = Pilot(CONFIG)
    pilot.heard(Answer(10.0, 0.0, AHEAD))
    assert pilot.command(10.0 + CONFIG.stop_after - 0.001).forward > 0
    assert pilot.command(10.0 + CONFIG.stop_after + 0.001) == HOVER


def test_an_answer_about_an_older_picture_changes_nothing() -> None:
    pilot = Pilot(CONFIG)
    pilot.heard(Answer(2.0, 0.0, AHEAD))
    pilot.heard(Answer(1.9, 1.0, ()))
    assert pilot.age(2.1) == pytest.approx(0.1)
    assert pilot.answer == Answer(2.0, 0.0, AHEAD)


def test_what_a_stream_says_becomes_an_answer() -> None:
    answer = answer_of({"20 left": 0.6, BLOCKED: 0.3, "straight": 0.1}, 4.5)
    assert answer is not None and answer.captured == 4.5 and answer.blocked == 0.3
    assert dict(answer.directions) == {math.radians(20): 0.6, 0.0: 0.1}
    assert answer_of({}, 4.5) is None, "a frame without an answer"
