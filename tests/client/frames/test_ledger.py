"""The contract with whoever reads results, with numbers for clocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinn_client.frames.ledger import Ledger
from spinn_client.frames.results import FALLBACK, Result
from spinn_stream.plan import Plan
from spinn_stream.runtime import Answer

LABELS = ("cat", "dog")
PLAN = Plan(7, 9, None)


def answer(exit_name: str, confidence: float, label: int = 0) -> Answer:
    return Answer(exit_name, label, confidence, ((label, confidence),))


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger(LABELS)
    ledger.take(1, captured=10.0, deadline=10.15, plan=PLAN)
    return ledger


def test_a_confident_local_exit_is_final(ledger: Ledger) -> None:
    result = ledger.settle_locally(1, answer("block4", 0.9, 1), "confident", 10.02)
    assert result is not None
    assert (result.frame, result.kind, result.label, result.exit) == (1, "final", "dog", "block4")
    assert (result.where, result.reason, result.plan) == ("device", "confident", 7)
    assert result.age_ms == pytest.approx(20)
    assert result.top == (("dog", 0.9),)


def test_the_server_s_answer_is_final_and_nothing_after_it_is(ledger: Ledger) -> None:
    ledger.local_exit(1, answer("block4", 0.4), 10.01)
    result = ledger.server_answer(1, answer("final", 0.3, 1), "final_exit", 10.05)
    assert result is not None and (result.where, result.label, result.reason) == ("server", "dog", "final_exit")
    assert ledger.time_out(1, 10.15) is None
    assert ledger.server_answer(1, answer("final", 0.3), "final_exit", 10.2) is None
    assert ledger.late_answers == 0


def test_at_the_deadline_the_most_confident_local_exit_answers(ledger: Ledger) -> None:
    ledger.local_exit(1, answer("block4", 0.6, 1), 10.01)
    ledger.local_exit(1, answer("block7", 0.5, 0), 10.02)  # deeper, but less sure
    result = ledger.time_out(1, 10.15)
    assert result is not None
    assert (result.exit, result.label, result.reason, result.where) == ("block4", "dog", "deadline", "device")


def test_without_any_local_exit_the_deadline_admits_it(ledger: Ledger) -> None:
    result = ledger.time_out(1, 10.15)
    assert result is not None
    assert (result.label, result.confidence, result.where, result.reason) == (None, None, None, "no_answer")


@pytest.mark.parametrize("trouble", ["disconnected", "rejected"])
def test_trouble_with_the_server_is_the_reason_given(ledger: Ledger, trouble: str) -> None:
    ledger.local_exit(1, answer("block4", 0.4), 10.01)
    ledger.trouble(1, trouble)  # type: ignore[arg-type]
    result = ledger.settle_locally(1, answer("final", 0.8), "final_exit", 10.06)
    assert result is not None and result.reason == trouble and result.exit == "final"


def test_trouble_is_the_reason_at_the_deadline_too(ledger: Ledger) -> None:
    ledger.local_exit(1, answer("block4", 0.4), 10.01)
    ledger.trouble(1, "disconnected")
    result = ledger.time_out(1, 10.15)
    assert result is not None and result.reason == "disconnected"


def test_a_late_answer_is_counted_and_told_only_when_asked_for() -> None:
    for wanted in (False, True):
        ledger = Ledger(LABELS, late=wanted)
        ledger.take(1, captured=10.0, deadline=10.15, plan=PLAN)
        ledger.time_out(1, 10.15)
        late = ledger.server_answer(1, answer("final", 0.9), "final_exit", 10.3)
        assert ledger.late_answers == 1
        assert (late is not None and late.kind == "late" and late.age_ms == pytest.approx(300)) == wanted
        assert ledger.server_answer(1, answer("final", 0.9), "final_exit", 10.4) is None  # and only once


def test_a_provisional_result_is_told_only_when_asked_for() -> None:
    for wanted in (False, True):
        ledger = Ledger(LABELS, provisional=wanted)
        ledger.take(1, captured=10.0, deadline=10.15, plan=PLAN)
        told = ledger.local_exit(1, answer("block4", 0.4), 10.01)
        assert (told is not None and told.kind == "provisional" and told.reason is None) == wanted
        assert 1 in ledger


def test_an_answer_that_is_not_sure_enough_is_unknown_and_keeps_its_top() -> None:
    ledger = Ledger(LABELS, unknown_below=0.5)
    for frame, confidence in ((1, 0.49), (2, 0.5)):
        ledger.take(frame, captured=10.0, deadline=10.15, plan=PLAN)
        result = ledger.settle_locally(frame, answer("final", confidence, 1), "final_exit", 10.05)
        assert result is not None and result.label == ("unknown" if confidence < 0.5 else "dog")
        assert result.top == (("dog", confidence),) and result.confidence == confidence


def test_a_frame_is_taken_once(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="taken in already"):
        ledger.take(1, captured=11.0, deadline=11.15, plan=PLAN)
    ledger.time_out(1, 10.15)
    with pytest.raises(ValueError, match="taken in already"):
        ledger.take(1, captured=11.0, deadline=11.15, plan=PLAN)


def test_an_answer_to_a_frame_never_taken_is_nothing(ledger: Ledger) -> None:
    assert ledger.server_answer(2, answer("final", 0.9), "final_exit", 10.1) is None
    assert ledger.local_exit(2, answer("block4", 0.9), 10.1) is None
    assert ledger.settle_locally(2, answer("block4", 0.9), "confident", 10.1) is None


EVENTS = st.sampled_from(["exit", "confident", "server", "timeout", "disconnected", "rejected", "complete"])


@given(st.lists(st.tuples(EVENTS, st.integers(0, 3)), max_size=60))
def test_whatever_happens_in_whatever_order_there_is_exactly_one_final(events: list[tuple[str, int]]) -> None:
    ledger = Ledger(LABELS, provisional=True, late=True)
    results: list[Result | None] = []
    for frame in range(4):
        ledger.take(frame, captured=0.0, deadline=1.0, plan=PLAN)
    for n, (event, frame) in enumerate(events):
        now = n / 100
        if event == "exit":
            results.append(ledger.local_exit(frame, answer("block4", 0.2), now))
        elif event == "confident":
            results.append(ledger.settle_locally(frame, answer("block4", 0.9), "confident", now))
        elif event == "server":
            results.append(ledger.server_answer(frame, answer("final", 0.9), "final_exit", now))
        elif event == "timeout":
            results.append(ledger.time_out(frame, now))
        elif event == "complete":
            results.append(ledger.settle_locally(frame, None, "deadline", now))
        else:
            ledger.trouble(frame, event)  # type: ignore[arg-type]
    results += [ledger.time_out(frame, 1.0) for frame in range(4)]
    told = [r for r in results if r is not None]
    assert sorted(r.frame for r in told if r.kind == "final") == [0, 1, 2, 3]
    for frame in range(4):
        kinds = [r.kind for r in told if r.frame == frame]
        assert "provisional" not in kinds[kinds.index("final") :]
        assert "late" not in kinds[: kinds.index("final")]
    assert all((r.label is None) == (r.reason == "no_answer") for r in told)
    assert all(r.where != "server" for r in told if r.reason in FALLBACK)
    assert len(ledger) == 0


def test_a_repeated_answer_is_final_and_says_whose_it_is(ledger: Ledger) -> None:
    result = ledger.settle_again(1, answer("repeat", 0.9, 1), 0, 10.01, audit=False)
    assert result is not None
    assert (result.kind, result.label, result.exit, result.repeats) == ("final", "dog", "repeat", 0)
    assert (result.where, result.reason, result.is_fallback) == ("device", "confident", False)
    assert result.as_json()["repeats"] == 0
    assert ledger.settle_again(1, answer("repeat", 0.9), 0, 10.02, audit=False) is None


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("where", ["device", "server"])
def test_an_audit_s_answer_changes_nothing_and_is_late_if_that_is_asked_for(late: bool, where: str) -> None:
    ledger = Ledger(LABELS, late=late)
    ledger.take(1, captured=10.0, deadline=10.15, plan=PLAN)
    assert ledger.settle_again(1, answer("repeat", 0.9), 0, 10.01, audit=True) is not None
    found = answer("final", 0.8, 1)
    if where == "device":
        result = ledger.settle_locally(1, found, "final_exit", 10.05)
    else:
        result = ledger.server_answer(1, found, "final_exit", 10.05)
    assert (result is not None) == late
    if result is not None:
        assert (result.kind, result.label, result.where, result.repeats) == ("late", "dog", where, None)
    assert ledger.late_answers == 0, "an audit is not late: nobody waited for it"
    assert ledger.settle_locally(1, found, "final_exit", 10.06) is None
