"""What one number means at every depth."""

from __future__ import annotations

import numpy as np
import pytest

from spinn_stream.train.pack.thresholds import (
    GRID,
    Costs,
    Outcome,
    Row,
    Scores,
    default_threshold,
    lost_at_most,
    map_thresholds,
)

COSTS = Costs(backbone=(0.4, 0.7), heads=(0.05, 0.03))


def simulated(images: int = 3000, seed: int = 0) -> Scores:
    """Two calibrated early exits and a final one: deeper ones are surer, and right as often as they are sure."""
    rng = np.random.default_rng(seed)
    hardness = rng.uniform(0, 1, images)
    confidences = np.stack([np.clip(1 - hardness * k, 0.01, 0.99) for k in (1.0, 0.7, 0.4)])
    luck = rng.uniform(0, 1, images)  # one draw an image: what an early exit gets right, a deeper one does, too
    return Scores(confidences, luck < confidences, COSTS)


def test_the_first_sure_exit_answers_and_skipped_heads_cost_nothing() -> None:
    scores = Scores(
        np.array([[0.9, 0.3], [0.6, 0.6], [0.1, 0.2]]), np.array([[False, True], [True, False], [True, True]]), COSTS
    )
    both = scores.play((0.5, 0.5))  # image 0 leaves at the first exit, wrong; image 1 at the second, wrong
    assert both.accuracy == 0.0 and both.share == (0.5, 0.5, 0.0)
    assert both.mean_macs_fraction == pytest.approx((0.4 + 0.05 + 0.7 + 0.05 + 0.03) / 2)
    second = scores.play((None, 0.5))
    assert second.accuracy == 0.5 and second.share == (0.0, 1.0, 0.0)
    assert second.mean_macs_fraction == pytest.approx(0.73)
    none = scores.play((None, None))
    assert none.accuracy == 1.0 and none.mean_macs_fraction == 1.0 and none.share == (0, 0, 1)
    assert scores.play((1.0, 1.0)).mean_macs_fraction == pytest.approx(1.08)  # nobody is sure, both heads are paid


def test_each_row_keeps_what_asking_everywhere_keeps_and_costs_no_more() -> None:
    scores = simulated()
    rows = map_thresholds(scores, 2)
    assert tuple(r.threshold for r in rows) == GRID
    for row in rows:
        plain = scores.play((row.threshold,) * 2 if row.threshold < 1 else (None, None))
        played = scores.play(row.needed)
        assert played.accuracy >= plain.accuracy
        assert played.mean_macs_fraction <= plain.mean_macs_fraction
    assert any(r.outcome.mean_macs_fraction < 0.97 * scores.play((r.threshold,) * 2).mean_macs_fraction for r in rows)
    accuracies = [r.outcome.accuracy for r in rows]
    assert accuracies[0] < accuracies[25] < accuracies[-1]


def test_what_a_row_promises_holds_on_images_it_was_not_chosen_on() -> None:
    scores, others = simulated(), simulated(images=100_000, seed=1)
    rows = map_thresholds(scores, 2)
    apart, broken = [], 0
    for row in rows:
        played = others.play(row.needed)
        final = scores.accuracy() - others.accuracy()  # the few images' own luck
        apart.append(row.outcome.accuracy - final - played.accuracy)
        broken += others.accuracy() - played.accuracy > row.most_lost
        assert row.outcome.mean_macs_fraction == pytest.approx(played.mean_macs_fraction, abs=0.03)
        assert sum(row.outcome.share) == pytest.approx(1)
    assert abs(np.mean(apart)) < 0.01 and max(map(abs, apart)) < 0.02  # a standard error is 0.005
    assert broken <= 0.05 * len(rows), "bounds at 95 %"
    assert rows[-1].outcome.accuracy == pytest.approx(scores.accuracy())


def test_the_bound_is_that_of_pairs() -> None:
    # 500 images, 4 worse, 1 better: 4.5 and 1.5 of 502 are lost and won; 1.645 standard errors of the difference
    lost, changed = 3 / 502, 6 / 502
    assert lost_at_most(4, 1, 500) == pytest.approx(lost + 1.6449 * ((changed - lost**2) / 502) ** 0.5, rel=1e-4)
    assert lost_at_most(0, 0, 100) > 0.01 > lost_at_most(0, 0, 500), "100 images without a loss prove no point"


def test_a_useless_exit_is_not_evaluated() -> None:
    rng = np.random.default_rng(1)
    n = 2000
    confidences = np.stack([np.full(n, 0.3), rng.uniform(0, 1, n), np.full(n, 0.9)])
    right = np.stack([rng.uniform(0, 1, n) < 0.3, rng.uniform(0, 1, n) < confidences[1], rng.uniform(0, 1, n) < 0.9])
    rows = map_thresholds(Scores(confidences, right, COSTS), 2)
    assert next(r for r in rows if r.threshold == 0.9).needed[0] is None


def row(threshold: float, cost: float, most_lost: float) -> Row:
    return Row(threshold, (threshold,), Outcome(0.9, cost, (0.5, 0.5)), most_lost)


def test_the_default_is_the_cheapest_that_loses_a_point_at_most_before_the_first_that_may_lose_more() -> None:
    rows = [row(0.5, 0.5, 0.009), row(0.7, 0.6, 0.02), row(0.8, 0.8, 0.01), row(0.9, 0.7, 0.003), row(1.0, 1.0, 0.003)]
    assert default_threshold(rows) == 0.9  # 0.8 is good, too, but dearer; 0.5 lies behind one that fails
    assert default_threshold(rows[:2]) == default_threshold([]) == 1.0
    assert default_threshold([row(0.8, 0.7, 0), row(0.9, 0.7, 0)]) == 0.9


def test_the_default_keeps_its_promise_on_other_images() -> None:
    scores, others = simulated(images=1000), simulated(images=100_000, seed=1)
    rows = map_thresholds(scores, 2)
    threshold = default_threshold(rows)
    chosen = next(r for r in rows if r.threshold == threshold)
    assert others.accuracy() - others.play(chosen.needed).accuracy <= 0.01


def test_scores_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="for 3 exits"):
        Scores(np.zeros((2, 5)), np.zeros((2, 5), bool), COSTS)
    with pytest.raises(ValueError, match="no images"):
        Scores(np.zeros((3, 0)), np.zeros((3, 0), bool), COSTS)
