"""The load factor: what one slow frame does not move, and what a busy machine does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinn_stream.profile import LoadTracker

FPS = 30


def feed(
    tracker: LoadTracker, factors: list[float], *, start: float = 0.0, fps: float = FPS, group: str = "a"
) -> float:
    """One observation a frame; gives the time of the last one."""
    now = start
    for i, factor in enumerate(factors):
        now = start + i / fps
        tracker.observe(group, observed_ms=4 * factor, expected_ms=4, now=now)
    return now


def test_it_is_one_until_something_is_known() -> None:
    tracker = LoadTracker()
    assert tracker.factor(0.0) == 1.0
    tracker.observe("a", observed_ms=50, expected_ms=5, now=0.0)
    assert tracker.factor(0.0) == 1.0, "one frame is no load"


def test_one_slow_frame_moves_nothing() -> None:
    tracker = LoadTracker()
    now = feed(tracker, [1.0] * 20 + [40.0] + [1.0] * 20)
    assert tracker.factor(now) == pytest.approx(1.0)


def test_a_load_that_stays_is_seen_within_a_second_and_so_is_its_end() -> None:
    tracker = LoadTracker()
    now = feed(tracker, [1.0] * 60)
    now = feed(tracker, [2.0] * FPS, start=now + 1 / FPS)
    assert tracker.factor(now) == pytest.approx(2.0)
    now = feed(tracker, [1.0] * FPS, start=now + 1 / FPS)
    assert tracker.factor(now) == pytest.approx(1.0)


@pytest.mark.parametrize("factor", [4.0, 0.25])
def test_a_large_step_is_seen_when_three_blocks_in_a_row_tell_it_and_not_before(factor: float) -> None:
    """Blocks of 0.125 s; a run every 0.13 s, as of a slow server."""
    tracker = LoadTracker()
    now = feed(tracker, [2.0] * 20, fps=1 / 0.13)
    seen = []
    for _ in range(3):
        now = feed(tracker, [2.0 * factor], start=now + 0.13)
        seen.append(tracker.factor(now))
    assert seen[:2] == pytest.approx([2.0, 2.0])
    assert seen[2] == pytest.approx(2.0 * factor)


def test_a_small_step_waits_for_half_of_the_window() -> None:
    tracker = LoadTracker()
    now = feed(tracker, [1.0] * 20, fps=8)
    now = feed(tracker, [1.4] * 3, start=now + 1 / 8, fps=8)
    assert tracker.factor(now) == pytest.approx(1.0)
    now = feed(tracker, [1.4] * 2, start=now + 1 / 8, fps=8)
    assert tracker.factor(now) == pytest.approx(1.4)


def test_a_scheduler_s_slices_average_out() -> None:
    """On a shared core some runs pass undisturbed and others lose a slice of 4 ms: the sum says 2."""
    rng, tracker = np.random.default_rng(0), LoadTracker()
    now = feed(tracker, list(rng.choice([1.0, 1.0, 1.0, 5.0], 2000)), fps=125)
    assert tracker.factor(now) == pytest.approx(2.0, rel=0.15)


def test_groups_are_told_apart_and_put_together_by_their_weight() -> None:
    tracker = LoadTracker()
    feed(tracker, [1.0] * 40, group="head")
    now = feed(tracker, [3.0] * 40, group="tail")
    assert tracker.factor(now, "head") == pytest.approx(1.0)
    assert tracker.factor(now, "tail") == pytest.approx(3.0)
    assert tracker.factor(now) == pytest.approx(2.0)
    assert tracker.factor(now, "nobody") == 1.0


def test_what_was_long_ago_is_forgotten_but_a_pause_is_not() -> None:
    tracker = LoadTracker()
    now = feed(tracker, [2.0] * 40)
    assert tracker.factor(now + 3) == pytest.approx(2.0)
    assert tracker.factor(now + 10) == 1.0


def test_a_side_that_is_only_probed_keeps_its_load_and_one_quick_run_ends_it() -> None:
    tracker = LoadTracker()
    now = feed(tracker, [4.0] * 40)
    for _ in range(5):
        now = feed(tracker, [4.5], start=now + 2)
        assert 4 <= tracker.factor(now) <= 4.5 and 4 <= tracker.factor(now + 1.9) <= 4.5
    now = feed(tracker, [1.2], start=now + 2)
    assert tracker.factor(now) == pytest.approx(1.2)
    now = feed(tracker, [9.0], start=now + 2)
    assert tracker.factor(now) == pytest.approx(1.2), "one slow run is no load"
    now = feed(tracker, [9.0], start=now + 2)
    assert tracker.factor(now) == pytest.approx(9.0)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0.001, 1e6)), max_size=60), st.floats(1, 200))
def test_it_is_always_a_positive_number_within_what_was_seen(pairs: list[tuple[float, float]], fps: float) -> None:
    tracker, now = LoadTracker(), 0.0
    for i, (observed, expected) in enumerate(pairs):
        now = i / fps
        tracker.observe("a", observed_ms=observed, expected_ms=expected, now=now)
    ratios = [o / e for o, e in pairs] + [1.0]
    assert min(ratios) * 0.999 <= tracker.factor(now) <= max(ratios) * 1.001
