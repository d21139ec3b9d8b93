"""What `spinn plan --explain` says: a few plans whose figures are written down here."""

from __future__ import annotations

from spinn_stream.cli.plan_explained import pareto, runner_up, why_not
from spinn_stream.plan import parse_sla

from .figures import Make


def test_the_runner_up_is_the_best_of_the_other_splits(plans: Make) -> None:
    """A plan that breaks the constraint is none, however quick; nor is the second best of the same split."""
    found = plans([3, 3, 5, 7], latency_ms=[50.0, 51.0, 20.0, 70.0], accuracy_drop=[0, 0, 0.02, 0])
    asked = parse_sla("accuracy_drop <= 1%; minimize latency_ms")
    second = runner_up(found, asked, 0)
    assert second is not None and (second.plan.id, second.plan.split, second.figures.latency_ms) == (0, 7, 70)
    assert second.why == "latency_ms is 70 ms against 50 ms"
    assert runner_up(plans([3, 3], latency_ms=[50.0, 51.0]), asked, 0) is None


def test_a_runner_up_that_breaks_a_constraint_is_the_one_that_breaks_it_least(plans: Make) -> None:
    found = plans(latency_ms=[50.0, 90.0, 30.0], accuracy_drop=[0.0, 0.03, 0.06])
    second = runner_up(found, parse_sla("accuracy_drop <= 1%; minimize latency_ms"), 0)
    assert second is not None and second.figures.latency_ms == 90
    assert second.why == "it breaks accuracy_drop <= 1%: 3.00 %"


def test_why_another_plan_is_worse_is_the_first_thing_that_tells_them_apart(plans: Make) -> None:
    asked = parse_sla("throughput_fps >= 15; maximize accuracy, minimize latency_ms")
    found = plans(
        accuracy=[0.75, 0.70, 0.80, 0.75, 0.75, 0.60],
        latency_ms=[50.0, 20.0, 60.0, 53.0, 50.0, 9.0],
        throughput_fps=[30.0, 30.0, 30.0, 30.0, 30.0, 12.0],
    )
    assert [why_not(found, asked, 0, other) for other in range(1, 6)] == [
        "accuracy is 70.00 % against 75.00 %",
        "latency_ms is 60 ms against 50 ms",
        "latency_ms is 53 ms against 50 ms",
        "as good within the tolerances; latency_ms 50 ms, 50 ms",
        "it breaks throughput_fps >= 15 fps: 12 fps",
    ]


def test_a_constraint_that_both_break_is_no_difference(plans: Make) -> None:
    found = plans(latency_ms=[150.0, 150.5, 180.0], server_cost=[1.0, 4.0, 0.5])
    asked = parse_sla("latency_ms <= 100; minimize server_cost")
    assert why_not(found, asked, 0, 1) == "server_cost is 4 ms against 1 ms"
    assert why_not(found, asked, 0, 2) == "it breaks latency_ms <= 100 ms: 180 ms"


def test_the_front_has_every_plan_that_no_other_one_beats_in_all(plans: Make) -> None:
    """Sorted by the first metric; of two equal plans one."""
    found = plans(latency_ms=[40.0, 10.0, 20.0, 30.0, 20.0], accuracy=[0.9, 0.5, 0.7, 0.6, 0.7])
    assert pareto(found, ["latency_ms", "accuracy"]).tolist() == [1, 2, 0]
    assert pareto(found, ["accuracy", "latency_ms"]).tolist() == [0, 2, 1]
    assert pareto(found, ["latency_ms", "accuracy"], among=[0, 3, 4]).tolist() == [4, 0]
    assert pareto(found, ["latency_ms"]).tolist() == [1]
