"""Result lines in a file."""

from __future__ import annotations

import json
import time
from pathlib import Path

from spinn_client.frames.results import FrameResult
from spinn_client.sinks.jsonl import ResultLog
from spinn_client.sinks.summary import PlanUse, Tally, summarise
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting
from spinn_stream.plan import Plan


def test_a_line_says_when_the_result_was_given_on_the_machine_s_monotonic_clock(tmp_path: Path) -> None:
    log = ResultLog(tmp_path / "results.jsonl")
    before = time.monotonic()
    log.add(FrameResult(3, "final", "tabby", 0.5, "final", "server", "final_exit", 40.0, 1))
    after = time.monotonic()
    log.close()
    line = json.loads((tmp_path / "results.jsonl").read_text())
    assert line["frame"] == 3 and line["age_ms"] == 40.0
    assert before - 1e-6 <= line["at_s"] <= after + 1e-6


def test_the_summary_names_the_codec_that_was_used(bundle: Bundle) -> None:
    three = (Plan(1, 9, None), Plan(2, 9, None, CodecSetting.parse("cnn-co:4")), Plan(3, bundle.last, 0.8))
    plans = [PlanUse(plan) for plan in three]
    figures = summarise(
        Tally(), bundle=bundle, plans=plans, captured=0, taken=0, dropped=Tally().where, late=0, bytes_up=0,
        bytes_down=0,
    )  # fmt: skip
    assert [plan["codec"] for plan in figures["plans"]] == ["transform:10", "cnn-co:4", None]
