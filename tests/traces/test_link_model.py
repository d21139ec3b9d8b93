"""When bytes come out of a link, by arithmetic."""

from __future__ import annotations

import pytest

from spinn_traces.link_model import Conditions, LinkModel


def test_a_chunk_takes_its_bits_over_the_capacity_and_then_the_delay() -> None:
    # 12,500 bytes = 100,000 bits; at 1 Mb/s 0.1 s; then 20 ms
    assert LinkModel().arrival(5.0, 12_500, Conditions(1.0, 20)) == pytest.approx(5.120)


def test_chunks_queue_behind_each_other_but_their_delays_overlap() -> None:
    link, conditions = LinkModel(), Conditions(1.0, 20)
    assert [link.arrival(5.0, 12_500, conditions) for _ in range(3)] == pytest.approx([5.120, 5.220, 5.320])
    assert link.arrival(9.0, 12_500, conditions) == pytest.approx(9.120)  # the queue is empty again


def test_no_chunk_overtakes_another_when_the_delay_shrinks() -> None:
    link = LinkModel()
    first = link.arrival(5.0, 1, Conditions(None, 500))
    assert link.arrival(5.1, 1, Conditions(None, 0)) == first == pytest.approx(5.5)


def test_without_conditions_nothing_is_imposed() -> None:
    assert LinkModel().arrival(5.0, 10**9, Conditions()) == 5.0


@pytest.mark.parametrize("bad", [(0, 0), (-1, 0), (float("nan"), 0), (1, -1), (1, float("inf"))])
def test_conditions_that_make_no_sense_are_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Conditions(*bad)
