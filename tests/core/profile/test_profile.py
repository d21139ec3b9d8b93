"""What a profile says a way takes, and what it refuses to be."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from spinn_stream.bundle import Bundle
from spinn_stream.profile import BatchProfile, Profile, Timing
from spinn_stream.runtime import Engine, measure_profile
from spinn_stream.runtime.measure.timing import StopRule


def made(*batches: tuple[int, float]) -> Profile:
    """Four segments of 1, 2, 3 and 4 ms, exits of 0.5 and 0.7 ms at 1 and 3, 0.1 ms for a graph; times the factor."""

    def timing(ms: float) -> Timing:
        return Timing(ms, 2 * ms)

    rows = (
        BatchProfile(
            size, tuple(timing(f * ms) for ms in (1, 2, 3, 4)), (timing(f * 0.5), timing(f * 0.7)), call_ms=f * 0.1
        )
        for size, f in batches
    )
    return Profile("onnxruntime", (1, 3), tuple(rows), Timing(0.6, 0.8))


def test_a_way_takes_its_segments_its_exits_and_a_call_for_each_graph() -> None:
    profile = made((1, 1.0))
    assert profile.expected_ms([(0, 4)]) == pytest.approx(10.1)
    assert profile.expected_ms([(0, 1), (1, 3), (3, 4)], {1, 3}) == pytest.approx(10 + 1.2 + 0.3)
    assert profile.expected_ms([(0, 3)], {1}) == pytest.approx(6.6), "an exit inside a fused graph counts, too"
    assert profile.expected_ms([]) == 0


@pytest.mark.parametrize(("batch", "factor"), [(1, 1.0), (2, 1.5), (3, 2.0), (4, 2.5), (5, 3.0), (10, 6.0)])
def test_between_batch_sizes_it_is_interpolated_and_beyond_proportional(batch: int, factor: float) -> None:
    profile = made((1, 1.0), (3, 2.0), (5, 3.0))
    assert profile.expected_ms([(0, 4)], batch=batch) == pytest.approx(10.1 * factor)


def test_it_survives_json() -> None:
    profile = made((1, 1.0), (4, 3.0))
    assert Profile.from_json(json.loads(json.dumps(profile.as_json()))) == profile


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.pop("exit_cuts"),
        lambda v: v.update(batches=[]),
        lambda v: v["batches"][0].update(batch=0),
        lambda v: v["batches"][0]["segments"].pop() and v["batches"].append(made((2, 1.0)).as_json()["batches"][0]),
        lambda v: v["batches"][0]["exits"].pop(),
        lambda v: v["batches"][0]["segments"][0].update(median_ms=-1),
        lambda v: v["batches"][0]["segments"][0].update(median_ms=float("nan")),
        lambda v: v["batches"][0]["segments"][0].update(mean_ms=1),
    ],
)
def test_what_is_no_profile_is_refused(change: Any) -> None:
    values = json.loads(json.dumps(made((1, 1.0)).as_json()))
    change(values)
    with pytest.raises(ValueError):
        Profile.from_json(values)


def test_a_measured_profile_adds_up_to_the_whole_network(bundle: Bundle, engine: Engine) -> None:
    profile = measure_profile(bundle, engine, batches=(1, 2), rule=StopRule(warm_up=1, least=5, budget_s=0.5))
    assert [b.batch for b in profile.batches] == [1, 2]
    assert profile.exit_cuts == tuple(e.cut for e in bundle.exits[:-1])
    for row in profile.batches:
        assert len(row.segments) == bundle.last and row.call_ms >= 0
        assert all(t.p95_ms >= t.median_ms for t in row.segments)
        whole = sum(t.median_ms for t in row.segments) + row.call_ms
        assert profile.expected_ms([(0, bundle.last)], batch=row.batch) == pytest.approx(whole)
        parts = profile.expected_ms(bundle.pieces(0, bundle.last), batch=row.batch)
        assert parts == pytest.approx(whole + row.call_ms * (len(bundle.exits) - 1))
    assert not engine.ready(0, 1, exit=False), "graphs that only the profile needed are still held"


def test_the_stop_rule_wants_a_narrow_interval_of_the_median() -> None:
    rule, rng = StopRule(least=8, spread=0.02), np.random.default_rng(1)
    assert not rule.is_met([1.0] * 7)
    assert rule.is_met([1.0] * 8)
    assert not rule.is_met(list(rng.normal(1, 0.2, 50)))
    assert rule.is_met(list(rng.normal(1, 0.2, 5000)))
    one_slow = [1.0] * 30 + [1000.0]
    assert rule.is_met(one_slow)
