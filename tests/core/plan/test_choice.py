"""Which plan is the best, and what is said of it: a few plans whose figures are written down here."""

from __future__ import annotations

import pytest

from spinn_stream.cli.plan_explained import bound_in_words
from spinn_stream.plan import parse_sla
from spinn_stream.plan.change.choice import binding, choose, shown, violations

from .figures import Make


def test_constraints_prune_and_then_targets_decide_in_their_order(plans: Make) -> None:
    found = plans(latency_ms=[10.0, 50.0, 52.0, 53.0], server_cost=[0.0, 9.0, 4.0, 1.0], accuracy_drop=[0.02, 0, 0, 0])
    asked = "accuracy_drop <= 1%; minimize latency_ms within 5%, then server_cost"
    assert choose(found, parse_sla(asked)) == 2  # 53 ms are more than 5 % from 50 ms
    assert choose(found, parse_sla(asked.replace("5%,", "6%,"))) == 3
    assert choose(found, parse_sla("minimize latency_ms")) == 0


def test_a_bound_is_kept_by_a_figure_that_is_equal_to_it(plans: Make) -> None:
    found = plans(latency_ms=[60.0, 50.0], throughput_fps=[30.0, 15.0])
    assert choose(found, parse_sla("latency_ms <= 60, throughput_fps >= 30; minimize latency_ms")) == 0


def test_if_no_plan_keeps_all_the_least_violation_in_units_of_the_bounds_wins(plans: Make) -> None:
    """Off by 40 ms of 40, by 20 of 40, and by 10 answers a second of 20: 1, 0.5 and 0.5; the cheaper of the equals."""
    found = plans(latency_ms=[80.0, 60.0, 40.0], throughput_fps=[20.0, 20.0, 10.0], server_cost=[0.0, 7.0, 6.0])
    asked = parse_sla("latency_ms <= 40, throughput_fps >= 20; minimize server_cost")
    assert violations(found, asked.constraints) == pytest.approx([1.0, 0.5, 0.5])
    assert choose(found, asked) == 2


def test_violations_that_differ_by_less_than_a_hundredth_are_equal(plans: Make) -> None:
    asked = parse_sla("latency_ms <= 100; minimize server_cost")
    assert choose(plans(latency_ms=[150.0, 150.9], server_cost=[5.0, 1.0]), asked) == 1
    assert choose(plans(latency_ms=[150.0, 151.1], server_cost=[5.0, 1.0]), asked) == 0


def test_the_constraint_that_decides_is_the_one_that_costs_most(plans: Make) -> None:
    """Without the one the answers would be 30 ms old, without the other 45, with both 50."""
    found = plans(latency_ms=[30.0, 45.0, 50.0], accuracy_drop=[0.02, 0.0, 0.0], server_cost=[1.0, 9.0, 2.0])
    asked = parse_sla("server_cost <= 5, accuracy_drop <= 1%; minimize latency_ms")
    bound = binding(found, asked, 2)
    assert bound is not None and bound_in_words(bound) == "accuracy_drop <= 1%: 0.00 %" and not bound.broken
    assert (bound.value, bound.over, bound.gain) == (0.0, pytest.approx(-0.01), 20.0)


def test_the_same_where_more_is_better(plans: Make) -> None:
    found = plans(accuracy=[0.8, 0.7], latency_ms=[90.0, 50.0])
    bound = binding(found, parse_sla("latency_ms <= 60; maximize accuracy"), 1)
    assert bound is not None and (bound.value, bound.over) == (50.0, -10.0)
    assert bound.gain == pytest.approx(0.1)


def test_no_constraint_decides_where_the_plan_would_be_as_good_without(plans: Make) -> None:
    """Within the first target's tolerance, that is: 4 % of 50 ms here, and half a point of accuracy."""
    asked = parse_sla("accuracy_drop <= 1%; minimize latency_ms within 5%")
    assert binding(plans(latency_ms=[48.0, 50.0], accuracy_drop=[0.02, 0.0]), asked, 1) is None
    assert binding(plans(latency_ms=[47.0, 50.0], accuracy_drop=[0.02, 0.0]), asked, 1) is not None
    asked = parse_sla("latency_ms <= 60; maximize accuracy")
    assert binding(plans(accuracy=[0.704, 0.7], latency_ms=[90.0, 50.0]), asked, 1) is None
    assert binding(plans(accuracy=[0.706, 0.7], latency_ms=[90.0, 50.0]), asked, 1) is not None
    assert binding(plans(latency_ms=[1.0, 50.0]), parse_sla("minimize latency_ms"), 1) is None


def test_of_broken_constraints_the_most_violated_one_is_said_and_nothing_is_gained(plans: Make) -> None:
    """Off by 30 ms of 60, and by 12 answers a second of 15."""
    found = plans(latency_ms=[90.0], throughput_fps=[3.0])
    asked = parse_sla("latency_ms <= 60, throughput_fps >= 15; minimize latency_ms")
    bound = binding(found, asked, 0)
    assert bound is not None and bound.broken and (bound.value, bound.over, bound.gain) == (3.0, 12.0, 0.0)
    assert bound_in_words(bound) == "throughput_fps >= 15 fps cannot be kept: 3 fps, off by 12 fps"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("accuracy", 0.78125, "78.12 %"),
        ("accuracy_drop", 0.01, "1.00 %"),
        ("uplink", 123_456, "123.5 kB/s"),
        ("latency_ms", 35.44, "35.4 ms"),
        ("latency_ms", 99.9, "99.9 ms"),
        ("latency_ms", 1234.6, "1235 ms"),
        ("throughput_fps", 7, "7 fps"),
    ],
)
def test_a_figure_is_shown_with_its_unit(name: str, value: float, text: str) -> None:
    assert shown(name, value) == text
