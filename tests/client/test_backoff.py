"""Back-off, with a seeded dice."""

from __future__ import annotations

import random

import pytest

from spinn_client.backoff import Backoff


def test_delays_double_up_to_the_limit_each_between_half_and_whole() -> None:
    backoff = Backoff(random.Random(1), first_s=0.1, limit_s=1.0)
    for size in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0):
        assert size / 2 <= backoff.next_s() <= size


def test_success_begins_again_with_the_shortest() -> None:
    backoff = Backoff(random.Random(1), first_s=0.1, limit_s=1.0)
    for _ in range(2000):  # also: no overflow after hours of trying
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 0.1


def test_two_devices_do_not_return_together() -> None:
    one, other = Backoff(random.Random(1)), Backoff(random.Random(2))
    assert [one.next_s() for _ in range(4)] != [other.next_s() for _ in range(4)]


def test_delays_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="first_s"):
        Backoff(random.Random(1), first_s=2, limit_s=1)
