"""The small bundle with made-up profiles, so that every machine plans the same."""

from __future__ import annotations

from itertools import pairwise

import pytest

from spinn_stream.bundle import Bundle
from spinn_stream.plan import PlanTable, build_table
from spinn_stream.profile import BatchProfile, Profile, Timing

BACKBONE_MS = 5.2  # of the x86 core that docs/machine.md describes


@pytest.fixture(scope="session")
def made(bundle: Bundle) -> Profile:
    """Times in proportion to multiply-adds; the 95th percentile a tenth above the median."""

    def timing(macs: int) -> Timing:
        ms = BACKBONE_MS * macs / bundle.cut_points[-1].macs
        return Timing(ms, 1.1 * ms)

    cuts = bundle.cut_points
    segments = tuple(timing(b.macs - a.macs) for a, b in pairwise(cuts))
    exits = tuple(timing(e.macs) for e in bundle.exits[:-1])
    row = BatchProfile(1, segments, exits, 0.03)
    return Profile("made", tuple(e.cut for e in bundle.exits[:-1]), (row,), Timing(1.0, 1.1))


@pytest.fixture(scope="session")
def table(bundle: Bundle, made: Profile) -> PlanTable:
    return build_table(bundle, made, made)
