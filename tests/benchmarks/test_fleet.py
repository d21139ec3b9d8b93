"""Fleets in virtual time: as fast as the profile, and requests go where they should."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.fleet_parts import BUDGETS_MS, SPLITS, Fleet, capacity, played
from spinn_stream.bundle import Bundle
from spinn_stream.profile import BatchProfile, Profile, Timing

REQUEST_MS = 8.0
EACH = 1000 / REQUEST_MS
FLEET = Fleet(2, 0.5, splits=SPLITS[-1:], lasts_s=4.0)


@pytest.fixture(scope="module")
def profile(bundle: Bundle) -> Profile:
    """Each request takes REQUEST_MS from the last of the splits on, however many run together."""
    segments = bundle.last - bundle.split_index(SPLITS[-1])
    early = tuple(e.cut for e in bundle.exits[:-1])

    def row(batch: int) -> BatchProfile:
        each = Timing(batch * REQUEST_MS / segments, batch * REQUEST_MS / segments)
        return BatchProfile(batch, (each,) * bundle.last, (Timing(0, 0),) * len(early), 0.0)

    return Profile("numbers", early, (row(1), row(16)), Timing(0, 0))


def test_a_replica_answers_what_its_profile_allows(bundle: Bundle, profile: Profile) -> None:
    """The rest is the hand-over to its thread, and a batch in twenty that takes as long as the others here."""
    assert 0.95 * EACH < capacity(bundle, profile, SPLITS[-1:]) <= EACH


def test_half_a_load_is_answered_in_time_and_the_same_twice(bundle: Bundle, profile: Profile) -> None:
    first, again, other = (played(bundle, profile, replace(FLEET, seed=seed), EACH) for seed in (1, 1, 2))
    assert first == again and first != other
    assert first["in_time"] > 0.99 and REQUEST_MS < first["p50_ms"] < min(BUDGETS_MS)
    asked = first["devices"] * 4.0 * FLEET.lasts_s  # four a second each
    assert first["sent"] == pytest.approx(asked, rel=0.2)


def test_the_way_to_the_region_is_taken_from_the_budget(bundle: Bundle, profile: Profile) -> None:
    near, far, too_far = (
        played(bundle, profile, replace(FLEET, region_ms=ms), EACH) for ms in (0.0, BUDGETS_MS[0], BUDGETS_MS[1])
    )
    assert near["in_time_100"] > 0.99 and far["in_time_100"] == 0.0
    assert far["in_time_150"] > 0.9 and too_far["in_time"] == 0.0


def test_devices_that_are_stuck_to_a_slow_replica_are_late_and_others_are_not(bundle: Bundle, profile: Profile) -> None:
    fleet = replace(FLEET, slow=2, load=0.8)
    stuck, shortest = (played(bundle, profile, replace(fleet, choice=choice), EACH) for choice in ("stuck", "shortest"))
    assert shortest["in_time"] > stuck["in_time"] + 0.1


@pytest.mark.parametrize("choice", ["stuck", "shortest", "two", "slack"])
def test_every_replica_gets_its_part(bundle: Bundle, profile: Profile, choice: str) -> None:
    """Nine tenths of what two can do are far more than one can."""
    found = played(bundle, profile, replace(FLEET, load=0.9, choice=choice), EACH)
    assert found["in_time"] > 0.7
