"""What a run tells: result lines, running figures, a live table, a summary."""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spinn_stream.errors import ConfigError
from spinn_stream.model.bundle import Bundle
from spinn_stream.plan import Plan

from .results import FALLBACK, FrameResult

MAX_UNWRITTEN = 10_000
RECENT = 12
REFRESH_S = 0.25
LINE_EVERY_S = 1.0


class ResultLog:
    """Writes result lines in a thread of its own, so that a slow disk delays no answer.

    Holds at most MAX_UNWRITTEN lines; beyond that `add` raises, since no line may be lost silently.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file: TextIO = sys.stdout if str(path) == "-" else path.open("w")
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from error
        self._lines: queue.Queue[FrameResult | None] = queue.Queue(MAX_UNWRITTEN)
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._write, name="result log", daemon=True)
        self._thread.start()

    def add(self, result: FrameResult) -> None:
        """Queue one line.

        Raises:
            ConfigError: the file cannot be written, or not fast enough.
        """
        if self._error is not None:
            raise ConfigError(f"cannot write {self._path}: {self._error.strerror}")
        try:
            self._lines.put_nowait(result)
        except queue.Full as error:
            raise ConfigError(f"{self._path} takes lines too slowly: {MAX_UNWRITTEN} are waiting") from error

    def close(self) -> None:
        """Write what is left.

        Raises:
            ConfigError: the file could not be written.
        """
        self._lines.put(None, timeout=10)
        self._thread.join(timeout=10)
        if self._error is not None:
            raise ConfigError(f"cannot write {self._path}: {self._error.strerror}") from self._error

    def _write(self) -> None:
        try:
            while (result := self._lines.get()) is not None:
                self._file.write(json.dumps(result.as_json()) + "\n")
                if self._lines.empty():
                    self._file.flush()
            if self._file is not sys.stdout:
                self._file.close()
        except OSError as error:
            self._error = error


class Tally:
    """Running counts of one run."""

    def __init__(self) -> None:
        self.final = 0
        self.late = 0
        self.where: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.ages_ms: list[float] = []
        self.per_plan: Counter[int] = Counter()
        self.recent: deque[FrameResult] = deque(maxlen=RECENT)

    def add(self, result: FrameResult) -> None:
        """Count one result; only final ones enter the figures."""
        if result.kind == "late":
            self.late += 1
        if result.kind != "final":
            return
        self.final += 1
        self.recent.append(result)
        self.ages_ms.append(result.age_ms)
        self.per_plan[result.plan] += 1
        self.reasons[str(result.reason)] += 1
        if result.reason in FALLBACK:
            self.where["fallback"] += 1
        elif result.where is not None:
            self.where[result.where] += 1


def summarise(
    tally: Tally,
    *,
    bundle: Bundle,
    plans: list[Plan],
    captured: int,
    taken: int,
    dropped: Counter[str],
    late: int,
    bytes_up: int,
    bytes_down: int,
) -> dict[str, Any]:
    """The object of `--summary`. device + server + fallback = final; captured = taken + dropped."""
    ages = np.array(tally.ages_ms) if tally.ages_ms else np.array([np.nan])
    percentile = {f"p{q}": None if np.isnan(ages).all() else round(float(np.percentile(ages, q)), 2) for q in (50, 99)}
    return {
        "captured": captured, "taken": taken, "dropped": sum(dropped.values()), "dropped_by": dict(dropped),
        "final": tally.final, "device": tally.where["device"], "server": tally.where["server"],
        "fallback": tally.where["fallback"], "late": late, "reasons": dict(tally.reasons),
        "age_ms": percentile, "bytes_up": bytes_up, "bytes_down": bytes_down,
        "plans": [
            {"id": p.id, "split": bundle.cut_points[p.split].name, "threshold": p.confidence_threshold,
             "frames": tally.per_plan[p.id]}
            for p in plans
        ],
    }  # fmt: skip


def show_summary(console: Console, summary: dict[str, Any], seconds: float) -> None:
    """The summary for people."""
    final = max(1, summary["final"])

    def share(key: str) -> str:
        return f"{summary[key]:6d}  {100 * summary[key] / final:5.1f} %"

    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_row("frames captured", f"{summary['captured']:6d}")
    table.add_row("taken in", f"{summary['taken']:6d}", f"{summary['taken'] / max(seconds, 1e-9):.1f} frames/s")
    table.add_row("dropped", f"{summary['dropped']:6d}", _counts(summary["dropped_by"]))
    table.add_row("answered on the device", share("device"))
    table.add_row("answered by the server", share("server"))
    table.add_row("answered alone in trouble", share("fallback"), _counts(summary["reasons"], FALLBACK))
    ages = summary["age_ms"]
    if ages["p50"] is not None:
        table.add_row("age of the answers", f"median {ages['p50']:.1f} ms", f"99 % within {ages['p99']:.1f} ms")
    table.add_row("sent, received", f"{summary['bytes_up'] / 1e6:.2f} MB", f"{summary['bytes_down'] / 1e6:.2f} MB")
    console.print(table)


def _counts(counts: dict[str, int], only: frozenset[Any] | None = None) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items() if only is None or name in only)


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
        for name, justify in (
            ("frame", "right"),
            ("label", "left"),
            ("confidence", "right"),
            ("exit", "left"),
            ("where", "left"),
            ("reason", "left"),
            ("latency", "right"),
        ):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
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
            f"server {s['link']}{rtt}, up {s['up_mbps']:.2f} Mb/s | plan {s['plan']} | "
            f"device {where['device']}, server {where['server']}, alone {where['fallback']}"
        )
