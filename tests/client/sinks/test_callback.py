"""Answers for a function, however slow it is."""

from __future__ import annotations

import threading

import pytest

from spinn_client.events import Event, ServerBack
from spinn_client.sinks import callback
from spinn_client.sinks.callback import Callback

from .made import result


def test_results_and_events_come_in_order_in_one_thread() -> None:
    seen: list[object] = []
    sink = Callback(lambda r: seen.append((r.frame, threading.current_thread().name)), seen.append)
    sink.begin(print)
    sink.add(result(1))
    event: Event = ServerBack(1.0, "ws://x:1")
    sink.event(event)
    sink.add(result(2))
    sink.close()
    assert seen == [(1, "callback"), event, (2, "callback")]


def test_a_slow_function_loses_the_oldest_results_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback, "MAX_WAITING", 3)
    began, go_on = threading.Event(), threading.Event()
    seen: list[int] = []

    def slow(given: object) -> None:
        began.set()
        go_on.wait(10)
        seen.append(given.frame)  # type: ignore[attr-defined]

    sink = Callback(slow)
    sink.add(result(0))
    assert began.wait(10)
    for frame in range(1, 8):
        sink.add(result(frame))
    assert sink.dropped == 4
    go_on.set()
    sink.close()
    assert seen == [0, 5, 6, 7]


def test_a_function_that_hangs_is_left_behind_and_called_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback, "LAST_CALL_S", 0.05)
    began, go_on = threading.Event(), threading.Event()
    seen: list[int] = []

    def hangs(given: object) -> None:
        began.set()
        go_on.wait(10)
        seen.append(given.frame)  # type: ignore[attr-defined]

    sink = Callback(hangs)
    for frame in range(3):
        sink.add(result(frame))
    assert began.wait(10)
    sink.close()
    go_on.set()
    sink._thread._thread.join(10)
    assert seen == [0]


def test_what_the_function_raises_comes_up_where_the_next_result_is_given() -> None:
    def broken(_: object) -> None:
        raise KeyError("oops")

    sink = Callback(broken)
    sink.add(result(0))
    with pytest.raises(KeyError, match="oops"):
        sink.close()
    with pytest.raises(KeyError, match="oops"):
        sink.add(result(1))
