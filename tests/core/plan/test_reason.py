"""Reasons: what is done with a frame and why, in sentences that need no knowledge of the code."""

from __future__ import annotations

import pytest

from spinn_stream.codec.settings import CodecSetting
from spinn_stream.plan.change.choice import Binding
from spinn_stream.plan.change.reason import FIRST, SERVER_AWAY, gained, in_words, reason, repaired
from spinn_stream.plan.plan import Plan
from spinn_stream.plan.predict.predictor import Figures
from spinn_stream.plan.sla.sla import METRICS, Constraint

CUTS = ["input", "block7", "final"]
FIGURES = Figures(35.4, 60, 29.6, 0.7812, 0.0093, 1000, 3, 20, 5000)
DROP = Constraint(METRICS["accuracy_drop"], 0.01)
AGE = METRICS["latency_ms"]


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(1, 2, None), "everything runs on the device"),
        (Plan(1, 2, 0.85), "everything runs on the device (early exits may answer, at threshold 0.85)"),
        (Plan(1, 0, None, CodecSetting("jpeg", 85)), "the picture goes to the server (sent as jpeg:85)"),
        (
            Plan(1, 1, 0.5, CodecSetting("transform", 6)),
            "the device computes up to block7, the server the rest "
            "(sent as transform:6; early exits may answer, at threshold 0.5)",
        ),
    ],
)
def test_a_plan_is_said_by_what_happens_to_a_frame(plan: Plan, words: str) -> None:
    assert in_words(plan, CUTS) == words


def test_a_change_is_said_with_its_cause_and_what_is_expected() -> None:
    assert reason(Plan(1, 2, None), CUTS, SERVER_AWAY, FIGURES, None, AGE, 35.4) == (
        "Everything runs on the device, because the server cannot be reached. "
        "Expected: answers after 35 ms, 30 a second, 78.1 % of them right."
    )


def test_a_broken_constraint_is_said_with_its_figure_and_its_bound() -> None:
    assert repaired(DROP, 0.017) == (
        "because the plan before breaks the goal: the loss of accuracy is 1.70 %, and at most 1.00 % is asked for"
    )
    assert repaired(Constraint(METRICS["throughput_fps"], 15), 12).endswith(
        "the number of answers a second is 12 fps, and at least 15 fps is asked for"
    )


def test_a_gain_is_said_with_both_figures() -> None:
    assert gained(AGE, 60, 35) == "because the age of answers falls from 60 ms to 35 ms"
    assert gained(METRICS["accuracy"], 0.5, 0.625) == "because the share of right answers rises from 50.00 % to 62.50 %"


def test_what_a_constraint_costs_is_said_as_what_could_be_had_without_it() -> None:
    bound = Binding(DROP, value=0.0093, over=-0.0007, gain=15.4)  # 35.4 ms - 15.4 ms = 20 ms
    assert reason(Plan(1, 2, None), CUTS, FIRST, FIGURES, bound, AGE, 35.4).endswith(
        " Without the limit (at most 1.00 % for the loss of accuracy), the age of answers could be 20 ms."
    )


def test_a_goal_that_no_plan_keeps_is_said() -> None:
    broken = Binding(DROP, value=0.022, over=0.012, gain=0.0)
    assert reason(Plan(1, 2, None), CUTS, FIRST, FIGURES, broken, AGE, 35.4).endswith(
        " No plan keeps the goal: the loss of accuracy is 2.20 %, and at most 1.00 % is asked for."
    )
