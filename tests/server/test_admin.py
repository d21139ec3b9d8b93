"""What the server answers to plain HTTP, by its state."""

from __future__ import annotations

import io
import json
import logging
from http import HTTPStatus

import pytest

from spinn_server.admin import logs
from spinn_server.admin.foreign import MOST_CHARACTERS, printable
from spinn_server.admin.health import Health, State
from spinn_server.admin.metrics import Metrics
from spinn_server.admin.routes import look_up, routes


def test_it_is_ready_only_while_it_takes_requests_and_alive_all_the_time() -> None:
    health = Health()
    table = routes(health, Metrics())

    def said() -> tuple[int, str]:
        assert look_up(table, "/healthz").status == HTTPStatus.OK
        answer = look_up(table, "/readyz")
        return answer.status, answer.body

    assert said() == (503, "starting: the engine is being set up\n")
    health.become(State.READY)
    assert said() == (200, "ok\n")
    health.become(State.DRAINING, "asked to end")
    assert said() == (503, "ending: asked to end\n")
    health.become(State.FAILED, "no memory")
    assert said() == (503, "failed: no memory\n")


@pytest.mark.parametrize("then", State)
def test_a_server_that_failed_stays_so(then: State) -> None:
    health = Health()
    health.become(State.FAILED, "no memory")
    with pytest.raises(ValueError, match=f"FAILED does not become {then.name}"):
        health.become(then)


def test_another_path_is_told_which_there_are() -> None:
    answer = look_up(routes(Health(), Metrics()), "/nowhere")
    assert (answer.status, answer.body) == (404, "expected /, /healthz, /readyz, /metrics\n")


def test_metrics_say_their_format() -> None:
    answer = look_up(routes(Health(), Metrics()), "/metrics")
    assert answer.content_type.startswith("text/plain; version=") and "spinn_sessions 0.0" in answer.body


def test_a_line_of_json_says_which_session_and_frame_it_is_about() -> None:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(logs.JsonLines())
    log = logging.Logger("spinn_server.test")
    log.addHandler(handler)
    logs.SessionLog(log, 12, "10.0.0.1:7").warning("no\nluck", extra={"frame": 3})
    (line,) = said.getvalue().splitlines()
    found = json.loads(line)
    assert (found["session"], found["frame"], found["peer"], found["level"]) == (12, 3, "10.0.0.1:7", "WARNING")
    assert found["message"] == "session 12 10.0.0.1:7 frame 3: no\nluck"


def test_a_line_of_json_has_the_traceback_of_an_error() -> None:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(logs.JsonLines())
    log = logging.Logger("spinn_server.test")
    log.addHandler(handler)
    try:
        raise ZeroDivisionError("oops")
    except ZeroDivisionError:
        log.exception("it failed")
    (line,) = said.getvalue().splitlines()
    found = json.loads(line)
    assert found["message"] == "it failed" and "session" not in found
    assert found["traceback"].startswith("Traceback") and found["traceback"].endswith("ZeroDivisionError: oops")


def test_what_strangers_can_cause_is_said_seldom_with_how_often_it_happened(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    seldom = logs.Seldom(logging.getLogger("spinn_server.test"), lambda: now)
    for _ in range(5):
        seldom.warning("files", "no more")
    seldom.warning("origin", "who?")
    now = logs.SELDOM_S
    seldom.warning("files", "no more")
    assert [record.getMessage() for record in caplog.records] == [
        "no more", "who?", "no more (4 times more since this was last said)",
    ]  # fmt: skip


def test_foreign_text_is_shown_on_one_line() -> None:
    assert printable("caf\u00e9 \N{GRINNING FACE}") == "caf\u00e9 \N{GRINNING FACE}"
    assert printable("a\nb\x1b[0m\u202e\udcff") == "a\\nb\\x1b[0m\\u202e\\udcff"
    assert printable("x" * 10_000) == "x" * MOST_CHARACTERS + " ..."
