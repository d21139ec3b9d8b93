"""What the payload tables say: the smallest setting that keeps the accuracy, and where the frame itself is smaller."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spinn_stream.bundle import Bundle, PayloadRow, load_bundle
from spinn_stream.codec import CodecSetting, default_setting
from spinn_stream.codec.payload_tables import frame_is_smaller, setting_of, smallest_row, uncoded


def row(cut: int, codec: str, size: float, final: float) -> PayloadRow:
    return PayloadRow(cut, codec, size, size, {"final": final})


@pytest.fixture
def tabled(bundle: Bundle) -> Bundle:
    """A bundle with tables of our own: 80 % without coding."""
    rows = (
        row(0, "jpeg:50", 900, 0.78), row(0, "jpeg:90", 3000, 0.797), row(0, "png", 30000, 0.80),
        row(1, "transform:4", 2000, 0.70), row(1, "transform:6", 4000, 0.80), row(1, "cnn-co:8", 9000, 0.80),
        row(9, "transform:5", 700, 0.795), row(9, "transform:6", 1000, 0.80), row(9, "cnn-co:8", 5000, 0.80),
        row(13, "transform:2", 20, 0.10),
    )  # fmt: skip
    return replace(bundle, payloads=rows)


def test_the_accuracy_without_coding_is_that_of_the_lossless_frame(tabled: Bundle) -> None:
    assert uncoded(tabled) == {"final": 0.80}
    assert uncoded(replace(tabled, payloads=())) == {}


def test_the_smallest_row_loses_no_more_than_asked(tabled: Bundle) -> None:
    found = [smallest_row(tabled, cut, points_lost=0.0051) for cut in (0, 1, 9, 13)]
    assert [r and r.codec for r in found] == ["jpeg:90", "transform:6", "transform:5", None]
    strict = smallest_row(tabled, 9, points_lost=0.001)
    assert strict is not None and setting_of(strict) == CodecSetting("transform", 6)
    assert smallest_row(replace(tabled, payloads=()), 9) is None


def test_a_cut_point_whose_activation_takes_more_than_the_frame_is_marked(tabled: Bundle) -> None:
    assert [frame_is_smaller(tabled, cut, points_lost=0.0051) for cut in (1, 9)] == [True, False]
    assert frame_is_smaller(tabled, 13), "nothing there keeps the accuracy"


def test_the_frame_is_sent_in_the_coarsest_setting_that_keeps_the_accuracy(tabled: Bundle) -> None:
    assert str(default_setting(tabled, 0)) == "jpeg:90"
    coarse = replace(tabled, payloads=tuple(r for r in tabled.payloads if r.codec != "jpeg:90"))
    assert str(default_setting(coarse, 0)) == "png"
    assert str(default_setting(replace(tabled, payloads=()), 0)) == "jpeg:95"


def test_the_default_bundle_has_a_row_for_every_cut_point_and_setting() -> None:
    bundle = load_bundle()
    settings = {(r.cut, setting_of(r)) for r in bundle.payloads}
    for cut in range(1, bundle.last):
        assert {CodecSetting("transform", bits) for bits in range(2, 9)} <= {s for c, s in settings if c == cut}
    assert {CodecSetting("jpeg", 85), CodecSetting("png", None)} <= {s for c, s in settings if c == 0}
    assert not frame_is_smaller(bundle, 9)
