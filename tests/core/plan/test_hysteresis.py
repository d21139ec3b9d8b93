"""How long a better plan takes to prove so: two or three plans whose figures are written down here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from spinn_stream.plan import PlanTable, parse_sla
from spinn_stream.plan.change.config import SchedulerConfig
from spinn_stream.plan.change.hysteresis import Hysteresis
from spinn_stream.plan.predict.predictor import Prediction

SLA = parse_sla("accuracy_drop <= 1%; minimize latency_ms, then server_cost")
CONFIG = SchedulerConfig()
EVERY_S = 0.2
Plans = Sequence[tuple[float, float, float]]
"""latency_ms, server_cost, accuracy_drop of each plan; the first one is in force."""

OLD = (100.0, 9.0, 0.005)
CHEAPER = (102.0, 0.0, 0.005)
LITTLE_BETTER = (88.9, 9.0, 0.005)
BETTER_IN_BOTH = (88.9, 0.0, 0.005)
MUCH_BETTER = (50.0, 9.0, 0.005)


@pytest.fixture
def predicted(table: PlanTable) -> Callable[[Plans], Prediction]:
    some = np.unique(table.split, return_index=True)[1]  # a plan of each split

    def make(plans: Plans) -> Prediction:
        latency_ms, server_cost, accuracy_drop = np.transpose(plans)
        rows = {"latency_ms": latency_ms, "server_cost": server_cost, "accuracy_drop": accuracy_drop}
        return Prediction(table.take(some[: len(plans)]), rows)

    return make


def seconds_to_change(
    make: Callable[[Plans], Prediction], plans: Callable[[int], Plans], *, slower: Plans | None = None,
    faster: Plans | None = None, hysteresis: Hysteresis | None = None, most_s: float = 30.0,
) -> tuple[float | None, int | None]:  # fmt: skip
    """When the plan changes, and to which, where the plans' figures are those at the n-th look."""
    asked = hysteresis or Hysteresis(CONFIG)
    for n in range(round(most_s / EVERY_S)):
        seen = plans(n)
        best = min(range(len(seen)), key=lambda i: (seen[i][2] > 0.01, seen[i][0]))
        violation = max(0.0, (seen[best][2] - 0.01) / 0.1)
        if best == 0 and all(plan[1] >= seen[0][1] for plan in seen):
            asked.settled()
            continue
        change = asked.compare(
            n * EVERY_S, make(seen), SLA, 0, best, violation,
            lambda factor, seen=seen: make((slower if factor > 1 else faster) or seen),
        )  # fmt: skip
        if change is not None:
            return n * EVERY_S, change.place
    return None, None


def test_much_better_is_believed_soon_and_a_little_late(predicted: Callable[[Plans], Prediction]) -> None:
    much, _ = seconds_to_change(predicted, lambda n: [OLD, MUCH_BETTER])
    little, _ = seconds_to_change(predicted, lambda n: [OLD, LITTLE_BETTER])
    assert much is not None and much <= 0.8
    assert little is not None and little >= CONFIG.tie_s


@pytest.mark.parametrize("percent", range(11, 40))
def test_a_question_is_decided_soon_or_left_for_long(percent: int, predicted: Callable[[Plans], Prediction]) -> None:
    """Whatever the gain, no change comes between the two: nobody could tell what it is for."""
    at, _ = seconds_to_change(predicted, lambda n: [OLD, (100.0 - percent, 9.0, 0.005)])
    assert at is not None and (at <= CONFIG.settle_s + EVERY_S or at >= CONFIG.tie_s)
    assert at < CONFIG.tie_s or percent < 20


def test_a_tie_ends_at_once_where_the_other_plan_becomes_much_better(
    predicted: Callable[[Plans], Prediction],
) -> None:
    later = round(5 / EVERY_S)
    at, _ = seconds_to_change(predicted, lambda n: [OLD, MUCH_BETTER if n >= later else LITTLE_BETTER])
    assert at is not None and 5 < at <= 6


def test_a_tie_that_is_none_on_average_changes_nothing(predicted: Callable[[Plans], Prediction]) -> None:
    seen = [(88.0, 9.0, 0.005)] * 3 + [(95.0, 9.0, 0.005)]
    at, _ = seconds_to_change(predicted, lambda n: [OLD, seen[n % 4] if n > 10 else LITTLE_BETTER], most_s=120.0)
    assert at is None


def test_better_in_both_targets_takes_no_longer_than_in_the_later_alone(
    predicted: Callable[[Plans], Prediction],
) -> None:
    for other in (CHEAPER, BETTER_IN_BOTH):
        at, place = seconds_to_change(predicted, lambda n, other=other: [OLD, other])
        assert place == 1 and at is not None
        assert CONFIG.patience_s <= at <= CONFIG.patience_s + 2 * EVERY_S


def test_a_later_target_alone_waits_for_a_rest_after_a_change(predicted: Callable[[Plans], Prediction]) -> None:
    for other, least in ((CHEAPER, CONFIG.rest_s), (BETTER_IN_BOTH, 0.0)):
        asked = Hysteresis(CONFIG)
        asked.changed(0.0, None, (0, 0))
        at, _ = seconds_to_change(predicted, lambda n, other=other: [OLD, other], hysteresis=asked)
        assert at is not None and least <= at <= least + CONFIG.patience_s + 3 * EVERY_S


@pytest.mark.parametrize(
    ("bound", "just", "spare"),
    [("latency_ms <= 52", (50.0, 0.0, 30.0), (49.0, 0.0, 30.0)),
     ("throughput_fps >= 20", (50.0, 0.0, 20.5), (50.0, 0.0, 21.5))],
)  # fmt: skip
def test_a_better_plan_keeps_the_bounds_with_a_twentieth_to_spare(
    bound: str, just: tuple[float, float, float], spare: tuple[float, float, float], table: PlanTable
) -> None:
    def predicted(plans: Plans) -> Prediction:
        latency_ms, server_cost, throughput_fps = np.transpose(plans)
        rows = {"latency_ms": latency_ms, "server_cost": server_cost, "throughput_fps": throughput_fps}
        return Prediction(table.take(range(len(plans))), rows)

    def changes(better: tuple[float, float, float]) -> bool:
        asked, seen = Hysteresis(CONFIG), predicted([(52.0, 9.0, 30.0), better])
        sla = parse_sla(f"{bound}; minimize server_cost")
        looks = (asked.compare(n * EVERY_S, seen, sla, 0, 1, 0.0, lambda factor: seen) for n in range(100))
        return any(change is not None for change in looks)

    assert changes(spare) and not changes(just)


def test_looks_that_find_nothing_better_take_as_much_away(predicted: Callable[[Plans], Prediction]) -> None:
    worse = (120.0, 0.0, 0.005)
    at, _ = seconds_to_change(predicted, lambda n: [OLD, CHEAPER if n % 2 else worse])
    assert at is None
    at, _ = seconds_to_change(predicted, lambda n: [OLD, CHEAPER if n % 4 else worse])  # three of four
    assert at is not None and at < 4.0


def test_a_plan_that_less_favourable_conditions_would_break_is_not_taken(
    predicted: Callable[[Plans], Prediction],
) -> None:
    edge = [(110.0, 9.0, 0.005), (55.0, 9.0, 0.03)]
    assert seconds_to_change(predicted, lambda n: [OLD, MUCH_BETTER], slower=edge) == (None, None)
    both = [(110.0, 9.0, 0.04), (55.0, 9.0, 0.03)]  # the plan in force would be broken more
    assert seconds_to_change(predicted, lambda n: [OLD, MUCH_BETTER], slower=both)[1] == 1


def test_a_plan_that_more_favourable_conditions_would_make_the_worse_one_is_not_taken(
    predicted: Callable[[Plans], Prediction],
) -> None:
    """Where a server just fails to keep up, as at a cliff's edge, it keeps up in the next moment."""
    edge = [(45.0, 9.0, 0.005), (48.0, 9.0, 0.005)]
    assert seconds_to_change(predicted, lambda n: [OLD, MUCH_BETTER], faster=edge) == (None, None)


def test_a_question_that_caution_answers_is_not_asked_again_at_once(predicted: Callable[[Plans], Prediction]) -> None:
    """What is beyond the edge at the first look, and not at some later one, is no reason for a late change."""
    edge = [(90.0, 9.0, 0.005), (98.0, 9.0, 0.005)]
    asked = Hysteresis(CONFIG)
    plans = [OLD, (83.0, 0.0, 0.005)]
    at, _ = seconds_to_change(predicted, lambda n: plans, slower=edge, hysteresis=asked, most_s=2 * CONFIG.settle_s)
    assert at is None
    for n in range(round(10 / EVERY_S)):
        now = 2 * CONFIG.settle_s + n * EVERY_S
        assert asked.compare(now, predicted(plans), SLA, 0, 1, 0.0, lambda factor: predicted(plans)) is None


def test_a_broken_plan_gives_way_to_one_that_less_favourable_conditions_do_not_break(
    predicted: Callable[[Plans], Prediction],
) -> None:
    now = [(100.0, 9.0, 0.03), (50.0, 9.0, 0.005), (70.0, 9.0, 0.005)]
    edge = [(110.0, 9.0, 0.05), (55.0, 9.0, 0.03), (77.0, 9.0, 0.005)]
    at, place = seconds_to_change(predicted, lambda n: now, slower=edge)
    assert place == 2 and at is not None and at <= CONFIG.repair_s + 2 * EVERY_S
    nothing_holds = [(110.0, 9.0, 0.05), (55.0, 9.0, 0.03), (77.0, 9.0, 0.02)]
    assert seconds_to_change(predicted, lambda n: now, slower=nothing_holds)[1] == 1


@pytest.mark.parametrize("safe", [True, False])
def test_changes_just_before_delay_a_repair_that_less_favourable_conditions_would_undo(
    safe: bool, predicted: Callable[[Plans], Prediction]
) -> None:
    now = [(100.0, 9.0, 0.03), (50.0, 9.0, 0.005)]
    edge = [(110.0, 9.0, 0.05), (55.0, 9.0, 0.005 if safe else 0.02)]
    asked = Hysteresis(CONFIG)
    waits, began = [], 0.0
    for _ in range(3):
        for n in range(1, 100):
            at = began + n * EVERY_S
            if asked.compare(at, predicted(now), SLA, 0, 1, 0.0, lambda factor: predicted(edge)) is not None:
                waits.append((n - 1) * EVERY_S)
                asked.changed(at, (0, 0), (1, 1))
                began = at
                break
    assert len(waits) == 3 and waits[0] <= CONFIG.repair_s + EVERY_S
    assert waits[1] == pytest.approx(3 * CONFIG.repair_s, abs=EVERY_S)
    assert waits[2] == pytest.approx((3 if safe else 9) * CONFIG.repair_s, abs=EVERY_S)


def test_a_second_repair_looks_at_conditions_that_are_less_favourable_still(
    predicted: Callable[[Plans], Prediction],
) -> None:
    """A link that got slow is believed to be slower with every answer: what just holds now would be left again."""
    now = [(100.0, 9.0, 0.03), (50.0, 9.0, 0.005), (70.0, 9.0, 0.005)]
    edges = {1.1: now, 1.21: [(121.0, 9.0, 0.05), (60.0, 9.0, 0.03), (85.0, 9.0, 0.005)]}
    asked, places = Hysteresis(CONFIG), []
    for n in range(1, 100):
        change = asked.compare(
            n * EVERY_S, predicted(now), SLA, 0, 1, 0.0, lambda factor: predicted(edges[round(factor, 2)])
        )
        if change is not None:
            places.append(change.place)
            asked.changed(n * EVERY_S, (0, 0), (1, 1))
            if len(places) == 2:
                break
    assert places == [1, 2]
