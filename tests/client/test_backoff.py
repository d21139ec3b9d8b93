"""Back-off, with a seeded dice."""

from __future__ import annotations

import random

import pytest

from spinn_client.backoff import Backoff


def test_a_delay_is_between_the_first_and_three_times_the_one_before_up_to_the_limit() -> None:
    backoff = Backoff(random.Random(1), first_s=0.1, limit_s=1.0)
    before = backoff.next_s()
    assert before == pytest.approx(0.1)
    for _ in range(200):
        delay = backoff.next_s()
        assert 0.1 <= delay <= min(1.0, 3 * before)
        before = delay


def test_delays_grow_to_about_half_the_limit_on_average() -> None:
    """Drawn evenly between 0.1 and 1.0 s once the delay before is a third of a second or more."""
    backoff = Backoff(random.Random(1), first_s=0.1, limit_s=1.0)
    delays = [backoff.next_s() for _ in range(2000)]
    assert 0.35 < sum(delays) / len(delays) < 0.55


def test_health_begins_again_with_the_shortest() -> None:
    backoff = Backoff(random.Random(1), first_s=0.1, limit_s=1.0)
    for _ in range(20):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() == pytest.approx(0.1)


def test_two_devices_do_not_return_together() -> None:
    one, other = Backoff(random.Random(1)), Backoff(random.Random(2))
    assert [one.next_s() for _ in range(4)] != [other.next_s() for _ in range(4)]


def test_delays_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="first_s"):
        Backoff(random.Random(1), first_s=2, limit_s=1)
