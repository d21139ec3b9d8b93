"""What clients are told of the server's queue and load, and what work is expected to take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from spinn_server.work.costs import Costs
from spinn_server.work.load import Waits
from spinn_stream.profile import BatchProfile, Profile, Timing

PROFILE = Profile(
    "onnxruntime",
    (1,),
    tuple(
        BatchProfile(n, (Timing(each * n, each * n),) * 2, (Timing(1.0 * n, 1.0 * n),), 0.0)
        for n, each in ((1, 4.0), (4, 2.0), (8, 2.0))
    ),
    Timing(1, 1),
)
"""Two segments of 4 ms alone and 2 ms a request from four together on; an exit of 1 ms between them."""

BUNDLE: Any = SimpleNamespace(last=2, exits=(SimpleNamespace(cut=1), SimpleNamespace(cut=2)))


def test_an_idle_server_has_no_queue_and_runs_as_measured() -> None:
    assert Waits().median_ms(0.0) == 0.0
    assert Costs(BUNDLE, PROFILE, 8).factor(0.0) == 1.0


def test_the_queueing_delay_is_the_median_of_the_last_second() -> None:
    waits = Waits()
    for i in range(30):
        waits.waited(100, i * 0.01)
    for i in range(9):
        waits.waited(5 if i != 4 else 500, 2 + i * 0.01)
    assert waits.median_ms(2.1) == 5
    assert waits.median_ms(9.0) == 0


def test_the_load_factor_knows_batches_and_exits_and_is_in_every_estimate() -> None:
    costs = Costs(BUNDLE, PROFILE, 8)
    assert costs.run(0, 1, 4) == pytest.approx(0.008 + 0.004)
    for i in range(40):
        costs.observe(0, 1, 4, 2 * 0.012, i * 0.03)
        costs.observe(1, 2, 1, 2 * 0.004, i * 0.03)
    assert costs.factor(1.2) == pytest.approx(2.0)
    assert costs.run(0, 1, 4) == pytest.approx(0.024)


def test_a_batch_is_large_enough_if_larger_ones_are_hardly_cheaper() -> None:
    # One takes 8 ms, four 16, so 4 ms each; three lie between: (8 + 2 * 16) / 3 = 13.33, so 4.44 each, over 1.1 * 4.
    assert Costs(BUNDLE, PROFILE, 8).enough(0) == 4
    assert Costs(BUNDLE, None, 8).enough(0) == 8


def test_two_batches_of_one_gain_by_going_together_and_two_large_ones_do_not() -> None:
    costs = Costs(BUNDLE, PROFILE, 8)
    assert costs.gain(1, 1, 3) == pytest.approx(costs.run(1, 2, 1) + costs.run(1, 2, 3) - 4 * 0.002)
    assert costs.gain(1, 4, 4) == pytest.approx(0.0)
    assert costs.gain(1, 8, 8) == pytest.approx(0.0)  # no batch holds more


def test_requests_that_exits_answer_early_make_the_next_ones_cheaper() -> None:
    costs = Costs(BUNDLE, PROFILE, 8)
    whole = costs.row(0, 2)
    for _ in range(1000):
        costs.left(0, 1)
    assert costs.row(0, 2) == pytest.approx(whole * costs.run(0, 1, 4) / costs.run(0, 2, 4), rel=0.01)


def test_without_a_profile_nothing_is_expected_to_take_time() -> None:
    costs = Costs(BUNDLE, None, 8)
    for i in range(40):
        costs.observe(0, 1, 1, 1.0, i * 0.03)
    assert costs.factor(1.2) == 1.0 and costs.run(0, 2, 8) == costs.row(0, 2) == 0.0
