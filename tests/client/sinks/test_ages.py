"""Percentiles of ages in constant memory."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from spinn_client.sinks.ages import LARGEST_MS, RELATIVE_ERROR, SMALLEST_MS, Ages


def test_a_million_ages_take_no_more_room_than_none_and_their_percentiles_are_within_half_a_percent() -> None:
    given = np.random.default_rng(1).lognormal(np.log(60), 0.6, 1_000_000)
    ages = Ages()
    empty = sys.getsizeof(ages._bins)
    for age in given.tolist():
        ages.add(age)
    assert sys.getsizeof(ages._bins) == empty < 16_000 and ages.count == len(given)
    for percent in (0, 1, 50, 90, 99, 99.9, 100):
        assert ages.percentile(percent) == pytest.approx(np.percentile(given, percent), rel=RELATIVE_ERROR)


@pytest.mark.parametrize("age_ms", [SMALLEST_MS, 0.3, 1.0, 33.3, 150.0, 620_000.0, LARGEST_MS])
def test_every_size_of_age_is_as_exact(age_ms: float) -> None:
    ages = Ages()
    for given in (SMALLEST_MS, age_ms, age_ms * 1.000001, LARGEST_MS):  # so that the least and the most tell nothing
        ages.add(given)
    assert ages.percentile(50) == pytest.approx(age_ms, rel=RELATIVE_ERROR)


def test_a_percentile_between_two_ages_is_where_numpy_has_it() -> None:
    ages = Ages()
    for age in (10.0, 20.0):
        ages.add(age)
    assert ages.percentile(50) == pytest.approx(15.0, rel=RELATIVE_ERROR)
    assert ages.percentile(100) == pytest.approx(20.0, rel=RELATIVE_ERROR)


def test_nothing_counted_is_no_percentile_and_one_age_is_itself() -> None:
    ages = Ages()
    assert ages.percentile(50) is None
    ages.add(40.0)
    assert ages.percentile(50) == ages.percentile(99) == 40.0


@pytest.mark.parametrize("age_ms", [-5.0, 0.0, 1e9])
def test_an_age_outside_of_all_bins_is_counted_at_their_end(age_ms: float) -> None:
    ages = Ages()
    ages.add(age_ms)
    assert ages.percentile(50) == age_ms
