"""What the server answers to plain HTTP, by its state."""

from __future__ import annotations

from http import HTTPStatus

import pytest

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


def test_foreign_text_is_shown_on_one_line() -> None:
    assert printable("caf\u00e9 \N{GRINNING FACE}") == "caf\u00e9 \N{GRINNING FACE}"
    assert printable("a\nb\x1b[0m\u202e\udcff") == "a\\nb\\x1b[0m\\u202e\\udcff"
    assert printable("x" * 10_000) == "x" * MOST_CHARACTERS + " ..."
