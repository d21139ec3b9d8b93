"""How often exits answer is learned from the frames themselves."""

from __future__ import annotations

import random

import numpy as np
import pytest

from spinn_client.steering.exit_rates import ExitRates
from spinn_stream.bundle import Bundle
from spinn_stream.plan.predict.exit_shares import exit_shares, of_those_that_come, planned_rows, shifted

THRESHOLD = 0.72


@pytest.fixture(scope="module")
def share(bundle: Bundle) -> np.ndarray:
    """(E,), by the tables."""
    rows = planned_rows(bundle)
    return np.asarray(exit_shares(rows)[[t for t, _ in rows].index(THRESHOLD)])


def answered(bundle: Bundle, share: np.ndarray, rng: random.Random) -> int:
    """Cut point of the exit that answers a frame, drawn."""
    return rng.choices([e.cut for e in bundle.exits], share.tolist())[0]


def planned(bundle: Bundle, rates: ExitRates, now: float) -> np.ndarray:
    rows = planned_rows(bundle)
    return np.asarray(shifted(exit_shares(rows), rates.shifts(now))[[t for t, _ in rows].index(THRESHOLD)])


@pytest.mark.parametrize("stop", [11, 24])
def test_harder_frames_are_planned_with(bundle: Bundle, share: np.ndarray, stop: int) -> None:
    """Exits answer as they do where their log-odds are lower by 1.2; both are on the device, or one on the server."""
    rng, rates, last = random.Random(1), ExitRates(bundle), bundle.last
    split = min(stop, last)
    real = shifted(share[None], [-1.2, -1.2])[0]
    for _ in range(1500):
        exit_cut = answered(bundle, real, rng)
        rates.went(THRESHOLD, 0, split, exit_cut if exit_cut <= split else None)
        if exit_cut > split:
            rates.went(THRESHOLD, split, last, exit_cut)
    assert np.abs(share - real).max() > 0.15
    assert planned(bundle, rates, 0.0) == pytest.approx(real, abs=0.06)


def test_frames_like_those_of_the_tables_change_nothing(bundle: Bundle, share: np.ndarray) -> None:
    rng, rates = random.Random(2), ExitRates(bundle)
    for _ in range(200):
        rates.went(THRESHOLD, 0, bundle.last, answered(bundle, share, rng))
    assert rates.shifts(0.0) == (0.0, 0.0)


def test_what_no_frame_came_to_is_as_in_the_tables(bundle: Bundle) -> None:
    rates, (first, second) = ExitRates(bundle), [e.cut for e in bundle.exits[:-1]]
    for _ in range(500):
        rates.went(THRESHOLD, 0, first, None)
        rates.went(None, 0, bundle.last, bundle.last)  # no exit may answer
        rates.went(THRESHOLD, first, second - 1, None)
    shifts = rates.shifts(0.0)
    assert shifts[0] < -2
    assert shifts[1] == 0


def test_a_table_stays_for_some_seconds(bundle: Bundle) -> None:
    rates = ExitRates(bundle)
    seen = []
    for tenth in range(100):
        rates.went(THRESHOLD, 0, bundle.last, bundle.exits[0].cut)
        seen.append(rates.shifts(tenth / 10))
    changes = [n for n in range(1, 100) if seen[n] != seen[n - 1]]
    assert 2 <= len(changes) <= 4
    assert min(np.diff(changes)) >= 30


def test_scenes_wear_off(bundle: Bundle, share: np.ndarray) -> None:
    rates, rng, expected = ExitRates(bundle), random.Random(3), of_those_that_come(share[None])[0]
    for _ in range(400):
        rates.went(THRESHOLD, 0, bundle.exits[0].cut, None)
    assert rates.shifts(0.0)[0] < -2
    for _ in range(2500):
        rates.went(THRESHOLD, 0, bundle.exits[0].cut, bundle.exits[0].cut if rng.random() < expected[0] else None)
    assert rates.shifts(10.0)[0] == pytest.approx(0.0, abs=0.35)
