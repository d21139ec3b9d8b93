"""What a repeat costs, and when that is too much: counts and bounds, by arithmetic."""

from __future__ import annotations

import pytest

from spinn_stream.repeat.agreement import DEFAULT_MOST_LOST, EDGES, PRIOR, PRIOR_FRAMES, Agreement, upper_bound

CLOSE = EDGES[0] / 2
"""A change of the first class."""


def test_the_bound_of_no_loss_among_many_frames_is_that_of_wilson() -> None:
    z2 = 1.645**2  # with no loss, the formula is z^2 / (n + z^2)
    assert upper_bound(0.0, 300.0) == pytest.approx(z2 / (300 + z2))
    assert upper_bound(3.0, 300.0) > 0.01 > upper_bound(0.0, 300.0)


def test_before_a_camera_is_known_the_measured_losses_decide() -> None:
    limit = Agreement().limit(DEFAULT_MOST_LOST)
    reached = EDGES.index(limit)
    assert upper_bound(PRIOR_FRAMES * PRIOR[reached], PRIOR_FRAMES) <= DEFAULT_MOST_LOST
    assert upper_bound(PRIOR_FRAMES * PRIOR[reached + 1], PRIOR_FRAMES) > DEFAULT_MOST_LOST


def test_who_may_lose_nothing_repeats_nothing_and_who_may_lose_more_repeats_more() -> None:
    agreement = Agreement()
    assert agreement.limit(0.0) == 0.0
    assert agreement.limit(0.05) > agreement.limit(0.01) > 0.0


def test_a_camera_whose_repeats_are_wrong_closes_the_exit_and_right_ones_open_it_again() -> None:
    agreement = Agreement()
    for _ in range(10):
        agreement.observe(CLOSE, 0.9)
    assert agreement.limit(DEFAULT_MOST_LOST) == 0.0
    right = 0
    while agreement.limit(DEFAULT_MOST_LOST) == 0.0:
        agreement.observe(CLOSE, 0.0)
        right += 1
    # 9 of some 500 frames were lost; the bound allows less than 5 of 1,000, so it takes more than the mean's memory.
    assert 500 < right < 3000


def test_a_camera_that_agrees_where_others_do_not_is_repeated_further() -> None:
    agreement = Agreement()
    before = agreement.limit(DEFAULT_MOST_LOST)
    for _ in range(2000):
        agreement.observe(before * 1.01, 0.0)
    assert agreement.limit(DEFAULT_MOST_LOST) == EDGES[EDGES.index(before) + 1]


def test_a_closed_class_closes_those_of_larger_changes() -> None:
    agreement = Agreement()
    for _ in range(20):
        agreement.observe(EDGES[1] * 1.01, 1.0)  # of the third class
    assert agreement.limit(DEFAULT_MOST_LOST) == EDGES[1]


def test_frames_that_changed_too_much_for_any_repeat_teach_nothing() -> None:
    agreement = Agreement()
    before = [agreement.loss(edge * 0.99) for edge in EDGES]
    agreement.observe(EDGES[-1], 1.0)
    assert [agreement.loss(edge * 0.99) for edge in EDGES] == before
    assert agreement.loss(EDGES[-1]) == 1.0
