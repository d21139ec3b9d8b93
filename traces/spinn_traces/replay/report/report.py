"""The page: one HTML file that needs no other file, no network and no server."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import json
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any

import numpy as np

from spinn_client.steering.guide import Asked
from spinn_stream.bundle import Bundle
from spinn_stream.plan import Plan
from spinn_traces.replay.record import RunRecord
from spinn_traces.replay.run.conduct import Replay

from . import plots
from .statistics import BLOCK_S, ROUNDS
from .table import GRACE_MS, LEAST_S, MEASURES, Measure, Row

NEEDED = ("plotly", "jinja2")


def missing() -> str:
    """The packages that the page needs and that are not installed; empty: none."""
    return " and ".join(name for name in NEEDED if importlib.util.find_spec(name) is None)


def render(done: Replay, rows: Sequence[Row]) -> str:
    """The page's text. There must be a run."""
    from jinja2 import Environment, StrictUndefined

    templates = files(__package__) / "templates"
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    figures, timelines = _plots(done)
    return page.from_string((templates / "report.html").read_text("utf-8")).render(
        done=done,
        config=done.config,
        spec=done.records[0].spec,
        machine=done.records[0].machine,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        policies=[(p.name, p.text, described(p.plan, done.bundle)) for p in done.config.policies],
        traces=list({r.spec.trace.content: r.spec.trace for r in done.records}.values()),
        measures=MEASURES,
        rows=[row for row in rows if row.trace is None],
        findings=findings([row for row in rows if row.trace is None]),
        per_trace=[(title, key, note, [row for row in rows if row.trace == title]) for title, key, note in timelines],
        cell=cell,
        duration_s=done.config.duration_s,
        bootstrap={"rounds": ROUNDS, "block_s": BLOCK_S, "least_s": LEAST_S},
        grace_ms=GRACE_MS,
        dropped_by=_dropped_by(done.records),
        style=(templates / "report.css").read_text("utf-8"),
        script=(templates / "report.js").read_text("utf-8"),
        figures=json.dumps(figures).replace("<", "\\u003c"),
        plotly=_plotly(),
    )


def findings(rows: Sequence[Row]) -> list[str]:
    """The findings of the table, in sentences. rows: over all traces."""
    if len(rows) < 2:
        return []
    said = []
    for row in rows:
        better = [f"{m.title} ({cell(m, row)['value']} {m.unit})" for m in MEASURES if m.key in row.best]
        if better:
            said.append(f"{row.policy} is better than every other in: {'; '.join(better)}.")
    return said or ["In these runs, no policy is better than every other one in any figure."]


def described(plan: Plan | Asked, bundle: Bundle) -> str:
    """A plan, or a policy with its goal, in words."""
    if isinstance(plan, Asked):
        return f"{plan.policy.source} Asked: {plan.sla}"
    threshold = plan.confidence_threshold
    exits = "no early exit answers"
    if threshold is not None:
        exits = f"early exits may answer, at threshold {threshold:g}"
    if plan.split == bundle.last:
        return f"the whole network on the device; {exits}"
    if plan.split == 0:
        return f"the frame itself is sent, as {plan.codec}; {exits}"
    return f"the device stops at {bundle.cut_points[plan.split].name}; {exits}; sent as {plan.codec}"


def cell(measure: Measure, row: Row) -> dict[str, Any]:
    """A cell of the table: the value, its interval, and whether it is the best."""
    estimate = row.figures[measure.key]
    shown: dict[str, Any] = {"value": "-", "interval": "", "best": measure.key in row.best}
    if np.isfinite(estimate.value):
        shown["value"] = f"{estimate.value * measure.scale:.{measure.digits}f}"
        if estimate.interval is not None:
            low, high = (f"{end * measure.scale:.{measure.digits}f}" for end in estimate.interval)
            shown["interval"] = f"{low} to {high}"
    return shown


def _plots(done: Replay) -> tuple[dict[str, Any], list[tuple[str, str, str]]]:
    """The plots by the id of their place, and for each trace its name, that id and a note."""
    names = {p.text: p.name for p in done.config.policies}
    found: dict[str, Any] = {
        "ages": plots.ages(done.records, names),
        "shares": plots.shares(done.records, names),
        "exits": plots.exits(done.records, names, done.bundle),
    }
    timelines = []
    for at, trace in enumerate(dict.fromkeys(r.spec.trace.content for r in done.records)):
        first: dict[str, RunRecord] = {}
        for record in done.records:
            if record.spec.trace.content == trace:
                first.setdefault(record.spec.policy, record)
        runs = [first[text] for text in names if text in first]
        found[f"timeline{at}"], left_out = plots.timeline(runs, names, done.bundle)
        notes = []
        if done.config.repeats > 1:
            notes.append(f"The first of {done.config.repeats} repeats is drawn.")
        if left_out:
            total = sum(run.taken for run in runs)
            notes.append(
                f"{total - left_out} of {total} answers are drawn: evenly chosen ones and the oldest of each stretch."
            )
        timelines.append((runs[0].spec.trace.name, f"timeline{at}", " ".join(notes)))
    return found, timelines


def _dropped_by(records: Sequence[RunRecord]) -> str:
    total: dict[str, int] = {}
    for record in records:
        for reason, count in record.dropped_by.items():
            total[reason] = total.get(reason, 0) + count
    return ", ".join(f"{count} {reason}" for reason, count in sorted(total.items())) or "none"


def _plotly() -> str:
    """plotly.js, packed: base64 of gzip. 2 MB in place of 4.8; the browser unpacks it."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()
