"""Shares of the exits, and what becomes of them where frames are easier or harder than the tables'."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from spinn_stream.plan import build_table
from spinn_stream.plan.predict.exits import Exits, of_those_that_come, shifted

from .made import made_bundle, made_profile


def one_by_one(share: list[float], shifts: list[float]) -> list[float]:
    """The same for one threshold, in plain Python: frames go from exit to exit."""
    found, come_by_table, come = [], 1.0, 1.0
    for s, shift in zip(share[:-1], shifts, strict=True):
        p = s / come_by_table if come_by_table > 1e-12 else 0.0
        if 0 < p < 1:
            p = 1 / (1 + math.exp(-(math.log(p / (1 - p)) + shift)))
        found.append(come * p)
        come_by_table, come = come_by_table - s, come * (1 - p)
    return [*found, come]


@pytest.mark.parametrize("seed", range(100))
def test_frames_go_from_exit_to_exit(seed: int) -> None:
    rng = random.Random(seed)
    bundle = made_bundle(rng)
    share = Exits(bundle).share
    shifts = [rng.uniform(-3, 3) for _ in bundle.exits[:-1]]
    found = shifted(share, shifts)
    assert np.abs(found - [one_by_one(row, shifts) for row in share.tolist()]).max() < 1e-9
    assert np.abs(found.sum(1) - 1).max() < 1e-9
    assert np.abs(shifted(share, [0.0] * len(shifts)) - share).max() < 1e-9
    assert ((found == 0) == (share == 0))[:, :-1].all(), "an exit that answers nothing answers nothing"
    assert np.abs(of_those_that_come(share)[:, -1] - 1).max() == 0, "what comes to the final exit is answered there"


@pytest.mark.parametrize("seed", range(20))
def test_a_shifted_table_is_that_of_a_bundle_with_such_shares(seed: int) -> None:
    rng = random.Random(seed)
    bundle = made_bundle(rng)
    bundle = replace(bundle, thresholds=(*bundle.thresholds, bundle.thresholds[-1]))  # none is added then
    early = len(bundle.exits) - 1
    rows = [replace(row, needed=(0.5,) * early) for row in bundle.thresholds[:-1]]
    last = replace(bundle.thresholds[-1], threshold=1.0, needed=(None,) * early, share=(*(0.0,) * early, 1.0))
    shifts = [rng.uniform(-2, 2) for _ in range(early)]
    plain = replace(bundle, thresholds=(*rows, last))
    other = replace(
        plain, thresholds=(*(replace(r, share=tuple(one_by_one(list(r.share), shifts))) for r in rows), last)
    )
    profile = made_profile(rng, bundle)
    got, expected = build_table(plain, profile, profile, None, shifts), build_table(other, profile, profile)
    for name in ("sent", "server", "tail_var", "accuracy"):
        assert getattr(got, name) == pytest.approx(getattr(expected, name), rel=1e-6, abs=1e-9), name
    for name in ("ends", "weights", "alone", "sent_var"):
        assert getattr(got.ways, name) == pytest.approx(getattr(expected.ways, name)), name
