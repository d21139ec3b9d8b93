"""A slower processor that is played on this one."""

from __future__ import annotations

import time

import pytest

from spinn_stream.runtime.machine.host import Slowed, Step

STEP = Step("graph", 0, 1)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What a pace sleeps, instead of sleeping."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


def work(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_work_takes_as_long_as_on_the_slower_processor(slept: list[float]) -> None:
    pace, began = Slowed(5.0), time.monotonic()
    work(0.05)
    pace(STEP, began)
    assert slept[0] >= 4 * 0.05


def test_time_in_which_the_processor_was_taken_away_is_not_multiplied(slept: list[float]) -> None:
    pace = Slowed(5.0)
    work(0.05)
    pace(STEP, time.monotonic() - 60.0)  # it began a minute ago, and this process has worked for 50 ms since
    assert 4 * 0.05 <= slept[0] < 60.0


def test_at_full_speed_nothing_is_slept(slept: list[float]) -> None:
    pace, began = Slowed(1.0), time.monotonic()
    work(0.01)
    pace(STEP, began)
    assert not slept


@pytest.mark.parametrize("factor", [0.0, 0.9, 1001.0, float("nan")])
def test_a_factor_that_makes_no_sense_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="expected 1 to 1000"):
        Slowed(factor)
