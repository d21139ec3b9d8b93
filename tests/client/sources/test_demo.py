"""The demo's photographs."""

from __future__ import annotations

import itertools

import numpy as np

from spinn_client.sources.base import pixels_of
from spinn_client.sources.demo import FPS, PHOTOGRAPHS, SECONDS_EACH, VIEW
from spinn_client.sources.registry import open_source


def test_the_demo_moves_over_each_photograph() -> None:
    source = open_source("demo")
    assert source.fps == FPS and not source.live
    each = int(FPS * SECONDS_EACH)
    frames = list(itertools.islice(pixels_of(source), each * len(PHOTOGRAPHS) + 1))
    assert len(frames) == each * len(PHOTOGRAPHS)
    assert {f.shape for f in frames} == {(*VIEW, 3)} and {f.dtype.name for f in frames} == {"uint8"}
    for photograph in range(len(PHOTOGRAPHS)):
        shots = frames[photograph * each : (photograph + 1) * each]
        assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(shots))
        assert min(f.std() for f in shots) > 10  # a picture, not a blank
