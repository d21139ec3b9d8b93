"""The figures of a run."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

from rich.console import Console

from spinn_client.sinks.summary import PLANS, PlanUse, Tally, show_summary, summarise
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting
from spinn_stream.plan import Plan

from .made import result


def figures(bundle: Bundle, tally: Tally, plans: list[Plan]) -> dict[str, Any]:
    return summarise(
        tally, bundle=bundle, plans=[PlanUse(plan) for plan in plans], captured=0, taken=0, dropped=Counter(), late=0,
        limited=0, audits=0, disagreed=0, exit_audits=0, exit_disagreed=0, bytes_up=0, bytes_down=0,
    )  # fmt: skip


def test_the_summary_names_the_codec_that_was_used(bundle: Bundle) -> None:
    three = [Plan(1, 9, None), Plan(2, 9, None, CodecSetting.parse("cnn-co:4")), Plan(3, bundle.last, 0.8)]
    found = figures(bundle, Tally(), three)
    assert [plan["codec"] for plan in found["plans"]] == ["transform:10", "cnn-co:4", None]


def test_every_final_is_counted_once_by_who_answered(bundle: Bundle) -> None:
    tally = Tally()
    for given in (
        result(0), result(1, where="device", reason="confident"), result(2, where="device", reason="deadline"),
        result(2, kind="late"), result(3, kind="provisional", reason=None),
        result(4, label=None, confidence=None, exit=None, where=None, reason="no_answer"),
    ):  # fmt: skip
        tally.add(given)
    found = figures(bundle, tally, [Plan(1, 9, None)])
    assert (found["final"], found["device"], found["server"], found["fallback"]) == (4, 1, 1, 2)
    assert tally.late == 1 and found["age_ms"]["p50"] == 40.0 and found["plans"][0]["frames"] == 4


def test_answers_of_an_earlier_exit_are_the_server_s_and_are_told(bundle: Bundle) -> None:
    tally = Tally()
    for reason in ("final_exit", "shortened", "shortened"):
        tally.add(result(where="server", reason=reason))
    found = figures(bundle, tally, [Plan(1, 9, None)])
    assert (found["server"], found["fallback"], found["reasons"]["shortened"]) == (3, 0, 2)
    console = Console(width=80, file=io.StringIO(), color_system=None)
    show_summary(console, found, 1.0)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split()[-5] for line in lines if "earlier exit" in line] == ["2"]


def test_plans_that_were_too_many_are_summed_up(bundle: Bundle) -> None:
    """Frames of plans 0 to PLANS + 9, two each; the first ten plans are listed no more."""
    tally = Tally()
    plans = [Plan(k, 9, None) for k in range(PLANS + 10)]
    for plan in plans:
        for _ in range(2):
            tally.add(result(plan=plan.id))
    tally.add(result(plan=3))  # a straggler
    assert len(tally.per_plan) == PLANS
    found = figures(bundle, tally, plans)
    assert [plan["id"] for plan in found["plans"]] == list(range(10, PLANS + 10))
    assert {plan["frames"] for plan in found["plans"]} == {2} and found["frames_of_earlier_plans"] == 2 * 10 + 1


def test_the_summary_for_people_fits_and_takes_no_text_for_markup(bundle: Bundle) -> None:
    tally = Tally()
    tally.add(result())
    found = figures(bundle, tally, [Plan(1, 9, None)]) | {"dropped_by": {"[red]": 3}}
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    show_summary(console, found, 1.0)
    assert "3 [red]" in console.file.getvalue()  # type: ignore[attr-defined]
