"""A slower processor that is played on this one."""

from __future__ import annotations

import time

import pytest

from spinn_stream.runtime.machine.host import Slowed, Step

STEP = Step("graph", 0, 1)


class Played:
    """Clocks of the wall and of the process that are numbers, and a sleep that is only noted."""

    def __init__(self) -> None:
        self.wall = 1000.0
        self.used = 7.0
        self.slept: list[float] = []

    def work(self, used: float, taken_away: float = 0.0) -> None:
        self.used += used
        self.wall += used + taken_away


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    found = Played()
    monkeypatch.setattr(time, "monotonic", lambda: found.wall)
    monkeypatch.setattr(time, "process_time", lambda: found.used)
    monkeypatch.setattr(time, "sleep", found.slept.append)
    return found


def test_work_takes_as_long_as_on_the_slower_processor(played: Played) -> None:
    pace = Slowed(5.0)
    for used in (0.05, 0.02):
        began = played.wall
        played.work(used)
        pace(STEP, began)
    assert played.slept == pytest.approx([4 * 0.05, 4 * 0.02])


def test_time_in_which_the_processor_was_taken_away_is_not_multiplied(played: Played) -> None:
    pace, began = Slowed(5.0), played.wall
    played.work(0.05, taken_away=60.0)
    pace(STEP, began)
    assert played.slept == pytest.approx([4 * 0.05])


def test_what_other_threads_used_is_not_multiplied(played: Played) -> None:
    pace, began = Slowed(5.0), played.wall
    played.work(0.05)
    played.used += 0.03
    pace(STEP, began)
    assert played.slept == pytest.approx([4 * 0.05])


def test_the_clocks_of_this_machine_are_those_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    pace, began = Slowed(5.0), time.monotonic()
    end = time.process_time() + 0.02
    while time.process_time() < end:
        pass
    pace(STEP, began)
    assert 0 < slept[0] <= 4 * (time.monotonic() - began)


def test_at_full_speed_nothing_is_slept(played: Played) -> None:
    pace, began = Slowed(1.0), played.wall
    played.work(0.01)
    pace(STEP, began)
    assert not played.slept


@pytest.mark.parametrize("factor", [0.0, 0.9, 1001.0, float("nan")])
def test_a_factor_that_makes_no_sense_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="expected 1 to 1000"):
        Slowed(factor)
