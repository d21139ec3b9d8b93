"""The batcher, with numbers for clocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinn_server.work.request import Request
from spinn_server.work.scheduler import Batcher, BatchLimits

from .owners import Told


def request(id: int, split: int = 9, arrived: float = 0.0, expires: float = 100.0) -> Request:
    return Request(Told(), id, split, "none", b"", {}, None, arrived, expires)


def make(**limits: float) -> Batcher:
    return Batcher(BatchLimits(**{"max_batch_size": 4, "max_wait_ms": 10, "max_queue": 8, **limits}))  # type: ignore[arg-type]


def ids(batch: list[Request]) -> list[int]:
    return [r.id for r in batch]


def test_a_lone_request_waits_for_company_and_no_longer() -> None:
    batcher = make()
    batcher.add(request(1, arrived=5.0))
    early = batcher.take(5.009)
    assert early.batch == [] and early.wake_at == pytest.approx(5.010)
    assert ids(batcher.take(5.010).batch) == [1]
    assert len(batcher) == 0


def test_a_full_batch_leaves_at_once_and_the_rest_waits() -> None:
    batcher = make()
    for id in range(5):
        batcher.add(request(id, arrived=1.0))
    assert ids(batcher.take(1.0).batch) == [0, 1, 2, 3]
    assert batcher.take(1.0).batch == []
    assert ids(batcher.take(1.01).batch) == [4]


def test_nobody_waits_for_company_that_cannot_come() -> None:
    batcher = make()
    batcher.add(request(1, arrived=1.0))
    assert batcher.take(1.0, sources=2).batch == []
    batcher.add(request(2, arrived=1.001))
    assert ids(batcher.take(1.001, sources=2).batch) == [1, 2]
    batcher.add(request(3, arrived=1.002))
    assert ids(batcher.take(1.002, sources=1).batch) == [3]


def test_only_requests_of_one_split_run_together_oldest_first() -> None:
    batcher = make()
    batcher.add(request(1, split=3, arrived=1.002))
    batcher.add(request(2, split=7, arrived=1.001))
    batcher.add(request(3, split=3, arrived=1.003))
    assert ids(batcher.take(2.0).batch) == [2]
    assert ids(batcher.take(2.0).batch) == [1, 3]


def test_a_request_whose_budget_ran_out_is_not_run() -> None:
    batcher = make()
    batcher.add(request(1, arrived=1.0, expires=1.005))
    batcher.add(request(2, arrived=1.0, expires=2.0))
    assert batcher.take(1.0).wake_at == pytest.approx(1.005)  # to say so in time
    decision = batcher.take(1.02)
    assert ids(decision.expired) == [1] and ids(decision.batch) == [2]
    assert len(batcher) == 0


def test_a_full_queue_refuses() -> None:
    batcher = make(max_queue=2)
    assert batcher.add(request(1)) and batcher.add(request(2))
    assert not batcher.add(request(3))
    batcher.take(1.0)
    assert batcher.add(request(4))


def test_a_cancelled_request_leaves_the_queue() -> None:
    batcher = make()
    cancelled, again = request(1), request(1)
    batcher.add(cancelled)
    batcher.add(request(2))
    assert not batcher.remove(again)  # the same id, and another request
    assert batcher.remove(cancelled) and not batcher.remove(cancelled)
    assert ids(batcher.take(1.0).batch) == [2]


def test_an_empty_queue_asks_for_no_wake_up() -> None:
    assert make().take(1.0).wake_at is None


@pytest.mark.parametrize("bad", [{"max_batch_size": 0}, {"max_wait_ms": -1}, {"max_queue": 0}])
def test_limits_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected max_batch_size"):
        make(**bad)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1), st.floats(0, 2)), max_size=40))
def test_every_request_leaves_exactly_once(arrivals: list[tuple[int, float, float]]) -> None:
    batcher = make(max_queue=1000)
    for id, (split, arrived, budget) in enumerate(arrivals):
        batcher.add(request(id, split, arrived, arrived + budget))
    left: list[int] = []
    for now in (0.5, 1.0, 1.5, *[4.0] * 50):
        decision = batcher.take(now)
        assert len(decision.batch) <= 4
        assert len({r.split for r in decision.batch}) <= 1
        assert all(r.expires > now for r in decision.batch)
        left += ids(decision.batch) + ids(decision.expired)
    assert sorted(left) == list(range(len(arrivals))) and len(batcher) == 0
