"""Exits at equal distances of multiply-adds."""

from __future__ import annotations

import pytest

from spinn_stream.errors import ConfigError
from spinn_stream.train.cut.placement import place_exits
from spinn_stream.train.cut.tracing import FoundCut, trace_backbone

from .zoo import build


def row(*macs: int, total: int = 100) -> list[FoundCut]:
    """A network with maps at these multiply-adds."""
    maps = [FoundCut(f"at{m}", (8, 4, 4), m) for m in macs]
    return [FoundCut("input", (3, 8, 8), 0), *maps, FoundCut("pooled", (8,), total - 1), FoundCut("fc", (10,), total)]


def test_six_exits_lie_at_equal_distances() -> None:
    cuts = row(*range(1, 99))
    assert place_exits(cuts, 6) == ["at15", "at30", "at45", "at60", "at75", "at90"]
    assert place_exits(cuts, 3, low=0.2, high=0.8) == ["at20", "at50", "at80"]
    assert place_exits(cuts, 1, low=0.2, high=0.8) == ["at50"]


def test_the_nearest_cut_points_are_taken() -> None:
    # wanted are 15, 52.5 and 90
    assert place_exits(row(2, 12, 20, 40, 58, 97), 3) == ["at12", "at58", "at97"]


def test_no_cut_point_is_taken_twice() -> None:
    # wanted are 15, 40, 65 and 90; 60 is the nearest to 40 and to 65, but with 61 taken too the sum is least
    assert place_exits(row(14, 60, 61, 92), 4) == ["at14", "at60", "at61", "at92"]
    # wanted are 15 and 90: all lie at the end, so the two whose distances add up to least, shallow first
    assert place_exits(row(88, 89, 95), 2) == ["at88", "at89"]


def test_only_maps_between_input_and_logits_qualify() -> None:
    assert place_exits(row(50), 1) == ["at50"]
    with pytest.raises(ConfigError, match=r"2 exits do not fit: 1 cut points .* at most 1, of at50"):
        place_exits(row(50), 2)
    with pytest.raises(ConfigError, match="1 exits do not fit: 0 cut points"):
        place_exits(row(), 1)


@pytest.mark.parametrize(("count", "low", "high"), [(0, 0.1, 0.9), (2, 0.9, 0.1), (2, -0.1, 0.5), (2, 0.5, 1.5)])
def test_nonsense_is_refused(count: int, low: float, high: float) -> None:
    with pytest.raises(ConfigError, match="expected"):
        place_exits(row(10, 50, 90), count, low=low, high=high)


def test_exits_of_a_traced_network() -> None:
    cuts = trace_backbone(build("resnet"), (3, 32, 32)).cuts
    share = {cut.name: cut.macs / cuts[-1].macs for cut in cuts}
    # stem 5 %, the blocks of layer 1 up to 30 and 55 %, the first of layer 2 to 75 %; wanted are 15, 52.5 and 90
    assert [round(100 * share[name]) for name in ("relu", "layer1.0", "layer1", "layer2.0")] == [5, 30, 55, 75]
    assert place_exits(cuts, 3) == ["relu", "layer1", "layer2.0"]
