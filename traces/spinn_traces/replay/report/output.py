"""The output of a replay: replay.json, report.html, and a table on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spinn_traces.replay.run.conduct import LABELS, Replay
from spinn_traces.replay.store import write_json, write_text

from .report import missing, render
from .statistics import Estimate
from .table import MEASURES, Measure, Row, make_table


def write(done: Replay, say: Callable[[str], None]) -> list[Row]:
    """Write both files, or only the JSON if the page's packages are missing. Gives the table."""
    rows = make_table(done.records, {p.text: p.name for p in done.config.policies}, seed=done.config.seed)
    write_json(done.config.out / "replay.json", as_json(done, rows))
    need = missing()
    if need:
        say(f"report.html is not written: it needs {need}: pip install 'spinn-traces[report]'")
    elif done.records:
        page = done.config.out / "report.html"
        write_text(page, render(done, rows))
        say(f"written: {page}")
    return rows


def as_json(done: Replay, rows: Sequence[Row]) -> dict[str, Any]:
    """The object of replay.json."""
    return {
        "source": done.material.name,
        "right_means": right_means(done),
        "simulated": done.config.simulate,
        "device_slowdown": done.config.device_slowdown,
        "notes": list(done.notes),
        "table": [row.as_json() for row in rows],
        "failed": [vars(failure) for failure in done.failures],
        "runs": [record.as_json() for record in done.records],
    }


def right_means(done: Replay) -> str:
    if done.material.truth is not None:
        return f"accuracy: the answer is the {LABELS[:-1]} that came with the image"
    return "agreement: the answer is that of the whole network"


def text(measure: Measure, estimate: Estimate) -> str:
    """A figure for people, with its interval if there is one."""
    if not np.isfinite(estimate.value):
        return "-"
    value = f"{estimate.value * measure.scale:.{measure.digits}f}"
    if estimate.interval is None:
        return value
    low, high = (f"{end * measure.scale:.{measure.digits}f}" for end in estimate.interval)
    return f"{value} ({low}-{high})"


def show(console: Console, done: Replay, rows: Sequence[Row]) -> None:
    """The rows over all traces, turned: policies as columns."""
    over_all = [row for row in rows if row.trace is None]
    if not over_all:
        return
    table = Table(box=None, padding=(0, 2))
    for column in ("", *(row.policy for row in over_all)):
        table.add_column(Text(column))
    table.add_row("frames taken in", *(str(row.frames) for row in over_all))
    for measure in MEASURES:
        cells = [text(measure, row.figures[measure.key]) + " *" * (measure.key in row.best) for row in over_all]
        table.add_row(f"{measure.title}, {measure.unit}", *cells)
    console.print(table, highlight=False, markup=False)
    console.print(f"right: {right_means(done)}; in brackets 95 % intervals; *: better than every other", style="dim")
