"""When bytes come out of a link, by arithmetic. 1 Mb/s is 125,000 bytes a second."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinn_stream.trace import Trace
from spinn_traces.shape.link_model import (
    DUPLICATES,
    LEAST_QUEUE_BYTES,
    SEGMENT_BYTES,
    Conditions,
    Lane,
    LinkModel,
    Played,
    Steady,
)


def link(
    mbps: float | None = None, *, rtt_ms: float = 0.0, loss: float = 0.0, seed: int = 0, **rest: float
) -> LinkModel:
    return LinkModel(Conditions(Steady(mbps), Steady(rtt_ms), Steady(loss), **rest), seed=seed, name="up")  # type: ignore[arg-type]


def arrivals(model: LinkModel, until: float = 100.0) -> list[tuple[float, int]]:
    """(when, bytes) of everything that comes out, asked for exactly when the model says so."""
    found = []
    while (due := model.due()) <= until:
        found += [(due, len(data)) for _, data in model.take(due)]
    return found


def test_a_packet_takes_its_bits_over_the_capacity_and_then_half_the_round_trip() -> None:
    model = link(1.0, rtt_ms=40)
    model.put(5.0, Lane(), bytes(1250))  # 10,000 bits: 10 ms; then 20 ms
    assert arrivals(model) == [(pytest.approx(5.030), 1250)]


def test_a_message_comes_out_packet_by_packet() -> None:
    model = link(1.0, rtt_ms=40)
    model.put(5.0, Lane(), bytes(2 * SEGMENT_BYTES + 104))  # 3000 bytes: 24 ms in all
    assert arrivals(model) == [
        (pytest.approx(5.020 + 1448 * 8e-6), 1448),
        (pytest.approx(5.020 + 2896 * 8e-6), 1448),
        (pytest.approx(5.044), 104),
    ]


def test_a_fast_link_moves_in_packets_of_a_millisecond() -> None:
    model = link(50.0)
    model.put(0.0, Lane(), bytes(12_500))  # 6,250 bytes in 1 ms: 4 whole segments of 1,448
    assert [size for _, size in arrivals(model)] == [5792, 5792, 916]


def test_packets_queue_behind_each_other_but_their_delays_overlap() -> None:
    model, lane = link(1.0, rtt_ms=40), Lane()
    for _ in range(3):
        model.put(5.0, lane, bytes(1250))
    assert [t for t, _ in arrivals(model, 9.0)] == pytest.approx([5.030, 5.040, 5.050])
    model.put(9.0, lane, bytes(1250))
    assert arrivals(model) == [(pytest.approx(9.030), 1250)]  # the queue was empty again


def test_all_connections_share_the_capacity() -> None:
    model, a, b = link(1.0), Lane(), Lane()
    model.put(0.0, a, bytes(1250))
    model.put(0.0, b, bytes(1250))
    assert [lane for _ in range(2) for lane, _ in model.take(model.due())] == [a, b]
    assert model.due() == math.inf


def test_bytes_that_waited_for_a_late_caller_lose_no_capacity() -> None:
    model, lane = link(1.0), Lane()
    model.put(5.0, lane, bytes(1250))  # 10 ms
    model.put(5.030, lane, bytes(1250), waited=True)  # the queue ran empty at 5.010
    assert arrivals(model, 9.0) == [(pytest.approx(5.010), 1250), (pytest.approx(5.020), 1250)]
    model.put(9.0, lane, bytes(1250), waited=True)  # no more than 100 ms are made up for
    assert arrivals(model) == [(pytest.approx(8.910), 1250)]


def test_without_conditions_bytes_come_out_at_once() -> None:
    model, lane = link(), Lane()
    model.put(5.0, lane, bytes(10**6))
    assert b"".join(data for _, data in model.take(5.0)) == bytes(10**6)
    assert model.due() == math.inf and lane.held == 0


def test_the_queue_is_as_long_as_its_time_and_never_shorter_than_a_first_burst() -> None:
    assert link(8.0, queue_ms=100).room(0.0) == 100_000  # 1,000 bytes a ms
    assert link(0.1, queue_ms=100).room(0.0) == LEAST_QUEUE_BYTES == 14_480
    model = link(8.0, queue_bytes=20_000)
    model.put(0.0, Lane(), bytes(20_000))
    assert model.room(0.0) == 0 and model.room(0.010) == 6 * 1448  # in 10 ms 10,000 bytes passed: six packets whole


def test_the_end_of_a_connection_comes_after_its_bytes() -> None:
    model, lane = link(1.0, rtt_ms=40), Lane()
    model.put(0.0, lane, bytes(1250))
    model.put(0.0, lane, b"")
    assert arrivals(model) == [(pytest.approx(0.030), 1250), (pytest.approx(0.030), 0)]


def test_a_new_capacity_holds_for_what_is_queued_already() -> None:
    model, lane = link(0.1), Lane()
    model.put(0.0, lane, bytes(1250))  # 100 ms
    model.put(0.0, lane, bytes(1250))
    model.change(0.050, Conditions(Steady(1.0)))  # half of the first is left: 5 ms; the second takes 10
    assert [t for t, _ in arrivals(model)] == pytest.approx([0.055, 0.065])


def test_no_byte_overtakes_another_of_its_connection_when_the_delay_shrinks() -> None:
    model, lane, other = link(rtt_ms=1000), Lane(), Lane()
    model.put(5.0, lane, b"a")
    model.change(5.1, Conditions())
    model.put(5.1, lane, b"b")
    model.put(5.1, other, b"c")
    assert [(lane, bytes(data)) for lane, data in model.take(5.1)] == [(other, b"c")]
    assert [(t, n) for t, n in arrivals(model)] == [(5.5, 1), (5.5, 1)]


def test_bytes_pass_at_once_only_where_nothing_is_imposed_and_nothing_is_before_them() -> None:
    for imposing in (link(1.0), link(rtt_ms=1), link(loss=0.1), link(jitter_ms=1)):
        assert not imposing.transparent
    model = link(rtt_ms=1000)
    model.put(5.0, Lane(), b"a")
    model.change(5.1, Conditions())
    assert not model.transparent
    assert arrivals(model) == [(5.5, 1)]
    assert model.transparent
    model.change(6.0, Conditions(), stalled=True)
    assert not model.transparent


def test_nothing_moves_while_stalled_and_an_outage_lasts_until_changed() -> None:
    model, lane = link(1.0, rtt_ms=40), Lane()
    model.put(0.0, lane, bytes(1250))
    model.put(0.0, lane, bytes(1250))
    model.change(0.015, Conditions(Steady(1.0), Steady(40.0)), stalled=True)
    assert model.due() == math.inf and list(model.take(50.0)) == []
    model.change(60.0, Conditions(Steady(1.0), Steady(40.0)))
    # the first had left and is there at once; of the second half is left: 5 ms and 20 ms of delay
    assert [t for t, _ in arrivals(model)] == pytest.approx([0.030, 60.025])
    model.change(61.0, Conditions(Steady(0.0)))
    model.put(61.0, lane, bytes(1250))
    assert model.due() == math.inf


def test_a_trace_is_followed_within_a_packet_and_begins_again() -> None:
    trace = Trace(np.array([0.0, 1.0]), 2.0, up_mbps=np.array([1.0, 0.0]), rtt_ms=np.array([40.0, 80.0])).filled()
    courses = (Played(trace, name, 100.0) for name in ("up_mbps", "rtt_ms", "loss"))
    model, lane = LinkModel(Conditions(*courses)), Lane()
    model.put(100.995, lane, bytes(1250))  # half in the last 5 ms of the first second, then an outage, half at 102
    model.put(100.995, lane, bytes(1250))
    assert [t for t, _ in arrivals(model, 110)] == pytest.approx([102.005 + 0.020, 102.015 + 0.020])


def test_a_lost_segment_comes_a_round_trip_later_where_others_follow() -> None:
    model, lane = link(1.0, rtt_ms=100, loss=1.0), Lane()
    model.put(0.0, lane, bytes((DUPLICATES + 1) * 1448))
    times = [t for t, _ in arrivals(model)]
    assert times[0] == pytest.approx(0.011584 + 0.050 + 0.100)
    # behind the second fewer than three follow: a time-out, 200 ms and a round trip; nothing overtakes it
    assert times[1] == pytest.approx(0.023168 + 0.050 + 0.300)
    assert times == sorted(times) and model.losses == 4


def test_a_loss_holds_up_its_own_connection_alone() -> None:
    model, a, b = link(rtt_ms=100, loss=1.0), Lane(), Lane()
    model.put(0.0, a, b"lost")
    model.change(0.0, Conditions(rtt_ms=Steady(100.0)))
    model.put(0.0, b, b"b")
    model.put(0.0, a, b"a")
    assert [t for t, _ in arrivals(model)] == pytest.approx([0.050, 0.350, 0.350])


def test_losses_come_as_often_as_said() -> None:
    model = link(rtt_ms=1, loss=0.02)
    for n in range(20_000):
        model.put(n * 1e-3, Lane(), bytes(1448))
    assert 320 <= model.losses <= 480  # 400, and four standard deviations of 20


def test_the_same_seed_gives_the_same_jitter_and_losses() -> None:
    def play(seed: int) -> list[tuple[float, int]]:
        model = link(2.0, rtt_ms=20, jitter_ms=30, loss=0.1, seed=seed)
        model.begin(7.0, Conditions(Steady(2.0), Steady(20.0), Steady(0.1), jitter_ms=30.0))
        for n in range(200):
            model.put(7 + n / 100, Lane(), bytes(2000))
        return arrivals(model)

    assert play(1) == play(1) != play(2)


def test_jitter_adds_up_to_half_of_itself_in_each_direction() -> None:
    model = link(rtt_ms=20, jitter_ms=30)
    added = []
    for n in range(500):
        model.put(n * 1.0, Lane(), b"x")
        added += [t - n - 0.010 for t, _ in arrivals(model, n + 0.5)]
    assert len(added) == 500 and min(added) >= -1e-9 and max(added) <= 0.015
    assert 0.0065 <= np.mean(added) <= 0.0085  # uniform from 0 to 15 ms: 7.5, standard error 0.2


@given(st.lists(st.tuples(st.floats(0, 0.3), st.integers(0, 6000)), min_size=1, max_size=40), st.integers(0, 5))
def test_what_enters_comes_out_in_order_once(steps: list[tuple[float, int]], seed: int) -> None:
    conditions = Conditions(Steady(1.0), Steady(30.0), Steady(0.2), jitter_ms=50.0)
    model, lane, now, sent, got = LinkModel(conditions, seed=seed), Lane(), 0.0, bytearray(), bytearray()
    for pause, size in steps:
        now += pause
        data = bytes([len(sent) % 251]) * size
        sent += data
        model.put(now, lane, data)
        for _, piece in model.take(now):
            got += piece
    while (due := model.due()) < math.inf:
        for _, piece in model.take(due):
            got += piece
    assert bytes(got) == bytes(sent)
    assert lane.held == lane.queued == model.queued_bytes == 0


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"mbps": Steady(-1)}, "capacity is -1, expected 0 to 100000"),
        ({"mbps": Steady(float("nan"))}, "capacity is nan"),
        ({"rtt_ms": Steady(float("inf"))}, "round trip is inf, expected 0 to 60000"),
        ({"rtt_ms": Steady(None)}, "round trip is None"),
        ({"loss": Steady(1.5)}, "loss is 1.5, expected 0 to 1"),
        ({"jitter_ms": -1}, "jitter is -1 ms"),
        ({"queue_ms": float("nan")}, "queue_ms is nan ms"),
        ({"queue_bytes": 1000}, "queue_bytes is 1000, expected 1448"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(bad: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Conditions(**bad)  # type: ignore[arg-type]
