"""Lines for a person, and the table below them."""

from __future__ import annotations

import contextlib
import io
import os
import re

import pytest
from rich.console import Console

from spinn_client.sinks.console import ConsoleLines
from spinn_client.sinks.live import COLUMNS, LiveView, line, picture, status
from spinn_client.sinks.summary import Tally
from spinn_stream.text import printable

from .made import result

STATE = {"link": "up", "rtt_ms": 23.4, "up_mbps": 1.2, "load": 1.04,
         "plan": "3: split block7, threshold 0.85, codec transform:7"}  # fmt: skip
EVIL = "[red]cam[/] [/x] \x1b[2J\u202egpj.exe\nnext"


def console(width: int = 80, height: int = 24, *, terminal: bool = True) -> tuple[Console, io.StringIO]:
    shown = io.StringIO()
    return Console(width=width, height=height, file=shown, force_terminal=terminal, color_system=None), shown


def tally(count: int = 30, **other: object) -> Tally:
    found = Tally()
    for frame in range(count):
        found.add(result(frame, **other))
    return found


def drawn(width: int, height: int, counted: Tally | None = None) -> list[str]:
    counted = counted or tally()
    screen, shown = console(width, height)
    screen.print(picture(list(counted.recent), status(STATE, counted), width, height))
    return shown.getvalue().splitlines()


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (100, "frame label confidence exit where reason latency"),
        (80, "frame label confidence exit where reason latency"),
        (72, "frame label confidence where reason latency"),
        (60, "label confidence where reason latency"),
        (50, "label confidence reason latency"),
        (40, "label reason latency"),
        (24, "label latency"),
        (12, "label"),
    ],
)
def test_columns_are_left_out_in_order_of_worth(width: int, columns: str) -> None:
    lines = drawn(width, 24)
    assert lines[0].split() == columns.split()
    assert max(map(len, lines)) <= width
    whole = {"frame": "29", "confidence": "0.50", "where": "server", "reason": "final_exit", "latency": "40 ms",
             "label": "tabby", "exit": "final"}  # fmt: skip
    row = next(text for text in lines if "tabby" in text and (width < 72 or " 29 " in text))
    assert all(whole[name] in row for name in columns.split())


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 24), (60, 14), (80, 14), (40, 10), (24, 6)])
def test_the_picture_fits_a_small_terminal_and_nothing_is_replaced_by_dots(width: int, height: int) -> None:
    lines = drawn(width, height)
    assert len(lines) <= height - 1 and max(map(len, lines)) <= width
    assert not any("…" in text or "..." in text for text in lines)
    if height >= 14:
        text = re.sub(r"\s+", " ", " ".join(lines))
        for part in status(STATE, tally()):
            assert part in text
        assert sum("tabby" in text for text in lines) == min(12, height - 1 - 2 - _below(width))


def _below(width: int) -> int:
    return {80: 3, 60: 3}[width]


def test_the_newest_answers_are_those_that_are_shown() -> None:
    frames = [int(text.split()[0]) for text in drawn(80, 14)[2:] if "tabby" in text]
    assert frames == list(range(30 - len(frames), 30))


@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_user_named_is_shown_as_it_is(terminal: bool) -> None:
    """In labels, exits and plans; on a terminal and elsewhere."""
    screen, shown = console(200, 40, terminal=terminal)
    counted = tally(1, label="[red]cat[/] \x1b[2J", exit="[/x]")
    view = LiveView(screen, counted, lambda: STATE | {"plan": EVIL})
    if terminal:
        view.start()
        view.stop()
        found = shown.getvalue()
    else:
        found = line(list(counted.recent), status(STATE | {"plan": EVIL}, counted))
    assert "[red]cat[/] \\x1b[2J" in found and "[/x]" in found
    assert "[red]cam[/] [/x] \\x1b[2J\\u202egpj.exe\\x0anext" in found


def test_what_is_not_known_is_left_out() -> None:
    counted = tally(1)
    assert status(None, counted) == ["device 0, server 1, alone 0"]
    assert status({"link": "away", "rtt_ms": None, "load": None, "plan": None}, counted) == [
        "server away", "device 0, server 1, alone 0",
    ]  # fmt: skip
    assert line([], ["server away"]) == "no answer yet; server away"


def test_a_frame_without_an_answer_has_a_row() -> None:
    none = {"label": None, "confidence": None, "exit": None, "where": None, "reason": "no_answer"}
    row = drawn(80, 24, tally(1, **none))[2]
    assert row.split() == ["0", "-", "-", "-", "-", "no_answer", "40", "ms"]
    assert len(COLUMNS) == 7


def test_a_view_that_fails_is_logged_and_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    screen, _ = console()

    def state() -> dict[str, object]:
        raise ZeroDivisionError("oops")

    view = LiveView(screen, tally(), state)
    view.start()
    view.stop()
    assert "the live view ended" in caplog.text and "ZeroDivisionError: oops" in caplog.text


def test_a_view_that_never_began_may_be_stopped() -> None:
    LiveView(console()[0], tally(), lambda: STATE).stop()


def test_quiet_leaves_what_a_user_must_know() -> None:
    for quiet, expected in (False, ["goes on", "lost the server"]), (True, ["lost the server"]):
        screen, shown = console(terminal=False)
        with ConsoleLines(screen, quiet) as lines:
            lines.info("goes on")
            lines.event("lost the server")
        assert shown.getvalue().splitlines() == expected


@pytest.mark.parametrize("width", [80, 20])
def test_a_line_is_shown_as_it_is_and_on_one_line(width: int) -> None:
    screen, shown = console(width, terminal=False)
    with ConsoleLines(screen) as lines:
        lines.event(EVIL)
    assert shown.getvalue() == printable(EVIL) + "\n"


def test_lines_come_above_the_table() -> None:
    screen, shown = console()
    view = LiveView(screen, tally(), lambda: STATE)
    view.start()
    with ConsoleLines(screen) as lines:
        lines.event("lost the server")
    view.stop()
    found = shown.getvalue()
    assert "lost the server" in found[: found.rindex("latency")]


def test_a_terminal_that_stands_still_holds_nobody_up() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    file = os.fdopen(writing, "w", buffering=1)
    lines = ConsoleLines(Console(file=file, width=80, color_system=None))
    for _ in range(1000):
        lines.event("lost the server")
    lines.close()
    assert lines._thread._thread.is_alive(), "it waits for the terminal, alone"
    os.close(reading)  # lets it go
    lines._thread._thread.join(10)
    assert not lines._thread._thread.is_alive()
    with contextlib.suppress(BrokenPipeError):
        file.close()
