"""What a person sees while it runs: the newest answers and the link's state."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spinn_client.frames.results import FALLBACK

from .summary import Tally

REFRESH_S = 0.25
LINE_EVERY_S = 1.0
COLUMNS = {"frame": 6, "label": 22, "confidence": 10, "exit": 8, "where": 6, "reason": 12, "latency": 8}
"""Heading -> least width in characters, so that columns stand still while labels change."""

NUMBERS = {"frame", "confidence", "latency"}


class LiveView:
    """The newest answers and the link's state: a table on a terminal, a line a second elsewhere.

    Drawn in a thread of its own from what `state` gives.
    """

    def __init__(self, console: Console, tally: Tally, state: Callable[[], dict[str, Any]]) -> None:
        self._console = console
        self._tally = tally
        self._state = state
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="live view", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=2)

    def _draw(self) -> None:
        if self._console.is_terminal:
            with Live(self._table(), console=self._console, auto_refresh=False, transient=False) as live:
                while not self._stop.wait(REFRESH_S):
                    live.update(self._table(), refresh=True)
                live.update(self._table(), refresh=True)
        else:
            while not self._stop.wait(LINE_EVERY_S):
                self._console.print(self._line(), highlight=False, soft_wrap=True)

    def _table(self) -> Group:
        table = Table(expand=False)
        for name, width in COLUMNS.items():
            table.add_column(name, min_width=width, justify="right" if name in NUMBERS else "left")
        for r in list(self._tally.recent):
            colour = (
                {"device": "green", "server": "cyan"}.get(r.where or "", "red")
                if r.reason not in FALLBACK
                else "yellow"
            )
            table.add_row(
                str(r.frame),
                r.label or "-",
                "-" if r.confidence is None else f"{r.confidence:.2f}",
                r.exit or "-",
                Text(r.where or "-", colour),
                Text(str(r.reason), colour),
                f"{r.age_ms:.0f} ms",
            )
        return Group(table, Text(self._status()))

    def _line(self) -> str:
        recent = list(self._tally.recent)
        if not recent:
            return f"no answer yet; {self._status()}"
        r = recent[-1]
        confidence = "-" if r.confidence is None else f"{r.confidence:.2f}"
        return (
            f"frame {r.frame:5d}  {r.label or '-':22.22s} {confidence}  exit {r.exit or '-':8s} {r.where or '-':6s} "
            f"{r.reason:12s} {r.age_ms:5.0f} ms  | {self._status()}"
        )

    def _status(self) -> str:
        s, where = self._state(), self._tally.where
        rtt = "" if s["rtt_ms"] is None else f", round trip {s['rtt_ms']:.0f} ms"
        return (
            f"server {s['link']}{rtt}, up {s['up_mbps']:.2f} Mb/s | load {s['load']:.1f} | "
            f"plan {s['plan']} | "
            f"device {where['device']}, server {where['server']}, alone {where['fallback']}"
        )
