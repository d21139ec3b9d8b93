"""What becomes of a frame, with numbers for clocks and a device and a link that are numbers, too."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinn_client.frames.actions import Action, Cancel, Emit, Finish, LinkIs, Send
from spinn_client.frames.flight import SPARE_MS, Flight, State, checked_deadline
from spinn_client.frames.frames import GRACE_MS, Frames
from spinn_client.frames.ledger import Ledger
from spinn_client.frames.reliance import FRESH_S
from spinn_client.frames.results import Result
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting
from spinn_stream.plan import Plan
from spinn_stream.runtime import Answer

DEADLINE_S = 0.15
FIRST_EXIT_MS, HEAD_MS = 20.0, 10.0
SPLIT = 4  # before the first exit
X = np.zeros((1, 2, 2, 2), np.float32)
PAYLOAD = b"coded"
CODEC = CodecSetting("cnn-co", 8)


@dataclass
class Numbers:
    """A device whose times are given."""

    first_exit: float = FIRST_EXIT_MS
    head: float = HEAD_MS

    def first_exit_ms(self, start: int) -> float:
        return self.first_exit

    def head_ms(self, plan: Plan) -> float:
        return self.head


class Case:
    """Frames with what they look at."""

    def __init__(self, bundle: Bundle, *, keep_late: bool = False, split: int = SPLIT) -> None:
        self.numbers = Numbers()
        self.plan = Plan(3, split, None, CODEC)
        self.frames = Frames(
            bundle, Ledger(bundle.labels, late=keep_late), self.numbers, deadline_s=DEADLINE_S, keep_late=keep_late
        )  # fmt: skip

    def try_to_take(
        self, frame: int = 1, at: float = 0.0, link: LinkIs = LinkIs.READY, age: float = 0
    ) -> Flight | None:
        return self.frames.take(frame, at - age, self.plan, at, link=link)

    def take(self, frame: int = 1, at: float = 0.0, link: LinkIs = LinkIs.READY) -> Flight:
        flight = self.try_to_take(frame, at, link)
        assert flight is not None
        return flight

    def unsure(
        self, flight: Flight, at: float = 0.01, payload: bytes | None = PAYLOAD, up: bool = True
    ) -> list[Action]:
        return self.frames.unsure(flight, X, payload, at, began=flight.captured, link_up=up)

    def away(self, frame: int = 1, at: float = 0.0) -> Flight:
        """A frame that was sent 10 ms after its capture."""
        flight = self.take(frame, at)
        assert self.unsure(flight, at + 0.01) == [Send(flight)]
        assert self.frames.sent(flight, at + 0.01) == []
        return flight

    def learn(self, took_s: float, answers: int = 20) -> None:
        """The server answered frames until 0 s, each this long after it was sent."""
        for n in range(answers):
            at = (n - answers) * 0.05
            self.away(-1 - n, at - 0.01 - took_s)
            assert result(self.frames.server_answered(-1 - n, answer(), at)).where == "server"

    def miss(self, flight: Flight) -> None:
        """Nobody answers it; the device gets nowhere either."""
        for at in (flight.deadline, flight.deadline + GRACE_MS / 1000):
            for action in self.frames.look(at):
                if isinstance(action, Finish):
                    self.frames.finished(action.flight, None, only_first_exit=True, now=at)
        assert flight.state is State.SETTLED


@pytest.fixture
def case(bundle: Bundle) -> Case:
    assert min(e.cut for e in bundle.exits) > SPLIT
    return Case(bundle)


def answer(exit_name: str = "final", confidence: float = 0.9) -> Answer:
    return Answer(exit_name, 0, confidence, ((0, confidence),))


def result(actions: list[Action]) -> Result:
    emitted = [action.result for action in actions if isinstance(action, Emit)]
    assert len(emitted) == 1
    return emitted[0]


def test_a_frame_older_than_the_deadline_is_not_taken(case: Case) -> None:
    assert case.frames.take(1, 0.0, case.plan, DEADLINE_S, link=LinkIs.READY) is None
    assert case.frames.taken == len(case.frames) == 0 and case.frames.wake_at() == math.inf


def test_a_confident_exit_of_the_head_ends_it(case: Case, bundle: Bundle) -> None:
    case.take()
    first = result(case.frames.answered_here(1, answer(bundle.exits[0].name), 0.02))
    assert (first.where, first.reason, first.age_ms) == ("device", "confident", pytest.approx(20))
    assert case.frames.wake_at() == math.inf


def test_an_unsure_frame_is_sent_and_the_server_s_answer_is_final(case: Case, bundle: Bundle) -> None:
    flight = case.away()
    assert flight.state is State.AWAY and flight.payload is None
    given = result(case.frames.server_answered(1, answer(), 0.05))
    assert (given.where, given.reason, given.plan) == ("server", "final_exit", 3)
    assert case.frames.look(1.0) == []


def test_an_earlier_exit_s_answer_of_an_overloaded_server_is_final_and_no_fallback(case: Case, bundle: Bundle) -> None:
    case.away()
    given = result(case.frames.server_answered(1, answer(bundle.exits[0].name), 0.05, shortened=True))
    assert (given.where, given.reason, given.is_fallback) == ("server", "shortened", False)


def test_without_a_connection_the_device_finishes_and_says_why(case: Case) -> None:
    flight = case.take()
    (finish,) = case.unsure(flight, payload=None, up=False)
    assert isinstance(finish, Finish)
    given = result(case.frames.finished(flight, answer(), only_first_exit=False, now=0.06))
    assert (given.reason, given.where) == ("disconnected", "device")


def test_a_link_that_takes_no_more_leaves_the_frame_to_the_device(case: Case) -> None:
    flight = case.take()
    assert case.unsure(flight) == [Send(flight)]
    (finish,) = case.frames.not_sent(flight, 0.01, link_up=True)
    assert isinstance(finish, Finish) and flight.trouble is None


def test_at_the_deadline_the_best_local_answer_is_final_and_the_server_is_told(case: Case, bundle: Bundle) -> None:
    case.away()
    case.frames.local_exit(1, answer(bundle.exits[0].name, 0.4), 0.06)
    assert case.frames.wake_at() <= DEADLINE_S
    actions = case.frames.look(DEADLINE_S)
    assert result(actions).reason == "deadline" and actions[-1] == Cancel(1)


def test_late_answers_that_are_wanted_are_not_cancelled(bundle: Bundle) -> None:
    case = Case(bundle, keep_late=True)
    case.away()
    case.frames.local_exit(1, answer(bundle.exits[0].name, 0.4), 0.06)
    assert Cancel(1) not in case.frames.look(DEADLINE_S)
    late = result(case.frames.server_answered(1, answer(), 0.3))
    assert (late.kind, late.where) == ("late", "server")


def test_a_frame_without_an_answer_gets_some_grace_and_then_none(case: Case) -> None:
    flight = case.away()
    assert [a for a in case.frames.look(DEADLINE_S) if isinstance(a, Emit)] == []
    assert flight.state is State.OVERDUE
    assert case.frames.wake_at() == pytest.approx(DEADLINE_S + GRACE_MS / 1000)
    given = result(case.frames.look(DEADLINE_S + GRACE_MS / 1000))
    assert (given.reason, given.label) == ("no_answer", None)


def test_an_exit_that_runs_in_the_grace_is_final_at_once(case: Case, bundle: Bundle) -> None:
    case.away()
    case.frames.look(DEADLINE_S)
    given = result(case.frames.local_exit(1, answer(bundle.exits[0].name, 0.3), DEADLINE_S + 0.004))
    assert (given.reason, given.exit, given.where) == ("deadline", bundle.exits[0].name, "device")


def test_a_frame_that_an_exit_has_seen_needs_no_rescue(case: Case, bundle: Bundle) -> None:
    flight = case.take()
    case.frames.local_exit(1, answer(bundle.exits[0].name, 0.4), 0.005)
    case.unsure(flight)
    case.frames.sent(flight, 0.01)
    assert flight.rescue_at is None and case.frames.wake_at() == pytest.approx(DEADLINE_S)


def test_a_frame_that_an_exit_saw_after_it_was_sent_needs_no_rescue(case: Case, bundle: Bundle) -> None:
    flight = case.away()
    at = flight.rescue_at
    case.frames.local_exit(1, answer(bundle.exits[0].name, 0.4), 0.05)
    assert at is not None and case.frames.look(at) == []


@pytest.mark.parametrize("ms", [0.9, 600_000.1, math.nan])
def test_a_deadline_that_no_frame_can_have_is_refused(ms: float) -> None:
    with pytest.raises(ValueError, match="expected 1 to 600000"):
        checked_deadline(ms)
    assert [checked_deadline(ms) for ms in (1, 600_000)] == [1, 600_000]


@pytest.mark.parametrize("lost", [True, False])
def test_what_the_server_will_not_answer_is_finished_here(case: Case, lost: bool) -> None:
    flight = case.away()
    (finish,) = case.frames.lost([1], 0.05) if lost else case.frames.server_refused(1, 0.05)
    assert isinstance(finish, Finish) and not finish.only_first_exit and flight.state is State.ALONE
    given = result(case.frames.finished(flight, answer(), only_first_exit=False, now=0.1))
    assert given.reason == ("disconnected" if lost else "rejected")


def test_the_device_gives_its_best_if_time_is_too_short_for_more(case: Case, bundle: Bundle) -> None:
    flight = case.away()
    case.frames.local_exit(1, answer(bundle.exits[0].name, 0.4), 0.06)
    case.frames.lost([1], 0.05)
    given = result(case.frames.finished(flight, None, only_first_exit=False, now=0.14))
    assert (given.reason, given.exit) == ("disconnected", bundle.exits[0].name)


def test_a_rescue_that_found_nothing_sure_leaves_the_frame_to_the_server(case: Case, bundle: Bundle) -> None:
    flight = case.away()
    case.frames.local_exit(1, answer(bundle.exits[0].name, 0.4), 0.12)
    assert case.frames.finished(flight, None, only_first_exit=True, now=0.12) == []
    assert result(case.frames.server_answered(1, answer(), 0.13)).where == "server"


def test_each_frame_that_no_exit_has_seen_is_worked_on_here_in_time_for_the_first(case: Case) -> None:
    """Two frames of one age: the later one's first exit ends at the deadline, the earlier one's when that begins."""
    case.learn(0.05)
    one, two = case.away(1), case.away(2)
    end = DEADLINE_S - SPARE_MS / 1000
    starts = [end - 2 * FIRST_EXIT_MS / 1000, end - FIRST_EXIT_MS / 1000]
    assert sorted(f.rescue_at or 0.0 for f in (one, two)) == pytest.approx(starts)
    first = min((one, two), key=lambda f: f.rescue_at or 0.0)
    (finish,) = case.frames.look(starts[0])
    assert finish == Finish(first, X, end, DEADLINE_S + GRACE_MS / 1000, only_first_exit=True)
    assert case.frames.look(starts[0]) == [] and case.frames.wake_at() == pytest.approx(starts[1])


def test_the_device_begins_at_once_if_the_server_would_not_answer_before_it_had_to(case: Case) -> None:
    """Nothing is known of the server; and then, that its answers usually take longer than the device can wait."""
    for frame, usual_s in ((1, None), (2, 0.12)):
        if usual_s is not None:
            case.frames.end(0.0)
            case.learn(usual_s)
        flight = case.away(frame)
        (finish,) = case.frames.look(0.01)
        assert isinstance(finish, Finish) and finish.flight is flight and finish.only_first_exit
        case.frames.finished(flight, None, only_first_exit=True, now=0.03)


def test_a_frame_that_the_device_has_no_time_for_is_not_taken_and_waits_for_its_time(case: Case) -> None:
    """Head and first exit take 90 ms: of two frames within 150 ms, the second would be too late."""
    case.numbers.first_exit, case.numbers.head = 80.0, 10.0
    flight = case.take(1, 0.0, LinkIs.AWAY)
    assert case.try_to_take(2, 0.03, LinkIs.AWAY) is None
    assert not case.frames.to_begin(0.03, None, case.plan, link=LinkIs.AWAY)
    (finish,) = case.unsure(flight, 0.01, payload=None, up=False)
    assert isinstance(finish, Finish)
    assert not case.frames.to_begin(0.05, None, case.plan, link=LinkIs.AWAY), "its head would stand in line"
    case.frames.finished(flight, answer(), only_first_exit=False, now=0.09)
    assert case.frames.to_begin(0.09, 0.03, case.plan, link=LinkIs.AWAY)
    assert not case.frames.to_begin(0.09, 0.08, case.plan, link=LinkIs.AWAY), "a newer one is waited for"
    assert case.frames.to_begin(0.09, DEADLINE_S, case.plan, link=LinkIs.AWAY), "to be dropped"
    assert case.try_to_take(2, 0.09, LinkIs.AWAY, age=0.08) is None, "too old by now"
    assert case.try_to_take(3, 0.09, LinkIs.AWAY, age=0.03) is not None


def test_where_frames_never_come_young_enough_the_newest_is_tried_all_the_same(case: Case) -> None:
    """Every frame is 20 ms old when it comes. The device was disturbed once, and seems to take 135 ms of the 150."""
    case.numbers.first_exit, case.numbers.head = 5.0, 130.0
    assert case.frames.to_begin(0.0, None, case.plan, link=LinkIs.AWAY)
    assert case.frames.to_begin(0.02, 0.02, case.plan, link=LinkIs.AWAY)
    assert case.try_to_take(1, 0.02, LinkIs.AWAY, age=0.02) is not None
    case.frames.end(0.1)
    assert case.frames.to_begin(0.105, 0.005, case.plan, link=LinkIs.AWAY), "this one is young enough"
    assert not case.frames.to_begin(0.12, 0.02, case.plan, link=LinkIs.AWAY), "so a younger one is waited for"


def test_a_server_whose_answers_are_soon_enough_is_relied_on(case: Case) -> None:
    case.numbers.first_exit = 100.0
    flight = case.away(0)
    assert not flight.relies, "the device can answer it"
    case.frames.server_answered(0, answer(), 0.08)
    assert not case.take(1, 0.08).relies, "one answer says little of the next"
    case.frames.end(0.09)
    case.frames.server_changed()
    case.learn(0.05)
    one, two = case.away(10, at=0.1), case.away(11, at=0.13)
    assert one.relies and two.relies
    assert case.frames.look(0.146) == [], "the device would only be busy with what the server answers soon"
    assert not case.frames.to_begin(0.155, None, case.plan, link=LinkIs.FULL), "it waits for room, which comes soon"


def test_frames_lost_with_a_spare_say_nothing_of_the_server_that_is_used(case: Case) -> None:
    case.numbers.first_exit = 100.0
    case.learn(0.05)
    (finish,) = case.frames.lost([case.away(10, at=0.0).frame], 0.02)
    assert isinstance(finish, Finish)
    case.frames.finished(finish.flight, answer(), only_first_exit=False, now=0.12)
    assert case.take(11, 0.12).relies, "what is known of the other one was forgotten"


def test_no_frame_relies_on_a_server_while_an_answer_is_overdue(case: Case) -> None:
    case.numbers.first_exit = 100.0
    case.learn(0.05)
    assert case.away(10, at=0.0).relies
    assert case.take(11, 0.05).relies
    assert not case.take(12, 0.08).relies, "nobody knows whether the server is still there"


def test_the_device_keeps_its_time_for_a_frame_if_it_need_not_begin_before_the_answer_comes(case: Case) -> None:
    """The answer is expected 60 ms after the capture; the device could begin at 125 ms."""
    case.learn(0.05)
    flight = case.away(10, at=0.1)
    assert not flight.relies and flight.rescue_at == pytest.approx(0.25 - (SPARE_MS + FIRST_EXIT_MS) / 1000)


def test_a_frame_that_relied_on_the_server_is_worked_on_here_if_its_answer_is_overdue_and_there_is_time(
    case: Case,
) -> None:
    """Sent at 10 ms. The device would have to begin at 95 ms; answers take 95 ms, and then 75 ms."""
    case.numbers.first_exit = 50.0
    case.learn(0.095)
    flight = case.away(10)
    assert flight.relies
    at = DEADLINE_S - (SPARE_MS + 50) / 1000
    assert flight.rescue_at == pytest.approx(at)
    assert case.frames.look(at) == [], "its answer is not overdue"

    case.frames.end(0.1)
    case.frames.server_changed()
    case.learn(0.075)
    flight = case.away(11)
    flight.relies = True
    (finish,) = case.frames.look(0.09)
    assert isinstance(finish, Finish) and finish.only_first_exit


def test_of_two_frames_without_an_answer_the_earlier_one_goes_first_if_it_would_be_too_late_after_the_other(
    case: Case,
) -> None:
    case.learn(0.05)
    one, two = case.away(1, 0.0), case.away(2, 0.03)
    assert [f.rescue_at for f in (one, two)] == pytest.approx([0.125, 0.155])
    finishes = case.frames.server_refused(2, 0.12)
    assert [f.flight for f in finishes if isinstance(f, Finish)] == [one, two], "120 + 20 + 20 ms is too late"


def test_a_frame_that_the_server_refused_is_worked_on_at_once_if_the_others_can_wait(case: Case) -> None:
    case.learn(0.05)
    one, two = case.away(1, 0.0), case.away(2, 0.03)
    (finish,) = case.frames.server_refused(2, 0.05)
    assert isinstance(finish, Finish) and finish.flight is two and one.rescue_at is not None
    assert case.frames.others_in_need(two, until=one.rescue_at + 0.001), "a better answer would take too long"
    assert not case.frames.others_in_need(two, until=one.rescue_at - 0.001)


def test_after_an_answer_that_did_not_come_no_frame_relies_on_the_server(case: Case) -> None:
    case.numbers.first_exit = 100.0
    case.learn(0.05)
    flight = case.away(10)
    assert flight.relies
    case.miss(flight)
    flight = case.take(13, 0.3)
    assert not flight.relies and flight.sends, "one is not many"


def test_a_server_that_never_answers_in_time_is_asked_again_after_a_while(case: Case) -> None:
    case.miss(case.away(1))
    assert not case.take(10, 0.3).sends
    case.frames.end(0.4)
    assert case.take(11, DEADLINE_S + FRESH_S + 0.1).sends


def test_what_is_known_of_one_server_does_not_count_for_the_next(case: Case) -> None:
    case.numbers.first_exit = 100.0
    case.learn(0.05)
    before = case.away(1)
    case.frames.server_changed()
    case.frames.server_refused(1, 0.02)
    case.frames.finished(before, answer(), only_first_exit=False, now=0.1)
    flight = case.take(2, 0.1)
    assert flight.sends and not flight.relies


def test_what_nobody_can_answer_in_time_is_tried_only_if_nothing_else_is_owed(case: Case) -> None:
    case.numbers.first_exit = 1000.0
    assert case.take(1, 0.0, LinkIs.AWAY).relies
    assert case.try_to_take(2, 0.03, LinkIs.AWAY) is None


def test_the_end_settles_everything(case: Case, bundle: Bundle) -> None:
    case.away(1)
    case.take(2)
    case.frames.local_exit(2, answer(bundle.exits[0].name, 0.5), 0.02)
    reasons = {a.result.frame: a.result.reason for a in case.frames.end(0.03) if isinstance(a, Emit)}
    assert reasons == {1: "no_answer", 2: "deadline"} and len(case.frames) == 0


EVENTS = st.sampled_from(["take", "unsure", "waits", "exit", "sure", "answer", "refuse", "lost", "finished", "look"])


@settings(deadline=None)
@given(st.lists(st.tuples(EVENTS, st.integers(0, 3), st.floats(0, 0.04)), max_size=60))
def test_whatever_happens_every_frame_gets_one_final_by_its_deadline_and_grace(
    bundle: Bundle, events: list[tuple[str, int, float]]
) -> None:
    """As the pipeline does: the clock wakes it when it asked for that, and what it decides is carried out."""
    case, now = Case(bundle, keep_late=True), 0.0
    finals: dict[int, float] = {}
    flights = {0: case.take(0)}
    waits = False

    def do(actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Emit) and action.result.kind == "final":
                assert action.result.frame not in finals
                finals[action.result.frame] = now
            elif isinstance(action, Send) and not (waits and held(action.flight)):
                do(case.frames.sent(action.flight, now))
        if going_on := case.frames.go_on():
            do(going_on)

    def held(flight: Flight) -> bool:
        """Whether it waits for another one's answer."""
        away = [f for f in flights.values() if f.state is State.AWAY]
        return flight.state is State.HELD and any(case.frames.wait(flight, other, now) for other in away)

    def pass_time(until: float) -> None:
        nonlocal now
        while (at := case.frames.wake_at()) <= until:
            now = max(now, at)
            do(case.frames.look(now))
        now = until

    for what, n, seconds in events:
        pass_time(now + seconds)
        waits = what == "waits"
        if what == "take" and n not in flights and (taken := case.try_to_take(n, now)) is not None:
            flights[n] = taken
        if (flight := flights.get(n)) is None:
            continue
        if what in ("unsure", "waits") and flight.state in (State.HEAD, State.OVERDUE) and flight.activation is None:
            do(case.unsure(flight, now))
        elif what == "exit":
            do(case.frames.local_exit(n, answer(bundle.exits[0].name, 0.4), now))
        elif what == "sure":
            do(case.frames.answered_here(n, answer(bundle.exits[0].name), now))
        elif what == "answer":
            do(case.frames.server_answered(n, answer(), now))
        elif what == "refuse":
            do(case.frames.server_refused(n, now))
        elif what == "lost":
            do(case.frames.lost([n], now))
        elif what == "finished":
            do(case.frames.finished(flight, None, only_first_exit=False, now=now))
    pass_time(now + 10.0)
    assert finals.keys() == flights.keys()
    assert all(at <= flights[n].deadline + GRACE_MS / 1000 + 1e-9 for n, at in finals.items())
    assert case.frames.wake_at() == math.inf
