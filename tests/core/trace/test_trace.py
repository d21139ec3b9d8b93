"""The trace type: what passes when, by arithmetic, and that its methods agree with each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinn_stream.trace import Assumptions, Trace

STEPS = Trace([0, 1, 3], 4.0, down_mbps=[8, 0, 16], rtt_ms=[10, 30, 20], measured={"down_mbps"})
"""1 MB in the first second, nothing for two, 2 MB in the last: 3 MB in 4 s."""


def traces(smallest_mbps: float = 0.0) -> st.SearchStrategy[Trace]:
    sample = st.tuples(
        st.integers(1, 5000),  # how long, ms
        st.one_of(st.just(smallest_mbps), st.floats(max(smallest_mbps, 0.01), 100)),
    )

    def build(samples: list[tuple[int, float]]) -> Trace:
        ends = np.cumsum([ms for ms, _ in samples]) / 1000
        return Trace(np.concatenate(([0.0], ends[:-1])), float(ends[-1]), up_mbps=[mbps for _, mbps in samples])

    return st.lists(sample, min_size=1, max_size=12).map(build)


def test_a_sample_holds_until_the_next_and_the_end_is_the_beginning() -> None:
    assert [STEPS.value("down_mbps", t) for t in (0, 0.99, 1, 2.9, 3, 3.99)] == [8, 8, 0, 0, 16, 16]
    assert [STEPS.value("rtt_ms", t) for t in (4, 5, 4003)] == [10, 30, 20]  # 4003 = 1000 rounds of 4 s and 3 s


def test_means_are_weighted_by_time() -> None:
    assert STEPS.mean("down_mbps") == (1 * 8 + 2 * 0 + 1 * 16) / 4
    assert STEPS.mean("rtt_ms") == (1 * 10 + 2 * 30 + 1 * 20) / 4


def test_bytes_are_megabits_a_second_over_eight_and_go_on_in_the_next_round() -> None:
    assert STEPS.bytes_between("down_mbps", 0, 4) == 3_000_000
    assert STEPS.bytes_between("down_mbps", 0.5, 3.25) == 500_000 + 500_000
    assert STEPS.bytes_between("down_mbps", 3.5, 4.5) == 1_000_000 + 500_000
    assert STEPS.bytes_between("down_mbps", 0, 4001) == 1000 * 3_000_000 + 1_000_000


@pytest.mark.parametrize(
    ("payload_bytes", "start_s", "expected"),
    [
        (0, 1.5, 1.5),
        (500_000, 0, 0.5),
        (1_000_000, 0, 1.0),  # the earliest time: not when the outage is over
        (1_000_001, 0, 3.0000005),  # one byte at 16 Mb/s = 0.5 us
        (2_000_000, 0.5, 3.75),  # 0.5 MB before the outage, 1.5 MB at 2 MB/s after it
        (3_000_000, 0, 4.0),
        (4_000_000, 0, 5.0),
        (2_000_000, 1.0, 4.0),
        (3_000_000_000, 4.0, 4004.0),
    ],
)
def test_when_bytes_have_passed(payload_bytes: float, start_s: float, expected: float) -> None:
    assert STEPS.time_passed("down_mbps", payload_bytes, start_s) == pytest.approx(expected, abs=1e-8)


def test_nothing_ever_passes_a_link_that_is_always_away() -> None:
    away = Trace([0], 1.0, up_mbps=[0])
    assert away.time_passed("up_mbps", 1, 0) == math.inf
    assert away.time_passed("up_mbps", 0, 7) == 7
    assert away.bytes_between("up_mbps", 0, 1e6) == 0


def test_windows_are_whole_and_begin_at_zero() -> None:
    assert STEPS.windows("down_mbps").tolist() == [8, 0, 0, 16]
    assert STEPS.windows("down_mbps", 1.5).tolist() == pytest.approx([8 / 1.5, 0])  # the last second has no window
    assert STEPS.windows("down_mbps", 5).tolist() == []


def test_a_slice_begins_at_zero_again() -> None:
    piece = STEPS.slice(0.5, 3.5)
    assert piece == Trace([0, 0.5, 2.5], 3.0, down_mbps=[8, 0, 16], rtt_ms=[10, 30, 20], measured={"down_mbps"})
    assert STEPS.slice(1, 3) == Trace([0], 2.0, down_mbps=[0], rtt_ms=[30], measured={"down_mbps"})
    assert STEPS.slice(0, 4) == STEPS


def test_a_loop_repeats_and_may_stop_anywhere() -> None:
    assert STEPS.loop(4) == STEPS and STEPS.loop(2) == STEPS.slice(0, 2)
    looped = STEPS.loop(9.5)
    assert looped.times_s.tolist() == [0, 1, 3, 4, 5, 7, 8, 9] and looped.duration_s == 9.5
    assert looped.values("down_mbps").tolist() == [8, 0, 16, 8, 0, 16, 8, 0]


def test_what_is_not_measured_is_assumed_and_stays_so_when_filled() -> None:
    assert STEPS.recorded == ("down_mbps", "rtt_ms") and STEPS.assumed == ("up_mbps", "rtt_ms", "loss")
    full = STEPS.filled()
    assert full.recorded == ("up_mbps", "down_mbps", "rtt_ms", "loss") and full.assumed == STEPS.assumed
    assert full.values("up_mbps").tolist() == [8, 0, 16]  # as the other direction
    assert full.values("rtt_ms").tolist() == [10, 30, 20] and full.values("loss").tolist() == [0, 0, 0]
    delays = Trace([0], 1.0, rtt_ms=[5], measured={"rtt_ms"}).filled(Assumptions(mbps=7, loss=0.1))
    assert [delays.value(name, 0) for name in delays.recorded] == [7, 7, 5, 0.1]
    assert Trace([0], 1.0, up_mbps=[5]).filled().value("rtt_ms", 0) == 50
    with pytest.raises(ValueError, match="up_mbps is not recorded, expected one of down_mbps, rtt_ms"):
        STEPS.value("up_mbps", 0)


def test_a_trace_cannot_be_changed() -> None:
    values = np.array([1.0])
    trace = Trace(np.array([0.0]), 1.0, up_mbps=values)
    values[0] = 2
    assert trace.value("up_mbps", 0) == 1
    with pytest.raises(ValueError, match="read-only"):
        trace.values("up_mbps")[0] = 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"times_s": []}, "expected \\(N,\\)"),
        ({"times_s": [[0]]}, "expected \\(N,\\)"),
        ({"times_s": [1]}, "do not rise from 0"),
        ({"times_s": [0, 1, 1]}, "do not rise from 0"),
        ({"times_s": [0, 2, 1]}, "do not rise from 0"),
        ({"times_s": [0, math.nan]}, "do not rise from 0"),
        ({"duration_s": 0}, "duration is 0 s, expected above 0"),
        ({"duration_s": math.inf}, "duration is inf s"),
        ({"duration_s": math.nan}, "duration is nan s"),
        ({"up_mbps": None}, "nothing is recorded"),
        ({"up_mbps": [1, 2]}, "expected \\(1,\\) as times_s"),
        ({"up_mbps": [-1]}, "up_mbps has values that are not between 0 and 100000"),
        ({"up_mbps": [100_001]}, "not between 0 and 100000"),
        ({"up_mbps": [math.nan]}, "not between"),
        ({"rtt_ms": [60_001]}, "rtt_ms has values that are not between 0 and 60000"),
        ({"loss": [1.01]}, "loss has values that are not between 0 and 1"),
        ({"measured": {"down_mbps"}}, "expected some of up_mbps"),
        ({"measured": {"colour"}}, "expected some of up_mbps"),
    ],
)
def test_what_is_no_trace_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Trace(**{"times_s": [0], "duration_s": 1.0, "up_mbps": [1], **arguments})


@pytest.mark.parametrize(
    "call",
    [
        lambda: STEPS.value("down_mbps", -1),
        lambda: STEPS.value("colour", 0),
        lambda: STEPS.bytes_between("down_mbps", 2, 1),
        lambda: STEPS.bytes_between("rtt_ms", 0, 1),
        lambda: STEPS.bytes_between("down_mbps", 0, math.inf),
        lambda: STEPS.time_passed("down_mbps", -1, 0),
        lambda: STEPS.time_passed("down_mbps", math.nan, 0),
        lambda: STEPS.windows("down_mbps", 0),
        lambda: STEPS.windows("down_mbps", 1e-9),
        lambda: STEPS.slice(2, 2),
        lambda: STEPS.slice(0, 5),
        lambda: STEPS.loop(0),
        lambda: STEPS.loop(1e8),
        lambda: Assumptions(rtt_ms=-1),
    ],
)
def test_questions_that_make_no_sense_are_refused(call: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        call()


@given(traces(), st.floats(0, 100), st.floats(0, 1e8))
def test_the_time_of_bytes_is_the_inverse_of_the_bytes_of_a_time(trace: Trace, start_s: float, count: float) -> None:
    end = trace.time_passed("up_mbps", count, start_s)
    if end == math.inf:
        assert trace.mean("up_mbps") == 0
        return
    assert end >= start_s
    assert trace.bytes_between("up_mbps", start_s, end) == pytest.approx(count, rel=1e-6, abs=1e-2)
    earlier = start_s + (end - start_s) * 0.999
    assert trace.bytes_between("up_mbps", start_s, earlier) <= count + 1e-2


@given(traces(smallest_mbps=0.01), st.floats(0, 50), st.floats(0, 50))
def test_without_outages_bytes_tell_the_time(trace: Trace, start_s: float, length: float) -> None:
    count = trace.bytes_between("up_mbps", start_s, start_s + length)
    assert trace.time_passed("up_mbps", count, start_s) == pytest.approx(start_s + length, abs=1e-3)


@given(traces(), st.floats(0, 30), st.floats(0, 30), st.floats(0, 30))
def test_bytes_of_stretches_add_up(trace: Trace, a: float, b: float, c: float) -> None:
    a, b, c = sorted((a, b, c))
    parts = trace.bytes_between("up_mbps", a, b) + trace.bytes_between("up_mbps", b, c)
    assert parts == pytest.approx(trace.bytes_between("up_mbps", a, c), abs=1e-2)


@given(traces(), st.floats(0.001, 40), st.floats(0, 1))
def test_loops_and_slices_say_what_the_trace_says(trace: Trace, length: float, part: float) -> None:
    looped = trace.loop(length)
    assert looped.duration_s == length
    start = part * length * 0.9
    piece = looped.slice(start, length)
    at = np.linspace(0, length - start, 20, endpoint=False)
    for t in at:
        expected = trace.bytes_between("up_mbps", start, start + t)
        assert piece.bytes_between("up_mbps", 0, t) == pytest.approx(expected, abs=1e-1)
    assert looped.mean("up_mbps") * length * 125_000 == pytest.approx(
        trace.bytes_between("up_mbps", 0, length), abs=1e-1
    )


@given(traces(), st.floats(0.01, 3))
def test_windows_are_the_bytes_of_their_time(trace: Trace, width: float) -> None:
    windows = trace.windows("up_mbps", width)
    assert len(windows) == math.floor(trace.duration_s / width + 1e-9)
    for i, mbps in enumerate(windows[:50]):
        end = min((i + 1) * width, trace.duration_s)
        assert mbps * width * 125_000 == pytest.approx(trace.bytes_between("up_mbps", i * width, end), abs=1e-1)
