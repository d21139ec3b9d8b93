"""The baselines know the plans that their papers know, and the scheduler is never worse than they."""

from __future__ import annotations

import random

import numpy as np
import pytest

from spinn_stream.bundle import Bundle
from spinn_stream.errors import ConfigError
from spinn_stream.plan import POLICIES, Conditions, LinkState, PlanTable, build_table, parse_sla, policy, predict
from spinn_stream.plan.change.choice import KEPT, choose, violations

from .made import made_bundle, made_conditions, made_profile, made_sla


def plans(name: str, bundle: Bundle, table: PlanTable) -> np.ndarray:
    return np.flatnonzero(policy(name).plans(bundle, table))


def without_exits(bundle: Bundle, table: PlanTable, chosen: np.ndarray) -> bool:
    thresholds = [table.thresholds[k] for k in table.threshold[chosen]]
    return all(t is None or not bundle.needed(t) for t in thresholds)


def test_each_baseline_knows_its_own_plans(bundle: Bundle, table: PlanTable) -> None:
    found = {name: plans(name, bundle, table) for name in POLICIES}
    assert len(found["spinn"]) == len(table)
    for name in ("device-only", "server-only", "neurosurgeon", "dyno"):
        assert without_exits(bundle, table, found[name]), name
    assert set(table.split[found["device-only"]]) == {bundle.last} and len(found["device-only"]) == 1
    (only,) = found["server-only"]
    assert table.split[only] == 0 and str(table.plan(only).codec) == "jpeg:100"
    assert sorted(table.split[found["neurosurgeon"]]) == list(range(bundle.last + 1))
    assert set(table.split[found["dyno"]]) == set(range(bundle.last + 1))
    assert len(found["dyno"]) > 3 * bundle.last
    for t in {table.thresholds[k] for k in table.threshold[found["edgent"]]}:
        row = next(r for r in bundle.thresholds if r.threshold == t)
        assert max(row.share) >= 0.999
    for name in ("neurosurgeon", "edgent"):
        for split in range(bundle.last):
            here = found[name][table.split[found[name]] == split]
            assert len(set(table.setting[here])) == 1


def test_what_they_ask_for() -> None:
    asked = parse_sla("latency_ms.p95 <= 80, accuracy_drop <= 1%; minimize device_energy, then latency_ms")
    plain = parse_sla("accuracy_drop <= 1%; minimize server_cost")
    assert policy("spinn").sla(asked, 150) == policy("dyno").sla(asked, 150) == asked
    assert str(policy("neurosurgeon").sla(asked, None)) == "minimize device_energy within 0%"
    assert str(policy("neurosurgeon").sla(plain, None)) == "minimize latency_ms within 0%"
    edgent = "maximize accuracy within 0%, then minimize latency_ms"
    assert str(policy("edgent").sla(asked, 150)) == f"latency_ms.p95 <= 80 ms; {edgent}"
    assert str(policy("edgent").sla(plain, 150)) == f"latency_ms <= 150 ms; {edgent}"


def test_a_policy_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected one of spinn, device-only"):
        policy("best")
    assert all("(" in p.source or ":" in p.source for p in POLICIES.values())


def test_an_energy_s_rates_scale_what_they_are_rates_of(bundle: Bundle, table: PlanTable) -> None:
    """1 mW of computing for 1 ms is 1e-3 mJ; the busy time is the device's mean."""
    from spinn_stream.plan import EnergyRates

    now = Conditions(LinkState(8.0, 0.0), device_load=2.0)
    busy = predict(table, now, EnergyRates(1000.0, 0.0, 0.0)).of("device_energy")
    assert busy == pytest.approx(2 * (table.ways.weights * table.ways.ends).sum(0)[table.way])
    bits = predict(table, now, EnergyRates(0.0, 1.0, 0.0)).of("device_energy")
    assert bits == pytest.approx(8e-6 * table.sent * table.size)
    air = predict(table, now, EnergyRates(0.0, 0.0, 1000.0)).of("device_energy")
    assert air == pytest.approx(1e-3 * table.sent * table.size)  # 8 Mb/s: a microsecond a byte, at 1 W


@pytest.mark.parametrize("seed", range(15))
def test_with_any_agreement_no_baseline_that_keeps_it_is_better_in_the_first_target(seed: int) -> None:
    rng = random.Random(1000 + seed)
    made = made_bundle(rng)
    table = build_table(made, made_profile(rng, made), made_profile(rng, made))
    masks = {name: p.plans(made, table) for name, p in POLICIES.items()}
    for _ in range(4):
        now = made_conditions(rng)
        whole = predict(table, now)
        for _ in range(6):
            sla = made_sla(rng)
            index = choose(whole, sla)
            broken = violations(whole, sla.constraints)[index]
            first = sla.targets[0]
            ours = whole.of(first.metric.name)[index]
            for name, mask in masks.items():
                if not mask.any() or (now.link is None and not mask[table.split == table.last].any()):
                    continue
                theirs = predict(table.take(mask), now)
                place = choose(theirs, policy(name).sla(sla, now.deadline_ms))
                if violations(theirs, sla.constraints)[place] > KEPT:
                    continue
                assert broken <= KEPT, name
                value = theirs.of(first.metric.name)[place]
                limit = first.limit(float(value))
                assert ours >= limit - 1e-9 if first.metric.rises else ours <= limit + 1e-9 * abs(limit), (
                    name,
                    str(sla),
                )
