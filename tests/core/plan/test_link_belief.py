"""What is believed of a link, and when it is asked."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinn_stream.plan import LinkBelief, Prober
from spinn_stream.plan.link.probes import EVERY_S

from .links import PlayedLink, probe_bytes, steady, step


@pytest.mark.parametrize(
    ("mbps", "rtt_ms", "size"), [(0.5, 20, 3000), (2, 60, 5000), (5, 20, 20_000), (20, 20, 20_000)]
)
def test_a_steady_link_is_known_within_a_seventh(mbps: float, rtt_ms: float, size: int) -> None:
    link = PlayedLink(steady(mbps), steady(rtt_ms))
    _, up, rtt = link.run(10, size, 0, 4)[-1]
    assert up == pytest.approx(mbps, rel=0.15)
    assert rtt == pytest.approx(rtt_ms, rel=0.12, abs=3)


@pytest.mark.parametrize("fps", [10, 30])
@pytest.mark.parametrize("size", [5000, 20_000])
def test_a_fall_from_20_to_half_a_megabit_is_believed_within_a_second(fps: float, size: int) -> None:
    link = PlayedLink(step(20, 0.5, 3), steady(20))
    found = link.run(fps, size, 0, 4.1)
    assert next(up for at, up, _ in reversed(found) if at < 3) > 10
    assert next(up for at, up, _ in found if at >= 4) < 0.7


def test_a_farther_server_is_not_taken_for_a_slower_link() -> None:
    link = PlayedLink(steady(5), step(20, 300, 3))
    _, up, rtt = link.run(20, 3000, 0, 6)[-1]
    assert rtt == pytest.approx(300, rel=0.1) and up > 2


def test_a_fifth_of_noise_moves_the_capacity_planned_with_by_less_than_a_tenth_of_it() -> None:
    """Replanning looks at 5 % of a figure, and changes plans at 10 %; the capacity is a part of a latency."""
    link = PlayedLink(steady(5), steady(20), noise=0.2, seed=2)
    up = np.array([u for at, u, _ in link.run(15, 10_000, 0, 25) if at > 5])
    assert up.mean() == pytest.approx(5, rel=0.12)
    assert up.std() / up.mean() < 0.07


def test_small_requests_alone_leave_the_capacity_open() -> None:
    """200 bytes take 1.6 ms at 1 Mb/s, less than a timer is late."""
    link = PlayedLink(steady(50), steady(20))
    link.run(20, 200, 0, 5)
    low, high = link.belief.state(5, 0.05), link.belief.state(5, 0.95)
    assert low.up_mbps < 5 and high.up_mbps > 30
    assert low.rtt_ms == pytest.approx(20, abs=3)


def test_one_late_answer_changes_little_and_three_change_all() -> None:
    link = PlayedLink(steady(20), steady(20))
    link.run(10, 10_000, 0, 4)
    belief = link.belief
    link.settle(4.2)
    found = []
    for n in range(3):
        at = 4.3 + 0.5 * n
        belief.sent(9000 + n, 10_000, at)
        belief.answered(9000 + n, at + 0.185, arrived_ms=0, left_ms=5)  # 180 ms, where 24 are usual
        state = belief.state(at + 0.185)
        found.append(state.rtt_ms + 80 / state.up_mbps)
    assert found[0] < 40 and 150 < found[2] < 250  # a farther server or a slower link: a ping would tell


def test_a_burst_waits_for_itself_and_says_nothing_against_the_link() -> None:
    link = PlayedLink(steady(8), steady(20))
    for k in range(8):
        link.settle(k * 0.5)
        for _ in range(6):  # six of 10 ms each, all at once
            link.send(10_000, k * 0.5 + 0.01)
    link.settle(4.5)
    assert link.belief.state(4.5).up_mbps == pytest.approx(8, rel=0.2)


def test_what_was_refused_has_passed_and_the_next_request_waited_for_it() -> None:
    """Two at once every second, 100 ms of the link each; the first is refused, so only the second tells anything."""
    belief = LinkBelief(0.0)
    for k in range(20):
        at = 5.0 + k
        for request in (2 * k, 2 * k + 1):
            belief.sent(request, 12_500, at)
        belief.refused(2 * k, at + 0.12)
        belief.answered(2 * k + 1, at + 0.22, arrived_ms=0, left_ms=0)
        belief.ponged(20, at + 0.5)
    found = belief.state(25.0, 0.5, 0.5)
    assert found.up_mbps == pytest.approx(1.0, rel=0.15) and found.rtt_ms == pytest.approx(20, abs=4)


def test_silence_makes_a_request_look_longer_the_longer_the_more() -> None:
    link = PlayedLink(steady(20), steady(20))
    link.run(10, 10_000, 0, 3)
    link.settle(3.5)
    link.belief.sent(9999, 10_000, 3.5)
    states = [link.belief.state(3.5 + wait) for wait in (0.02, 0.3, 1.0, 2.0)]
    found = [state.rtt_ms + 80 / state.up_mbps for state in states]  # ms of a request of 10 kB
    assert found[0] < 30 and found[1] > found[0] and found[2] > 500 and found[3] > 1000
    link.belief.ponged(20, 5.52)  # it was sent behind the request: the request has arrived, and the server is slow
    assert link.belief.state(5.6).up_mbps > 5


def test_a_lost_connection_leaves_half_of_the_belief() -> None:
    link = PlayedLink(steady(1), steady(20))
    link.run(10, 5000, 0, 3)
    link.belief.disconnected()
    assert link.belief.in_flight == 0
    assert link.belief.state(3, 0.9).up_mbps > 4


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["send", "answer", "refuse", "pong", "drop", "wait"]), st.floats(0, 30), st.integers(0, 10**7)
    ),
    max_size=30,
)


@given(EVENTS)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_the_belief_is_a_distribution(events: list[tuple[str, float, int]]) -> None:
    belief, now, request = LinkBelief(0.0), 0.0, 0
    for kind, seconds, size in events:
        now += seconds
        if kind == "send":
            request += 1
            belief.sent(request, size, now)
        elif kind == "answer":
            belief.answered(request, now, arrived_ms=size / 10, left_ms=size / 5)
        elif kind == "refuse":
            belief.refused(request, now)
        elif kind == "pong":
            belief.ponged(seconds * 1000, now)
        elif kind == "drop":
            belief.disconnected()
        low, middle, high = (belief.state(now, level, level) for level in (0.25, 0.5, 0.75))
        assert 0.04 < low.up_mbps <= middle.up_mbps <= high.up_mbps < 600
        assert 0.4 < low.rtt_ms <= middle.rtt_ms <= high.rtt_ms < 4000
        belief.state(now)


def test_probes_are_small_and_rare_and_find_the_way_back_in_a_second_and_a_half() -> None:
    link = PlayedLink(step(0.5, 20, 20), steady(20))
    link.run(10, 3000, 0, 3)
    prober = Prober(3.0)
    sent: list[tuple[float, int]] = []
    believed = []
    for tick in range(60, 500):
        now = tick / 20
        link.settle(now)
        probe = prober.due(now, link.belief)
        if probe is not None:
            sent.append((now, probe_bytes(probe)))
            link.send(probe_bytes(probe), now)
        believed.append((now, link.belief.state(now).up_mbps))
    before = [(at, size) for at, size in sent if 4 < at < 20]
    assert sum(8e-6 * size for _, size in before) / 16 < 0.02 * 0.5
    assert max(b[0] - a[0] for a, b in pairwise(before)) < 2.2
    assert all(up < 1 for at, up in believed if 5 < at < 20)
    assert next(at for at, up in believed if at > 20 and up > 5) < 20 + EVERY_S + 1


def test_nothing_is_asked_while_an_answer_is_due_or_frames_go_anyway() -> None:
    belief, prober = LinkBelief(0.0), Prober(0.0)
    assert prober.due(0.0, belief) is not None
    belief.sent(1, 500, 0.0)
    assert prober.due(10.0, belief) is None
    belief.answered(1, 10.1, arrived_ms=0, left_ms=1)
    prober.used(10.1)
    assert prober.due(10.2, belief) is None


def queued(belief: LinkBelief, mbps: float, size: int, seconds: float, most: int = 16) -> list[float]:
    """Thirty requests a second, at most `most` under way, over a link of 20 ms that takes one after the other; gives
    the medians believed in every 100 ms."""
    free, number, found = 0.0, 0, []
    answers: list[tuple[float, int]] = []  # (when, request)
    for tick in range(round(seconds * 1000)):
        now = tick / 1000
        while answers and answers[0][0] <= now:
            when, request = answers.pop(0)
            belief.answered(request, when, arrived_ms=0.0, left_ms=0.0)
        if tick % 33 == 0 and len(answers) < most:
            belief.sent(number, size, now)
            free = max(free, now) + size * 8e-6 / mbps
            answers.append((free + 0.02, number))
            number += 1
        if tick % 100 == 99:
            found.append(belief.state(now, 0.5, 0.5).up_mbps)
    for when, request in answers:
        belief.answered(request, when, arrived_ms=0.0, left_ms=0.0)
    return found


def test_requests_that_wait_for_their_turn_make_the_link_no_slower() -> None:
    """Each request waits 0.7 s for its turn, and answers come all the time."""
    found = queued(LinkBelief(0.0), 0.5, 2900, 10.0)
    assert all(0.35 < mbps < 0.7 for mbps in found[30:]), found


@pytest.mark.parametrize(("noise", "low", "high"), [(0.0, 0.85, 1.25), (0.2, 0.7, 1.6)])
def test_a_slow_link_that_is_always_busy_is_not_taken_for_a_far_one(noise: float, low: float, high: float) -> None:
    """Requests of one size, each sent when the one before has left: a fast link 150 ms away would look the same."""
    link = PlayedLink(steady(1.0), steady(20), noise=noise, pings_wait=True)
    found = []
    for k in range(4000):
        now = k / 100
        link.settle(now)
        if link.free <= now:
            link.send(17_000, now + 0.001)
            found.append(link.belief.state(now + 0.001, 0.5, 0.5))
    assert all(low < bounds.up_mbps < high for bounds in found[20:])


def test_a_round_trip_that_nobody_expected_is_told_and_noise_is_not() -> None:
    told: list[float] = []
    link = PlayedLink(steady(20), step(20, 45, 8), noise=0.2)
    link.belief = LinkBelief(0.0, lambda: told.append(link.now))
    link.run(30, 10_000, 0, 9)
    before, after = [at for at in told if 1 < at < 8], [at for at in told if at >= 8]
    assert len(before) <= 5 and after[0] < 8.1
