"""How long a better plan takes to prove so: gains, and two plans whose figures are written down here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from spinn_stream.plan import PlanTable, parse_sla
from spinn_stream.plan.change.patience import (
    CALM_S,
    LONGEST_LOOK_S,
    MARGIN,
    MOST_GAIN,
    MOST_LATER_GAIN,
    PROOF,
    Patience,
    gain_of,
)
from spinn_stream.plan.predict.predictor import Prediction

EVERY_S = 0.2
FASTER = "accuracy_drop <= 1%; minimize latency_ms, then server_cost"
Pair = Callable[..., Prediction]


def waits(patience: Patience, gains: Sequence[float], *, since: float = 0.0) -> float | None:
    """Seconds until the better plan has proved so, with these gains look after look, the last one for ever."""
    for n in range(1000):
        if patience.worth(since + n * EVERY_S, gains[min(n, len(gains) - 1)]):
            return n * EVERY_S
    return None


@pytest.fixture
def pair(table: PlanTable) -> Pair:
    """Two plans with these figures, the one in force first."""
    places = np.unique(table.split, return_index=True)[1][:2]
    return lambda **rows: Prediction(table.take(places), {name: np.array(row) for name, row in rows.items()})


@pytest.mark.parametrize("gain", [0.15, 0.2, 0.3, MOST_GAIN])
def test_large_gains_are_believed_soon_and_small_ones_late(gain: float) -> None:
    found = waits(Patience(), [gain])
    assert found is not None
    assert PROOF / (gain - MARGIN) - 1e-9 <= found <= PROOF / (gain - MARGIN) + EVERY_S


@pytest.mark.parametrize("gain", [0.0, 0.05, MARGIN])
def test_a_gain_within_the_margin_changes_nothing(gain: float) -> None:
    assert waits(Patience(), [gain]) is None


def test_a_gain_beyond_all_reason_counts_as_the_largest() -> None:
    assert waits(Patience(), [1e6]) == waits(Patience(), [MOST_GAIN])


def test_looks_that_find_nothing_better_take_some_away() -> None:
    patience, seen = Patience(), [0.18, 0.0]
    assert not any(patience.worth(n * EVERY_S, seen[n % 2]) for n in range(20))
    assert waits(Patience(), [*[0.18, 0.18, 0.0] * 20, 0.0]) is not None  # more for it than against it


def test_a_long_time_between_two_looks_proves_no_more_than_a_short_one() -> None:
    patience = Patience()
    patience.worth(0.0, 0.15)
    assert LONGEST_LOOK_S * (0.15 - MARGIN) < PROOF and not patience.worth(60.0, 0.15)


def test_each_change_doubles_the_proof_of_the_next_one() -> None:
    patience, now, found = Patience(), 0.0, []
    for _ in range(4):
        took = waits(patience, [MOST_GAIN], since=now)
        assert took is not None
        now += took
        patience.changed(now)
        found.append(took)
    assert found == sorted(found) and found[3] >= 4 * found[0]


def test_after_a_quiet_while_it_is_as_at_first() -> None:
    restless = Patience()
    for n in range(5):
        restless.changed(n * 0.1)
    assert waits(restless, [MOST_GAIN], since=10 * CALM_S) == waits(Patience(), [MOST_GAIN])
    for n in range(5):
        restless.changed(20 * CALM_S + n * 0.1)
    soon = waits(restless, [MOST_GAIN], since=20 * CALM_S + 1)
    assert soon is not None and soon > 10 * PROOF / (MOST_GAIN - MARGIN)


def test_the_first_target_that_tells_two_plans_apart_decides(pair: Pair) -> None:
    asked = parse_sla(FASTER)

    def gain(latency_ms: float, server_cost: float) -> tuple[float, str] | None:
        return gain_of(
            pair(latency_ms=[100.0, latency_ms], server_cost=[10.0, server_cost], accuracy_drop=[0.0, 0.0]), asked, 0, 1
        )

    share, why = gain(70.0, 30.0) or (0.0, "")
    assert share == pytest.approx(0.3) and why == "because the age of answers falls from 100 ms to 70 ms"
    assert gain(106.0, 0.0) is None  # older answers by more than the tolerance, however cheap
    for latency_ms in (98.0, 104.0):
        share, why = gain(latency_ms, 4.0) or (0.0, "")
        assert share == MOST_LATER_GAIN and why.startswith("because the server's work falls from 10 ms")
    share, _ = gain(98.0, 8.8) or (0.0, "")
    assert share == pytest.approx(0.12)
    assert gain(95.0, 10.0) is None and gain(100.0, 9.5) is None  # within the margin


def test_a_gain_in_accuracy_counts_in_tolerances(pair: Pair) -> None:
    found = pair(accuracy=[0.70, 0.72], latency_ms=[50.0, 50.0])
    gain = gain_of(found, parse_sla("maximize accuracy within 0.5%, minimize latency_ms"), 0, 1)
    assert gain is not None and gain.share == pytest.approx(4 * MARGIN)


@pytest.mark.parametrize("drop", [0.0101, 0.2])
def test_a_constraint_that_only_the_better_plan_keeps_counts_by_how_far_it_is_broken(drop: float, pair: Pair) -> None:
    found = pair(latency_ms=[10.0, 90.0], server_cost=[0.0, 9.0], accuracy_drop=[drop, 0.01])
    gain = gain_of(found, parse_sla(FASTER), 0, 1)
    broken = (drop - 0.01) / parse_sla(FASTER).constraints[0].unit
    assert gain is not None and gain.share == pytest.approx(MARGIN + broken)
    assert gain.why.startswith("because the plan before breaks the goal: the loss of accuracy is ")
    assert gain_of(found, parse_sla(FASTER), 1, 0) is None  # however fast


def test_a_bound_that_is_hardly_broken_does_not_hide_a_large_gain(pair: Pair) -> None:
    found = pair(latency_ms=[100.0, 40.0], server_cost=[0.0, 9.0], accuracy_drop=[0.0101, 0.01])
    gain = gain_of(found, parse_sla(FASTER), 0, 1)
    assert gain is not None and gain.share == pytest.approx(0.6)
    assert gain.why.startswith("because the age of answers falls")


def test_where_both_break_a_constraint_the_distance_from_the_bound_counts(pair: Pair) -> None:
    asked = parse_sla("latency_ms <= 100; minimize server_cost")
    found = pair(latency_ms=[180.0, 150.0], server_cost=[1.0, 9.0])
    gain = gain_of(found, asked, 0, 1)
    assert gain is not None and gain.share == pytest.approx(0.3)
    about_as_far = pair(latency_ms=[150.0, 149.5], server_cost=[9.0, 1.0])
    gain = gain_of(about_as_far, asked, 0, 1)
    assert gain is not None and gain.why.startswith("because the server's work falls")
