"""How long a server's answers take, by numbers for clocks."""

from __future__ import annotations

import math

import pytest

from spinn_client.frames.reliance import FRESH_S, MARGIN, RISK_S, Reliance


def told(*took_s: float, every_s: float = 0.03) -> tuple[Reliance, float]:
    """One that was told of these answers, and the time of the last."""
    reliance = Reliance()
    for n, took in enumerate(took_s):
        reliance.answered(took, n * every_s)
    return reliance, (len(took_s) - 1) * every_s


def test_nothing_is_known_at_first_and_after_a_while() -> None:
    reliance, now = told(0.06, 0.06)
    for unknown, at in ((Reliance(), 0.0), (reliance, now + FRESH_S + 0.01)):
        assert unknown.usual(at) == unknown.longest(at) == math.inf
        assert unknown.perhaps(0.01, at), "it may be asked"
    assert reliance.usual(now + FRESH_S) == pytest.approx(0.06)


def test_the_first_answer_is_believed_to_be_half_off_either_way_as_in_rfc_6298() -> None:
    reliance, now = told(0.06)
    assert reliance.longest(now) == pytest.approx(0.06 + MARGIN * 0.03)


def test_steady_answers_are_expected_as_they_are_and_wavering_ones_later() -> None:
    steady, now = told(*[0.06] * 30)
    wavering, _ = told(*[0.03, 0.09] * 15)
    assert steady.longest(now) == pytest.approx(0.06, rel=0.01)
    assert wavering.usual(now) == pytest.approx(0.06, rel=0.1)
    assert wavering.longest(now) > 0.06 + 0.9 * MARGIN * 0.03


def test_an_answer_that_did_not_come_is_remembered_for_some_answers() -> None:
    reliance, now = told(*[0.06] * 30)
    reliance.missed(0.14, now)
    assert reliance.longest(now) > 0.14
    assert reliance.perhaps(0.14, now), "the others came"
    for n in range(12):
        reliance.answered(0.06, now + 0.03 * n)
    assert reliance.longest(now + 0.4) < 0.14


def test_a_server_that_does_not_answer_in_time_is_not_asked_until_nothing_is_known() -> None:
    reliance = Reliance()
    reliance.missed(0.14, 0.0)
    assert not reliance.perhaps(0.14, FRESH_S) and reliance.perhaps(0.14, FRESH_S + 0.01)


def test_a_frame_that_nobody_else_can_answer_is_risked_after_an_answer_in_time_or_a_long_while() -> None:
    assert Reliance().worth_a_risk(0.1, 0.0)
    reliance, now = told(0.06)
    assert reliance.worth_a_risk(0.1, now) and not reliance.worth_a_risk(0.05, now)
    reliance.missed(0.1, now)
    assert not reliance.worth_a_risk(0.05, now + RISK_S) and reliance.worth_a_risk(0.05, now + RISK_S + 0.01)
