"""The soak says so if something grows, or if a frame is lost or late."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import soak

SECONDS = 120.0
ENDED = {"ended": True, "taken": 100, "finals": 100, "duplicates": 0, "no_answer": 0, "server": 90, "late": []}


class NoStalls:
    """A machine that lets everybody run, but for 30 ms of any time."""

    def within_ms(self, began_s: float, ended_s: float) -> float:
        return 30.0


def told(mb_a_second: float) -> list[tuple[float, dict[str, Any]]]:
    return [(float(at), {"memory_mb": 100 + mb_a_second * at}) for at in range(int(SECONDS))]


@pytest.mark.parametrize(("mb_a_second", "flat"), [(0.0, True), (0.15, True), (0.3, False), (-1.0, True)])
def test_memory_that_grows_by_more_than_8_mb_from_one_third_to_the_next_is_not_flat(
    mb_a_second: float, flat: bool
) -> None:
    found = soak.grown(told(mb_a_second), "memory_mb", SECONDS)
    assert found["flat"] is flat and found["an_hour"] == pytest.approx(3600 * mb_a_second)


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"finals": 99}, False),
        ({"finals": 101, "duplicates": 1}, False),
        ({"late": [(10.0, 199.0)]}, True),  # the machine is to blame for 30 ms
        ({"late": [(10.0, 210.0)]}, True),  # one in a hundred, by less than 100 ms
        ({"late": [(10.0, 210.0)] * 2}, False),
        ({"late": [(10.0, 301.0)]}, False),
    ],
)
def test_frames_that_are_lost_given_twice_or_late_are_no_good(changes: dict[str, Any], good: bool) -> None:
    client = SimpleNamespace(figures=[(1.0, {**ENDED, **changes})], process=None)
    assert soak.good(soak.judged(client, NoStalls())) is good  # type: ignore[arg-type]


def test_a_client_that_did_not_end_well_is_no_good() -> None:
    client = SimpleNamespace(figures=[(1.0, {"late": []})], process=SimpleNamespace(stderr=None))
    assert not soak.good(soak.judged(client, NoStalls()))  # type: ignore[arg-type]
