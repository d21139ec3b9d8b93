"""The scheduler, with numbers for clocks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from spinn_server.work.costs import Costs
from spinn_server.work.request import PATIENCE_S, Owner, Request
from spinn_server.work.scheduler import (
    BUSY_RESERVE,
    RESERVE,
    BatchLimits,
    Decision,
    Policy,
    Refusal,
    Scheduler,
    Step,
)
from spinn_stream.profile import BatchProfile, Profile, Timing

from .owners import Told

LAST = 6
BUNDLE: Any = SimpleNamespace(last=LAST, exits=tuple(SimpleNamespace(cut=cut) for cut in (4, LAST)))
PROFILE = Profile(
    "onnxruntime",
    (4,),
    tuple(
        BatchProfile(n, (Timing(n * each, n * each),) * LAST, (Timing(0, 0),), 0.01)
        for n, each in ((1, 2.0), (2, 1.0), (8, 1.0))
    ),
    Timing(0, 0),
)
"""Every segment takes 2 ms for one request, and 1 ms for each of two or more."""


def request(
    split: int = 2, arrived: float = 0.0, expires: float = 100.0, owner: Owner | None = None, **more: Any
) -> Request:
    return Request(owner or Told(), 0, split, "none", b"", more.pop("needed", {}), None, arrived, expires, **more)


def make(profile: Profile | None = PROFILE, **limits: Any) -> Scheduler:
    chosen = BatchLimits(**{"max_batch_size": 4, "max_wait_ms": 10, "max_queue": 8, **limits})
    return Scheduler(chosen, Costs(BUNDLE, profile, chosen.max_batch_size))


def add(scheduler: Scheduler, *requests: Request, now: float | None = None) -> None:
    for each in requests:
        assert scheduler.admit(each, each.arrived if now is None else now) is None
        scheduler.decoded(each)


def step(decision: Decision) -> Step:
    assert decision.step is not None
    return decision.step


def run(scheduler: Scheduler, now: float, *confidences: float) -> Step:
    """The next step, to its end; nobody who could be answered there is, unless these are sure enough."""
    found = step(scheduler.next(now, sources=1))
    scheduler.ran(found, confidences or ([0.0] * len(found.batch) if found.stop in (4, LAST) else None), now)
    return found


def test_a_lone_request_waits_for_company_and_no_longer() -> None:
    scheduler, alone = make(), request(arrived=5.0)
    add(scheduler, alone)
    early = scheduler.next(5.009)
    assert early.step is None and early.wake_at == pytest.approx(5.010)
    assert step(scheduler.next(5.010)).batch == (alone,)


def test_a_full_batch_leaves_at_once() -> None:
    scheduler = make()
    five = [request(arrived=1.0) for _ in range(5)]
    add(scheduler, *five)
    assert step(scheduler.next(1.0)) == Step(tuple(five[:4]), 2, LAST)
    assert scheduler.waiting == 1


def test_nobody_waits_for_company_that_cannot_come() -> None:
    scheduler = make()
    add(scheduler, request(arrived=1.0))
    assert scheduler.next(1.0, sources=2).step is None
    assert scheduler.next(1.0, sources=1).step is not None


def test_what_is_not_decoded_is_not_run() -> None:
    scheduler, one = make(), request()
    assert scheduler.admit(one, 0.0) is None and len(scheduler) == 1
    assert scheduler.next(50.0).step is None
    scheduler.decoded(one)
    assert step(scheduler.next(50.0)).batch == (one,)


def test_a_request_joins_others_at_a_cut_point_where_it_did_not_begin() -> None:
    scheduler = make()
    deep, shallow = request(split=3), request(split=1)
    add(scheduler, deep, shallow)
    assert run(scheduler, 1.0) == Step((shallow,), 1, 3)
    assert run(scheduler, 1.0) == Step((deep, shallow), 3, LAST)


def test_run_to_end_is_joined_by_nobody() -> None:
    scheduler = make(policy=Policy.RUN_TO_END)
    deep, shallow = request(split=4), request(split=1, needed={4: 0.9})
    add(scheduler, shallow, deep)
    assert run(scheduler, 1.0, 0.5) == Step((shallow,), 1, 4)
    assert run(scheduler, 1.0) == Step((shallow,), 4, LAST)
    assert run(scheduler, 1.0) == Step((deep,), 4, LAST)


def test_who_is_sure_leaves_at_an_exit_and_the_others_go_on_beside_those_who_begin_there() -> None:
    scheduler = make()
    sure, unsure = (request(split=2, needed={4: 0.9}) for _ in range(2))
    add(scheduler, sure, unsure)
    first = step(scheduler.next(1.0))
    assert first == Step((sure, unsure), 2, 4)
    newcomer = request(split=4, arrived=1.0)
    add(scheduler, newcomer)
    assert scheduler.ran(first, [0.95, 0.5], 1.0) == [(sure, False)]
    assert set(run(scheduler, 1.0).batch) == {unsure, newcomer}


def test_a_stop_for_others_is_made_only_if_it_gains_more_than_it_costs() -> None:
    scheduler = make()
    add(scheduler, *(request(split=3) for _ in range(2)), *(request(split=1) for _ in range(2)))
    assert run(scheduler, 1.0).stop == LAST  # two and two cost as much as four


def test_a_batch_that_is_large_enough_goes_before_a_smaller_one_that_began_nearer_to_the_input() -> None:
    scheduler = make()
    alone, *two = request(split=1), request(split=2, expires=90.0), request(split=2, expires=95.0)
    add(scheduler, alone, *two)
    assert run(scheduler, 0.1) == Step(tuple(two), 2, LAST)
    assert run(scheduler, 0.2) == Step((alone,), 1, LAST)


def test_a_request_elsewhere_that_cannot_wait_for_the_next_step_goes_first() -> None:
    scheduler = make()
    urgent, patient = request(split=4, expires=0.007), request(split=0)
    add(scheduler, patient, urgent)
    assert run(scheduler, 0.0).batch == (urgent,)  # 2 segments take 4 ms, the way of the other one up to there 8


def test_the_most_urgent_go_first_and_each_client_s_second_request_behind_everybody_s_first() -> None:
    scheduler = make(max_batch_size=3)
    greedy = Told()
    many = [request(owner=greedy, expires=0.5 + n / 100) for n in range(4)]
    other, another = request(expires=0.9), request(expires=0.8)
    add(scheduler, *many, other, another)
    assert run(scheduler, 0.0).batch == (many[0], another, other)


def test_a_long_budget_is_no_reason_to_starve() -> None:
    scheduler = make(max_batch_size=1)
    patient = request(arrived=0.0, expires=3600.0)
    hasty = request(arrived=PATIENCE_S, expires=PATIENCE_S + 0.2)
    add(scheduler, patient, hasty)
    assert run(scheduler, PATIENCE_S).batch == (patient,)


def test_what_can_no_longer_be_in_time_is_refused_before_it_costs_anything() -> None:
    scheduler = make()
    late, well = request(expires=0.050), request(expires=2.0)
    add(scheduler, late, well)
    last_moment = 0.050 - RESERVE * 4 * 2 * 0.001  # two together: 4 segments of 2 ms
    assert scheduler.next(last_moment - 0.045).wake_at is not None
    decision = scheduler.next(last_moment + 0.001)
    assert decision.hopeless == [late] and step(decision).batch == (well,)


def test_a_request_that_cannot_be_answered_in_time_is_not_admitted() -> None:
    scheduler = make(max_queue=100)
    alone = 4 * 2 * 0.001
    assert scheduler.admit(request(expires=RESERVE * alone - 0.001), 0.0) is not None
    admitted = 0
    while scheduler.admit(request(expires=0.100), 0.0) is None:
        admitted += 1
    each, last_batch = 0.004, 2 * 0.004  # 4 segments of 1 ms for each; the last batch is of two
    assert BUSY_RESERVE * (admitted - 1) * each + RESERVE * last_batch <= 0.100
    assert BUSY_RESERVE * admitted * each + RESERVE * last_batch > 0.100


def test_at_twice_the_capacity_the_capacity_is_answered_in_time() -> None:
    """Six clients, budgets of 150 ms; a request takes 4 ms in a batch, so 250 a second can be answered."""
    scheduler = make(max_queue=256)
    clients = [Told() for _ in range(6)]
    arrivals = [n * 0.002 for n in range(1000)]
    now, in_time, late = 0.0, 0, 0
    while arrivals or len(scheduler):
        while arrivals and arrivals[0] <= now:
            arrived = arrivals.pop(0)
            one = request(arrived=arrived, expires=arrived + 0.150, owner=clients[len(arrivals) % 6])
            if scheduler.admit(one, now) is None:
                scheduler.decoded(one)
        decision = scheduler.next(now, sources=6)
        if decision.step is None:
            now = max(now, min([*arrivals[:1], *([decision.wake_at] if decision.wake_at else [])], default=now))
            continue
        now += (decision.step.stop - decision.step.start) * max(2, len(decision.step.batch)) * 0.001
        answered = scheduler.ran(decision.step, [0.0] * len(decision.step.batch), now)
        in_time += sum(now <= one.expires for one, _ in answered)
        late += sum(now > one.expires for one, _ in answered)
    assert in_time > 0.9 * 250 * 2 and late == 0


def test_a_load_that_nobody_has_seen_for_a_while_refuses_nobody() -> None:
    costs = Costs(BUNDLE, PROFILE, 4)
    scheduler = Scheduler(BatchLimits(), costs)
    for n in range(60):
        costs.observe(2, LAST, 1, 0.5, n * 0.02)  # where 8 ms are expected
    busy, later = 60 * 0.02, 60 * 0.02 + 1.5
    assert scheduler.admit(request(arrived=busy, expires=busy + 0.1), busy) is not None
    assert scheduler.admit(request(arrived=later, expires=later + 0.1), later) is None


def test_a_greedy_client_does_not_keep_another_one_out() -> None:
    scheduler, greedy = make(max_queue=100), Told()
    while scheduler.admit(request(expires=0.100, owner=greedy), 0.0) is None:
        pass
    assert scheduler.admit(request(expires=0.100), 0.0) is None


def test_a_full_queue_refuses() -> None:
    scheduler = make(max_queue=2)
    first = request()
    add(scheduler, first, request())
    third = request()
    assert scheduler.admit(third, 0.0) == Refusal(third, "2 requests are open already")
    assert scheduler.remove(first) and scheduler.admit(request(), 0.0) is None


def test_a_full_queue_refuses_the_last_one_of_who_has_the_most() -> None:
    scheduler, greedy = make(max_queue=4), Told()
    many = [request(owner=greedy, expires=50.0 + n, arrived=0.1 * n) for n in range(4)]
    add(scheduler, *many, now=0.0)
    for victim in (many[3], many[2], many[1]):
        refusal = scheduler.admit(new := request(arrived=1.0), 1.0)
        assert refusal is not None and refusal.request is victim and new in scheduler and victim not in scheduler
    refusal = scheduler.admit(new := request(arrived=1.0), 1.0)
    assert refusal is not None and refusal.request is new  # each of four has one


def test_a_cancelled_request_leaves_wherever_it_is() -> None:
    scheduler = make()
    undecoded, waiting, running = request(), request(split=5, arrived=0.5), request(split=3)
    add(scheduler, running)
    now_running = step(scheduler.next(1.0))
    add(scheduler, waiting)
    scheduler.admit(undecoded, 0.0)
    for each in (undecoded, waiting, running):
        assert scheduler.remove(each) and not scheduler.remove(each)
    scheduler.decoded(undecoded)  # word of it comes too late
    assert scheduler.ran(now_running, [1.0], 1.0) == []
    assert len(scheduler) == 0 and scheduler.next(9.0) == Decision()


def test_under_overload_who_may_be_shortened_is_answered_at_an_earlier_exit() -> None:
    scheduler = make(max_queue=100)
    count = 0
    while scheduler.admit(one := request(expires=0.100, may_shorten=True), 0.0) is None:
        scheduler.decoded(one)
        count += 1
    unshortened = make(max_queue=100)
    fewer = 0
    while unshortened.admit(request(expires=0.100), 0.0) is None:
        fewer += 1
    assert count > 1.5 * fewer  # half of the way is enough
    first = step(scheduler.next(0.0))
    assert first.stop == 4
    assert scheduler.ran(first, [0.1] * 4, 0.008) == [(r, True) for r in first.batch]


def test_who_may_be_shortened_is_if_it_is_alone_and_cannot_be_in_time_at_the_end() -> None:
    """Alone it takes 8 ms to the end, in a large batch it would take 4 ms; to the exit it takes 4 ms."""
    scheduler = make()
    assert RESERVE * 0.004 < 0.006 < RESERVE * 0.008
    add(scheduler, one := request(expires=0.006, may_shorten=True))
    first = step(scheduler.next(0.0, sources=1))
    assert first.stop == 4
    assert scheduler.ran(first, [0.1], 0.004) == [(one, True)]


def test_who_may_be_shortened_is_not_if_there_is_time() -> None:
    scheduler = make()
    add(scheduler, one := request(may_shorten=True))
    first = step(scheduler.next(1.0))
    assert first.stop == LAST
    assert scheduler.ran(first, [0.1], 1.0) == [(one, False)]


def test_a_piece_that_is_not_there_ends_elsewhere() -> None:
    limits = BatchLimits(max_batch_size=4)
    scheduler = Scheduler(limits, Costs(BUNDLE, PROFILE, 4), lambda start, wanted: 4 if start < 4 else wanted)
    add(scheduler, one := request())
    assert run(scheduler, 1.0) == Step((one,), 2, 4)
    assert run(scheduler, 1.0) == Step((one,), 4, LAST)


def test_without_a_profile_only_a_budget_that_is_over_refuses() -> None:
    scheduler = make(profile=None)
    late = request(expires=0.5)
    add(scheduler, late, request())
    assert scheduler.next(0.499).hopeless == []
    scheduler = make(profile=None)
    add(scheduler, late := request(expires=0.5))
    assert scheduler.next(0.5).hopeless == [late]


@pytest.mark.parametrize("bad", [{"max_batch_size": 0}, {"max_wait_ms": -1}, {"max_queue": 0}])
def test_limits_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected max_batch_size"):
        make(**bad)


def test_the_wait_of_the_next_one_is_the_same_however_it_was_added_up() -> None:
    scheduler = make()
    add(scheduler, request(), request(split=4))
    assert scheduler.delay_s(0.0) > 0  # worked out, and kept
    add(scheduler, request(split=1), request(may_shorten=True))
    added = scheduler.delay_s(0.0)
    passing = request()
    add(scheduler, passing)
    longer = scheduler.delay_s(0.0)
    scheduler.remove(passing)  # worked out anew
    assert scheduler.delay_s(0.0) == pytest.approx(added) and longer > added
