"""Figures and their intervals."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from spinn_traces.replay.report.statistics import (
    Estimate,
    Floats,
    RunSample,
    Sample,
    bins_of,
    block_bins,
    block_weights,
)


def run_of(values: Floats, bins: int, *, dropped: int = 0) -> RunSample:
    """A frame for each value, evenly over the bins."""
    at = np.arange(len(values)) * bins // len(values)
    return RunSample(bins, at, np.full(dropped, bins - 1), values, 1.0, 1000.0, 50.0)


def draws(bins: int, block: int, repeats: int = 1, rounds: int = 1000, seed: int = 0) -> np.ndarray:
    return block_weights(bins, block, repeats, rounds, np.random.default_rng(seed))


def test_a_run_s_time_is_cut_into_half_seconds_and_blocks_of_five_seconds() -> None:
    assert (bins_of(60), block_bins(60, 120)) == (120, 10)
    assert (bins_of(3), block_bins(3, 6)) == (6, 1)  # at least four blocks
    assert (bins_of(3600), block_bins(3600, 600)) == (600, 1)  # 6 s
    assert (bins_of(0.1), block_bins(0.1, 1)) == (1, 1)


def test_a_resample_is_as_long_as_the_run_made_of_blocks_and_every_bin_is_as_likely() -> None:
    weights = draws(10, 4, rounds=20_000)
    assert weights.shape == (20_000, 1, 10) and (weights.sum(axis=2) == 10).all()
    assert weights.mean(axis=0)[0] == pytest.approx(np.ones(10), abs=0.03)
    one = draws(8, 8, rounds=50)  # a single block wraps around: each bin once
    assert (one == 1).all()
    for row in draws(12, 4, rounds=30)[:, 0]:  # three blocks: at most three rises around the ring
        assert sum(b > a for a, b in pairwise([row[-1], *row])) <= 3


def test_repeats_are_drawn_whole() -> None:
    weights = draws(6, 2, repeats=3, rounds=5000)
    runs = weights.sum(axis=2) / 6  # how often each repeat is in each resample
    assert (runs == runs.round()).all() and (runs.sum(axis=1) == 3).all()
    assert (runs == 0).any() and runs.mean(axis=0) == pytest.approx(np.ones(3), abs=0.05)


def test_shares_quantiles_and_totals_are_those_of_the_data() -> None:
    ages = np.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0])
    sample = Sample([[run_of(ages, 5, dropped=10)]], [draws(5, 1)])
    assert sample.share([(ages > 75).astype(float)], [np.ones(10)]).value == pytest.approx(0.3)
    assert [e.value for e in sample.age_quantiles((0.5, 0.91, 1.0))] == [50.0, 100.0, 100.0]
    assert sample.dropped().value == pytest.approx(0.5)
    total = sample.per_run(lambda run: run.server_ms, lambda run: len(run.age_ms))
    assert total.value == pytest.approx(5.0) and total.interval is None  # one run says nothing of others
    nothing = sample.share([np.zeros(10)], [np.zeros(10)])
    assert np.isnan(nothing.value) and nothing.interval is None


def test_what_never_varies_has_an_interval_of_no_width() -> None:
    sample = Sample([[run_of(np.full(40, 7.0), 8)]], [draws(8, 2)])
    assert sample.age_quantiles((0.99,))[0].interval == (7.0, 7.0)
    assert sample.share([np.ones(40)], [np.ones(40)]).interval == (1.0, 1.0)


def test_totals_of_repeats_that_differ_have_an_interval() -> None:
    runs = [RunSample(4, np.arange(4), np.arange(0), np.ones(4), 1.0, total, 0.0) for total in (100.0, 200.0, 300.0)]
    found = Sample([runs], [draws(4, 1, repeats=3)]).per_run(lambda run: run.bytes_up, lambda run: run.minutes)
    assert found.value == pytest.approx(200.0)
    assert found.interval is not None and found.interval[0] < 150 and found.interval[1] > 250


def ar1(count: int, phi: float, rng: np.random.Generator) -> Floats:
    """x[t] = phi x[t-1] + noise, mean 0, variance 1."""
    x = np.empty(count)
    x[0] = rng.standard_normal()
    for t in range(1, count):
        x[t] = phi * x[t - 1] + np.sqrt(1 - phi * phi) * rng.standard_normal()
    return x


def test_intervals_cover_the_truth_of_correlated_frames_where_single_frames_would_not() -> None:
    """P(x > 0) is 1/2 in an AR(1) process with phi = 0.9: 19 frames count as one, so that independent draws give
    intervals four times too narrow. 200 runs of 100 s at 6 frames a second."""
    rng, bins = np.random.default_rng(5), 200
    covered = {"blocks": 0, "frames": 0}
    weights = {"blocks": draws(bins, 20, rounds=300), "frames": draws(600, 1, rounds=300)}
    for _ in range(200):
        above = (ar1(600, 0.9, rng) > 0).astype(np.float64)
        for kind, own in weights.items():
            run = run_of(above, bins if kind == "blocks" else 600)
            interval = Sample([[run]], [own]).share([above], [np.ones(600)]).interval
            assert interval is not None
            covered[kind] += interval[0] <= 0.5 <= interval[1]
    assert covered["blocks"] >= 0.86 * 200  # 95 % asked; block bootstraps stay a little below
    assert covered["frames"] <= 0.60 * 200


def test_the_same_draws_for_both_let_a_small_steady_difference_be_seen() -> None:
    """The network makes ages swing by 40 ms; one policy is always 2 ms faster. Apart the intervals overlap."""
    swing = 100 + 40 * np.sin(np.arange(600) / 40)
    own = draws(100, 10)
    slow, fast = (
        Sample([[run_of(swing + shift, 100)]], [own]).share([swing + shift], [np.ones(600)]) for shift in (0.0, -2.0)
    )
    assert slow.interval is not None and fast.interval is not None and slow.interval[0] < fast.interval[1]
    assert fast.below(slow) and not slow.below(fast) and not fast.below(fast)
    assert not Estimate(1.0, None).below(slow)
