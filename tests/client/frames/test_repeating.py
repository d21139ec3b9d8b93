"""Frames that wait for the answer of one that is with the server, with numbers for clocks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from spinn_client.device.camera_answers import CameraAnswers
from spinn_client.frames.actions import Action, Cancel, Emit, Finish, Send
from spinn_client.frames.flight import SPARE_MS, Flight, State
from spinn_client.frames.frames import MOST_WAITING, Frames
from spinn_client.frames.ledger import Ledger
from spinn_client.frames.repeating import Repeating
from spinn_stream.bundle import Bundle
from spinn_stream.frame import Pixels, crop
from spinn_stream.repeat import Repeats
from spinn_stream.runtime import Answer

from .test_frames import DEADLINE_S, FIRST_EXIT_MS, SPLIT, Case, answer, result

NEXT_S = 0.033
SERVER_S = 0.05
SURE = Answer("final", 3, 0.95, ((3, 0.95), (4, 0.01)))
TORN = Answer("final", 3, 0.5, ((3, 0.5), (4, 0.5)))


@pytest.fixture
def case(bundle: Bundle) -> Case:
    assert min(e.cut for e in bundle.exits) > SPLIT
    case = Case(bundle)
    case.learn(SERVER_S)
    return case


def held(case: Case, frame: int = 2, at: float = NEXT_S) -> Flight:
    """A frame whose head is done 10 ms after its capture."""
    flight = case.take(frame, at)
    assert case.unsure(flight, at + 0.01) == [Send(flight)]
    return flight


def waiting(case: Case) -> tuple[Flight, Flight]:
    """One that is with the server since 10 ms, and one that waits for its answer since 43 ms."""
    awaited, flight = case.away(1), held(case)
    assert case.frames.wait(flight, awaited, NEXT_S + 0.01)
    return awaited, flight


def test_it_waits_until_it_must_be_sent_or_the_device_must_begin(case: Case) -> None:
    _, flight = waiting(case)
    assert FIRST_EXIT_MS / 1000 < SERVER_S
    until = NEXT_S + DEADLINE_S - SPARE_MS / 1000 - SERVER_S
    assert flight.rescue_at == pytest.approx(until, abs=0.001) and case.frames.wake_at() <= until
    assert Send(flight) not in case.frames.look(until - 0.001)
    assert Send(flight) in case.frames.look(until + 0.001) and flight.awaits is None


def test_where_the_device_is_slow_it_waits_only_until_the_device_must_begin(case: Case) -> None:
    case.numbers.first_exit = 60.0  # longer than the server takes
    _, flight = waiting(case)
    assert flight.rescue_at == pytest.approx(NEXT_S + DEADLINE_S - SPARE_MS / 1000 - 0.06)


def test_sent_when_its_wait_is_over_it_is_worked_on_here_in_time_for_the_first_exit(case: Case) -> None:
    _, flight = waiting(case)
    assert flight.rescue_at is not None
    at = flight.rescue_at
    assert Send(flight) in case.frames.look(at)
    case.frames.sent(flight, at)
    begin = flight.deadline - (SPARE_MS + FIRST_EXIT_MS) / 1000
    worked_on = [a for a in case.frames.look(begin) if isinstance(a, Finish) and a.flight is flight]
    assert len(worked_on) == 1 and worked_on[0].only_first_exit


@pytest.mark.parametrize(("took_s", "waits"), [(0.080, True), (0.086, False)])
def test_no_frame_waits_for_an_answer_that_leaves_no_time_for_its_own(
    bundle: Bundle, took_s: float, waits: bool
) -> None:
    """Sent at 10 ms, it comes at 90 or 96 ms. Their own takes as long, up to 178 ms: from 98 or 92 ms on."""
    case = Case(bundle)
    case.learn(took_s)
    awaited, flight = case.away(1), held(case)
    assert case.frames.wait(flight, awaited, NEXT_S + 0.01) == waits
    assert (flight.awaits is awaited) == waits and (flight.rescue_at is not None) == waits


FATES: dict[str, Callable[[Case, Flight], list[Action]]] = {
    "answered": lambda case, awaited: case.frames.server_answered(1, answer(), 0.06),
    "refused": lambda case, awaited: case.frames.server_refused(1, 0.06),
    "connection lost": lambda case, awaited: case.frames.lost([1], 0.06),
    "expired": lambda case, awaited: case.frames.look(awaited.deadline),
    "answered here": lambda case, awaited: case.frames.answered_here(1, answer(), 0.06),
}  # fmt: skip


@pytest.mark.parametrize("fate", FATES)
def test_whatever_becomes_of_the_awaited_frame_who_waits_goes_on(case: Case, fate: str) -> None:
    awaited, flight = waiting(case)
    assert case.frames.go_on() == [], "it is with the server"
    sent = [a for a in FATES[fate](case, awaited) if isinstance(a, Send)]
    assert sent + case.frames.go_on() == [Send(flight)]
    assert flight.awaits is None and flight.state is State.HELD and flight.payload is not None
    assert case.frames.go_on() == [], "once"


def test_cancelled_by_its_deadline_it_lets_others_go_on(case: Case, bundle: Bundle) -> None:
    """The server is told that nobody wants the awaited frame's answer any more; an exit had seen it here."""
    awaited, flight = waiting(case)
    case.frames.local_exit(1, answer(bundle.exits[0].name, 0.4), 0.05)
    actions = case.frames.look(awaited.deadline)
    assert Cancel(1) in actions and awaited.state is State.SETTLED
    assert Send(flight) in [*actions, *case.frames.go_on()]


def test_a_frame_that_cannot_be_sent_after_its_wait_is_finished_here(case: Case) -> None:
    _, flight = waiting(case)
    case.frames.lost([1], 0.06)
    assert case.frames.go_on() == [Send(flight)]
    (finish,) = case.frames.not_sent(flight, 0.06, link_up=False)
    assert isinstance(finish, Finish) and finish.flight is flight
    given = result(case.frames.finished(flight, answer(), only_first_exit=False, now=0.09))
    assert (given.frame, given.reason, given.where) == (2, "disconnected", "device")


def test_no_more_than_a_few_frames_wait(case: Case) -> None:
    case.numbers.first_exit = 1.0
    awaited = case.away(1)
    waits = [case.frames.wait(held(case, n, 0.011), awaited, 0.022) for n in range(2, 2 + 2 * MOST_WAITING)]
    assert waits == [True] * MOST_WAITING + [False] * MOST_WAITING


class Camera:
    """Frames of one still scene: real looks at them, and all they lead to."""

    def __init__(self, bundle: Bundle, picture: Pixels, audit_rate: float = 0.0) -> None:
        self.case = Case(bundle)
        ledger = Ledger(bundle.labels)
        self.frames = self.case.frames = Frames(
            bundle, ledger, self.case.numbers, deadline_s=DEADLINE_S, keep_late=False
        )  # fmt: skip
        self.repeats = Repeats(audit_rate=audit_rate)
        self.repeating = Repeating(self.frames, ledger, CameraAnswers(self.repeats))
        self.picture = crop(picture, bundle.input.size)
        self.case.learn(SERVER_S)
        # another scene, whose margin is expected of this one
        self.repeats.look(-100, np.zeros_like(self.picture), -2.0)
        self.repeats.answered(-100, SURE)

    def unsure(self, frame: int, at: float) -> tuple[Flight, list[Action] | None]:
        """The frame, and what is done instead of sending it; None: it is sent."""
        flight = self.case.take(frame, at)
        assert self.repeats.look(frame, self.picture, at).answer is None
        assert self.case.unsure(flight, at + 0.01) == [Send(flight)]
        instead = self.repeating.instead_of_sending(flight, at + 0.01)
        if instead is None:
            self.frames.sent(flight, at + 0.01)
        return flight, instead

    def told(self, frame: int, given: Answer, at: float) -> list[Action]:
        """The server answered; the actions of those that go on."""
        self.repeats.answered(frame, given)
        self.frames.server_answered(frame, given, at)
        return self.frames.go_on()


def test_a_frame_that_waits_gets_the_answer_that_it_waits_for(bundle: Bundle, photographs: list[Pixels]) -> None:
    camera = Camera(bundle, photographs[0])
    assert camera.unsure(1, 0.0)[1] is None, "nobody is with the server"
    flight, instead = camera.unsure(2, NEXT_S)
    assert instead == [] and flight.awaits is not None and flight.awaits.frame == 1
    assert camera.told(1, SURE, 0.06) == [Send(flight)]
    (emit,) = camera.repeating.instead_of_sending(flight, 0.06) or []
    assert isinstance(emit, Emit)
    given = emit.result
    assert (given.frame, given.repeats, given.exit) == (2, 1, "repeat")
    assert (given.where, given.reason) == ("device", "confident")
    assert given.age_ms == pytest.approx(1000 * (0.06 - NEXT_S)) and flight.state is State.SETTLED
    assert camera.frames.wake_at() == math.inf


def test_the_first_of_several_that_waited_in_vain_is_sent_and_the_others_wait_for_it(
    bundle: Bundle, photographs: list[Pixels]
) -> None:
    camera = Camera(bundle, photographs[0])
    camera.unsure(1, 0.0)
    first, second = (camera.unsure(n, at)[0] for n, at in ((2, 0.02), (3, 0.03)))
    assert camera.told(1, TORN, 0.045) == [Send(first), Send(second)]
    assert camera.repeating.instead_of_sending(first, 0.045) is None
    camera.frames.sent(first, 0.045)
    assert camera.repeating.instead_of_sending(second, 0.045) == [] and second.awaits is first


def test_an_audit_of_a_frame_that_waited_has_its_final_result_and_is_sent(
    bundle: Bundle, photographs: list[Pixels]
) -> None:
    camera = Camera(bundle, photographs[0], audit_rate=1.0)
    camera.unsure(1, 0.0)
    flight, _ = camera.unsure(2, NEXT_S)
    assert camera.told(1, SURE, 0.06) == [Send(flight)]
    emit, send = camera.repeating.instead_of_sending(flight, 0.06) or []
    assert isinstance(emit, Emit) and emit.result.repeats == 1 and send == Send(flight)
    assert flight.audit and flight.payload is not None
    assert camera.repeating.instead_of_sending(flight, 0.06) is None, "it is sent now"
    assert camera.frames.sent(flight, 0.06) == [] and flight.payload is None
    before = camera.repeats.audits
    camera.repeats.answered(2, SURE)
    camera.repeats.look(3, camera.picture, 0.1)
    assert camera.repeats.audits == before + 1


def test_an_earlier_exit_of_an_overloaded_server_is_no_answer_to_repeat(
    bundle: Bundle, photographs: list[Pixels]
) -> None:
    """The pipeline does not tell it to the exit; who waited for it is sent."""
    camera = Camera(bundle, photographs[0])
    camera.unsure(1, 0.0)
    flight, _ = camera.unsure(2, NEXT_S)
    camera.frames.server_answered(1, SURE, 0.06, shortened=True)
    assert camera.frames.go_on() == [Send(flight)]
    assert camera.repeating.instead_of_sending(flight, 0.06) is None
