"""The scheduler's prediction and choice are those of plain Python over all plans."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from spinn_stream.plan import METRICS, build_table, predict
from spinn_stream.plan.change.choice import choose, violations

from .made import made_bundle, made_conditions, made_profile, made_sla
from .scalar import Scalar, best, violation

BUNDLES = 70
EACH = 1  # conditions for a bundle; agreements for each:
SLAS = 30


@pytest.mark.parametrize("seed", range(BUNDLES))
def test_the_choice_is_that_of_plain_python_over_all_plans(seed: int) -> None:
    rng = random.Random(seed)
    bundle = made_bundle(rng)
    device, server = made_profile(rng, bundle), made_profile(rng, bundle)
    table = build_table(bundle, device, server)
    scalar = Scalar(bundle, device, server)
    assert len(scalar.plans) == len(table)
    for _ in range(EACH):
        now = made_conditions(rng)
        prediction = predict(table, now)
        found = {i: scalar.predict(scalar.plans[i], now) for i in scalar.usable(now)}
        assert prediction.table.number.tolist() == list(found)
        for name in METRICS:
            expected = [f[name] for f in found.values()]
            assert prediction.of(name) == pytest.approx(expected, rel=1e-6, abs=1e-7), name
        for _ in range(SLAS):
            sla = made_sla(rng)
            index = choose(prediction, sla)
            broken = violations(prediction, sla.constraints)[index]
            chosen = int(prediction.table.number[index])
            assert chosen in best(sla, found), str(sla)
            assert broken == pytest.approx(violation(sla, found[chosen]), abs=1e-6)
            plan = scalar.plans[chosen]
            given = table.plan(chosen)
            assert (given.split, given.confidence_threshold, given.codec) == (plan.split, plan.threshold, plan.setting)


@pytest.mark.parametrize("side", ["device", "server"])
def test_a_profile_of_another_bundle_is_refused(side: str) -> None:
    rng = random.Random(1)
    bundle = made_bundle(rng)
    right = made_profile(rng, bundle)
    wrong = replace(right, batches=tuple(replace(row, segments=row.segments[1:]) for row in right.batches))
    device, server = (wrong, right) if side == "device" else (right, wrong)
    expected = f"a profile of {bundle.last - 1} segments for a bundle of {bundle.last}; measure it anew"
    with pytest.raises(ValueError, match=expected):
        build_table(bundle, device, server)
