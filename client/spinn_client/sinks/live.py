"""What a person sees during a run: the newest answers and the link's state."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spinn_client.frames.results import FALLBACK, Result
from spinn_stream.text import printable

from .summary import Tally

REFRESH_S = 0.25
LINE_EVERY_S = 1.0

State = Mapping[str, Any]
"""link: "up", "away" or "none"; rtt_ms; up_mbps; load; plan: in words. Unknown values are None or missing."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Column:
    """A column of the table. width: in characters. worth: columns with the least worth are left out first."""

    name: str
    width: int
    worth: int
    number: bool = False


COLUMNS = (
    Column("frame", 6, 2, number=True),
    Column("label", 30, 7),
    Column("confidence", 10, 4, number=True),
    Column("exit", 8, 1),
    Column("where", 6, 3),
    Column("reason", 12, 5),
    Column("latency", 8, 6, number=True),
)

LABEL_AT_LEAST = 12
"""The label gets the width that the other columns leave. If that is less than this, a column is left out."""

GAP = 2  # between two columns; the box draws a blank of it
HEAD = 2  # lines above the first answer


class LiveView:
    """The newest answers and the link's state: a table on a terminal, a line a second elsewhere.

    Drawn in a thread of its own from what `state` gives. `ConsoleLines` on the same console come above the table.
    """

    def __init__(self, console: Console, tally: Tally, state: Callable[[], State | None]) -> None:
        self._console = console
        self._tally = tally
        self._state = state
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live view", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop drawing; the last picture stays. Waits for it for a second at most, since a terminal may be stopped."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=1)

    def _run(self) -> None:
        try:
            if self._console.is_terminal and not self._console.is_dumb_terminal:
                self._draw()
            else:
                while not self._stop.wait(LINE_EVERY_S):
                    text = line(list(self._tally.recent), status(self._state(), self._tally))
                    self._console.print(Text(text), highlight=False, soft_wrap=True)
        except OSError:
            pass  # nobody sees it any more
        except Exception:
            log.exception("the live view ended")  # and answers go on

    def _draw(self) -> None:
        # What others print on stdout may be results for another program.
        live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop", redirect_stdout=False)
        with live:
            while True:
                ending = self._stop.wait(REFRESH_S)
                width, height = self._console.size
                said = status(self._state(), self._tally)
                live.update(picture(list(self._tally.recent), said, width, height), refresh=True)
                if ending:
                    return


def picture(recent: list[Result], said: list[str], width: int, height: int) -> Group:
    """The newest answers that fit, and below them the status. width, height: the terminal's, in characters.

    said: parts of the status; a part is not broken if it fits on a line. The terminal's last line stays free.
    """
    below = _wrapped(said, width)[: max(1, height - 1 - HEAD - 1)]
    shown = recent[-max(1, height - 1 - HEAD - len(below)) :]
    columns, label_width = _columns(width)
    table = Table(box=box.SIMPLE_HEAD, expand=False, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(
            column.name,
            width=label_width if column.name == "label" else column.width,
            justify="right" if column.number else "left",
            no_wrap=True,
            overflow="crop",
        )
    for result in shown:
        cells = _cells(result)
        table.add_row(*(cells[column.name] for column in columns))
    return Group(table, *(Text(text, no_wrap=True, overflow="crop") for text in below))


def status(state: State | None, tally: Tally) -> list[str]:
    """The link, the device, the plan and who answered, in parts."""
    given = {name: value for name, value in (state or {}).items() if value is not None}
    parts = []
    if "link" in given:
        rtt = f", round trip {given['rtt_ms']:.0f} ms" if "rtt_ms" in given else ""
        up = f", up {given['up_mbps']:.2f} Mb/s" if "up_mbps" in given else ""
        parts.append(f"server {given['link']}{rtt}{up}")
    if "load" in given:
        parts.append(f"load {given['load']:.1f}")
    if "plan" in given:
        parts.append(f"plan {given['plan']}")
    where = tally.where
    parts.append(f"device {where['device']}, server {where['server']}, alone {where['fallback']}")
    return [printable(part) for part in parts]


def line(recent: list[Result], said: list[str]) -> str:
    """The newest answer and the status, on one line."""
    if not recent:
        return f"no answer yet; {' | '.join(said)}"
    r = recent[-1]
    confidence = "-" if r.confidence is None else f"{r.confidence:.2f}"
    return (
        f"frame {r.frame:5d}  {printable(r.label or '-'):22.22s} {confidence}  exit {printable(r.exit or '-'):8s} "
        f"{r.where or '-':6s} {r.reason or '-':12s} {r.age_ms:5.0f} ms  | {' | '.join(said)}"
    )


def _columns(width: int) -> tuple[list[Column], int]:
    """The columns that fit, and the width of the label."""
    columns = list(COLUMNS)
    while True:
        others = sum(column.width + GAP for column in columns if column.name != "label")
        if others + LABEL_AT_LEAST <= width or len(columns) == 1:
            widest = next(column.width for column in columns if column.name == "label")
            return columns, max(1, min(widest, width - others))
        columns.remove(min(columns, key=lambda column: column.worth))


def _cells(r: Result) -> dict[str, Text]:
    colour = {"device": "green", "server": "cyan"}.get(r.where or "", "red") if r.reason not in FALLBACK else "yellow"
    return {
        "frame": Text(str(r.frame)),
        "label": Text(printable(r.label or "-")),
        "confidence": Text("-" if r.confidence is None else f"{r.confidence:.2f}"),
        "exit": Text(printable(r.exit or "-")),
        "where": Text(r.where or "-", colour),
        "reason": Text(r.reason or "-", colour),
        "latency": Text(f"{r.age_ms:.0f} ms"),
    }


def _wrapped(parts: list[str], width: int) -> list[str]:
    """Lines of the parts, with bars between them; a part is broken at a space only if it is longer than a line."""
    console = Console(width=max(1, width), color_system=None)
    lines: list[str] = []
    for part in parts:
        if lines and Text(f"{lines[-1]} | {part}").cell_len <= width:
            lines[-1] += f" | {part}"
        else:
            lines += [found.plain.rstrip() for found in Text(part).wrap(console, max(1, width))]
    return lines
