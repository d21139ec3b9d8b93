"""Result lines in a file."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from spinn_client.events import ServerBack
from spinn_client.sinks.base import open_sink
from spinn_client.sinks.jsonl import ResultLog
from spinn_stream.errors import ConfigError

from .made import result


def test_a_line_says_when_the_result_was_given_on_the_machine_s_monotonic_clock(tmp_path: Path) -> None:
    log = ResultLog(tmp_path / "results.jsonl")
    before = time.monotonic()
    log.add(result(3))
    after = time.monotonic()
    log.close()
    line = json.loads((tmp_path / "results.jsonl").read_text())
    assert line["frame"] == 3 and line["age_ms"] == 40.0
    assert before - 1e-6 <= line["at_s"] <= after + 1e-6


def test_what_happens_besides_is_no_line(tmp_path: Path) -> None:
    log = ResultLog(tmp_path / "results.jsonl")
    log.event(ServerBack(1.0, "ws://x:1"))
    log.add(result(3))
    log.close()
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 1


def test_a_sink_of_json_lines_is_opened_by_its_url(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for url in (f"jsonl:{tmp_path}/with:colon.jsonl", "-"):
        sink = open_sink(url)
        sink.begin(print)
        sink.add(result(3))
        sink.close(10.0)
    assert json.loads((tmp_path / "with:colon.jsonl").read_text())["frame"] == 3
    assert json.loads(capfd.readouterr().out)["frame"] == 3


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("pigeon://loft", r"the sink is pigeon://loft, expected - or one of jsonl:\.\.\."),
        ("results.jsonl", "expected - or one of"),
        ("jsonl:/no/such/folder/x", "cannot write /no/such/folder/x: there is no folder /no/such/folder"),
        ("jsonl:", "it is a folder"),
    ],
)
def test_a_url_that_is_no_sink_is_one_line(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_sink(url)
