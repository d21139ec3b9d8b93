"""The report's plots, as the objects that plotly.js draws: {data, layout}. Colours are names of the page's own.

A text `var:NAME` stands for the style sheet's colour of that name, so that a plot follows light and dark. Plotly reads
texts as HTML, so all text from files is escaped here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle
from spinn_stream.repeat import EXIT
from spinn_traces.figures import OUTAGE_MBPS
from spinn_traces.replay.record import RunRecord

from .table import answered_by

MOST_POINTS = 5000
"""Of one plot; more are thinned out."""

WHERE = {
    "device": ("circle", "the device"),
    "server": ("square", "the server"),
    "fallback": ("triangle-up", "fallback"),
}
"""Who answered -> marker, and name for people."""

POLICY_COLOURS = 7
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

Plot = dict[str, Any]


def timeline(runs: Sequence[RunRecord], names: Mapping[str, str], bundle: Bundle) -> tuple[Plot, int]:
    """One trace: link, round trip, plans, and a row of answers for each policy, above one time axis in seconds.

    runs: of one trace, one for each policy. Also gives the number of answers that were left out.
    """
    spec = runs[0].spec
    heights = [110, 70, 80, *(130 for _ in runs)]
    domains = _stacked(heights, gap=34)
    layout = _layout(sum(heights) + 34 * len(heights) + 90)
    layout["xaxis"] = _axis("time since the run began, s", range=[0, spec.duration_s], anchor="free", position=0.0)
    layout["legend"] = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "itemsizing": "constant"}
    layout["shapes"] = _outages(runs[0])
    data = _link(runs[0], layout, domains)
    data += _plans(runs, names, bundle, layout, domains[2])
    left_out = 0
    for at, run in enumerate(runs):
        traces, missing = _answers(run, f"y{at + 4}", MOST_POINTS // len(runs), legend=at == 0)
        data += traces
        left_out += missing
        top = max(1.15 * spec.deadline_ms, 1.05 * max(run.finals.age_ms))
        layout[f"yaxis{at + 4}"] = _axis("age, ms", range=[0, top], domain=domains[at + 3])
        layout["shapes"].append(_level(f"y{at + 4}", spec.deadline_ms))
        layout["annotations"] += [
            _title(domains[at + 3], f"answers: {escape(names[run.spec.policy])}"),
            {"xref": "paper", "x": 1, "xanchor": "right", "yref": f"y{at + 4}", "y": spec.deadline_ms,
             "yanchor": "bottom", "text": f"deadline {spec.deadline_ms:g} ms", "showarrow": False,
             "font": {"size": 11, "color": "var:muted"}},
        ]  # fmt: skip
    return {"data": data, "layout": layout}, left_out


def ages(runs: Sequence[RunRecord], names: Mapping[str, str]) -> Plot:
    """Ages of answers: for each policy, the share of answers up to each age, on a logarithmic axis."""
    layout = _layout(380)
    ticks = [digit * 10**power for power in range(-1, 6) for digit in (1, 2, 5)]
    layout["xaxis"] = _axis("age of the answer, ms (logarithmic)", type="log", tickvals=ticks)
    layout["yaxis"] = _axis("answers up to this age, %", range=[0, 100.5])
    layout["legend"] = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    data, share = [], np.linspace(0, 100, 401)
    for at, (policy, name) in enumerate(names.items()):
        own = [age for run in runs if run.spec.policy == policy for age in run.finals.age_ms]
        if own:
            x = np.percentile(np.maximum(own, 0.01), share, method="inverted_cdf")
            data.append({
                "type": "scatter", "mode": "lines", "x": _rounded(x), "y": _rounded(share), "name": escape(name),
                "line": _policy_line(at), "hovertemplate": "%{y:.1f} % within %{x:.1f} ms",
            })  # fmt: skip
    deadline = runs[0].spec.deadline_ms
    layout["shapes"] = [{
        "type": "line", "xref": "x", "x0": deadline, "x1": deadline, "yref": "paper", "y0": 0, "y1": 1,
        "line": {"color": "var:muted", "dash": "dash", "width": 1},
    }]  # fmt: skip
    layout["annotations"] = [{
        "xref": "x", "x": float(np.log10(deadline)), "xanchor": "right", "yref": "paper", "y": 0.02,
        "yanchor": "bottom", "text": f"deadline {deadline:g} ms ", "showarrow": False,
        "font": {"size": 11, "color": "var:muted"},
    }]  # fmt: skip
    return {"data": data, "layout": layout}


def shares(runs: Sequence[RunRecord], names: Mapping[str, str]) -> Plot:
    """Who answered, in percent of the frames taken in."""
    patterns = {"device": "", "server": "/", "fallback": "x"}
    counts = {policy: [by for run in runs if run.spec.policy == policy for by in answered_by(run)] for policy in names}
    bars = {
        f"by {shown}" if where != "fallback" else shown: ([c.count(where) for c in counts.values()],
                                                          f"var:{where}", patterns[where])
        for where, (_, shown) in WHERE.items()
    }  # fmt: skip
    return _bars(bars, counts, names)


def exits(runs: Sequence[RunRecord], names: Mapping[str, str], bundle: Bundle) -> Plot:
    """Which exit answered, in percent of the frames taken in."""
    counts = {policy: [e for run in runs if run.spec.policy == policy for e in run.finals.exit] for policy in names}
    used = [name for name in (EXIT, *(e.name for e in bundle.exits)) if any(name in c for c in counts.values())]
    bars = {
        escape(name): ([c.count(name) for c in counts.values()], f"var:exit{at}", "")
        for at, name in zip(_spread(len(used)), used, strict=True)
    }
    if any(None in c for c in counts.values()):
        bars["no answer"] = ([c.count(None) for c in counts.values()], "var:muted", "x")
    return _bars(bars, counts, names)


def thinned(values: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.int64]:
    """The points to draw: evenly chosen ones, and the largest of each stretch, so that no peak is lost."""
    count = len(values)
    if count <= most:
        return np.arange(count)
    edges = np.linspace(0, count, max(1, most // 2) + 1).astype(np.int64)
    peaks = [a + int(values[a:b].argmax()) for a, b in itertools.pairwise(edges.tolist()) if b > a]
    return np.unique(np.concatenate((edges[:-1], peaks)).astype(np.int64))


# parts of the timeline


def _link(run: RunRecord, layout: Plot, domains: Sequence[list[float]]) -> list[Plot]:
    link = run.link
    edges = [k * link.window_s for k in range(len(link.up_mbps) + 1)]
    layout["yaxis"] = _axis("Mb/s", rangemode="tozero", domain=domains[0])
    layout["yaxis2"] = _axis("ms", rangemode="tozero", domain=domains[1])
    assumed = {name: " (assumed)" if name in run.spec.trace.assumed else "" for name in ("up_mbps", "rtt_ms")}
    layout["annotations"] = [
        _title(domains[0], f"link up, Mb/s{assumed['up_mbps']}"),
        _title(domains[1], f"round trip, ms{assumed['rtt_ms']}"),
    ]
    step = {"type": "scatter", "mode": "lines", "x": edges, "showlegend": False}
    return [
        {**step, "y": _rounded([*link.up_mbps, link.up_mbps[-1]]), "yaxis": "y", "fill": "tozeroy",
         "fillcolor": "var:linkfill", "line": {"shape": "hv", "color": "var:link", "width": 1.5},
         "hovertemplate": "%{y:.3g} Mb/s up<extra></extra>"},
        {**step, "y": _rounded([*link.rtt_ms, link.rtt_ms[-1]]), "yaxis": "y2",
         "line": {"shape": "hv", "color": "var:text", "width": 1.5},
         "hovertemplate": "%{y:.3g} ms round trip<extra></extra>"},
    ]  # fmt: skip


def _outages(run: RunRecord) -> list[Plot]:
    """A shade over all rows where a second of either direction has less than 50 kb/s."""
    link = run.link
    out = (np.minimum(link.up_mbps, link.down_mbps) < OUTAGE_MBPS).astype(np.int8)
    changes = np.flatnonzero(np.diff(np.concatenate(([0], out, [0])))) * link.window_s
    return [
        {"type": "rect", "layer": "below", "xref": "x", "x0": a, "x1": min(b, run.spec.duration_s), "yref": "paper",
         "y0": 0, "y1": 1, "fillcolor": "var:outage", "line": {"width": 0}}
        for a, b in zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True)
    ]  # fmt: skip


def _plans(
    runs: Sequence[RunRecord], names: Mapping[str, str], bundle: Bundle, layout: Plot, domain: list[float]
) -> list[Plot]:
    cuts = [c.name for c in bundle.cut_points]
    used = sorted({cuts.index(plan.split) for run in runs for plan in run.plans})
    layout["yaxis3"] = _axis(
        "", range=[-1, len(cuts)], domain=domain, tickvals=used, ticktext=[escape(cuts[k]) for k in used]
    )
    layout["annotations"].append(_title(domain, "plan: where the device stops"))
    data: list[Plot] = []
    order = list(names)
    for run in runs:
        uses = [*run.plans, run.plans[-1]]
        said = [
            f"{escape(u.split)}, threshold {'none' if u.threshold is None else format(u.threshold, 'g')}, "
            f"codec {escape(u.codec or 'none')}" + (f"<br>{escape(u.why)}" if u.why else "")
            for u in uses
        ]
        data.append({
            "type": "scatter", "mode": "lines", "name": f"plan: {_short(names[run.spec.policy])}", "yaxis": "y3",
            "x": [0.0, *(u.at_s for u in run.plans[1:]), run.spec.duration_s],
            "y": [cuts.index(u.split) for u in uses], "text": said,
            "line": {**_policy_line(order.index(run.spec.policy)), "shape": "hv"},
            "hovertemplate": f"{escape(names[run.spec.policy])}: %{{text}}<extra></extra>",
        })  # fmt: skip
    return data


def _answers(run: RunRecord, axis: str, most: int, *, legend: bool) -> tuple[list[Plot], int]:
    finals = run.finals
    age, by = np.array(finals.age_ms, np.float64), np.array(answered_by(run))
    shown = thinned(age, most)
    data: list[Plot] = []
    for where, (symbol, name) in WHERE.items():
        own = shown[by[shown] == where]
        if legend:  # of its own, so that each kind is explained whichever the first policy has
            explained = f"answered by {name}" if where != "fallback" else "fallback: the most confident exit so far"
            data.append({
                "type": "scatter", "mode": "markers", "yaxis": axis, "name": explained, "legendgroup": where,
                "x": [None], "y": [None], "marker": {"symbol": symbol, "size": 8, "color": f"var:{where}"},
            })  # fmt: skip
        data.append({
            "type": "scatter", "mode": "markers", "yaxis": axis, "legendgroup": where, "showlegend": False,
            "x": _rounded([finals.captured_s[k] for k in own]), "y": _rounded(age[own]),
            "text": [f"frame {finals.frame[k]}: {escape(finals.label[k] or 'no answer')}, {finals.reason[k]}"
                     for k in own],
            "marker": {"symbol": symbol, "size": 5, "color": f"var:{where}", "line": {"width": 0}},
            "hovertemplate": "%{text}<br>%{y:.1f} ms<extra></extra>",
        })  # fmt: skip
    return data, len(age) - len(shown)


# pieces


def _bars(
    bars: Mapping[str, tuple[list[int], str, str]], counts: Mapping[str, Sequence[Any]], names: Mapping[str, str]
) -> Plot:
    """Stacked and lying, a bar for each policy. bars: for each part its counts, colour and pattern."""
    layout = _layout(90 + 46 * len(names), margin_left=150)
    layout["barmode"] = "stack"
    layout["xaxis"] = _axis("frames taken in, %", range=[0, 100])
    layout["yaxis"] = _axis("", autorange="reversed")
    layout["legend"] = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"}
    shown = [_short(name) for name in names.values()]
    data = []
    for name, (number, colour, pattern) in bars.items():
        part = [100 * n / max(1, len(c)) for n, c in zip(number, counts.values(), strict=True)]
        data.append({
            "type": "bar", "orientation": "h", "x": _rounded(part), "y": shown, "name": name,
            "marker": {"color": colour, "pattern": {"shape": pattern, "solidity": 0.25, "fgcolor": "var:page",
                                   "fillmode": "overlay"},
                       "line": {"color": "var:page", "width": 1}},
            "hovertemplate": "%{x:.1f} %",
        })  # fmt: skip
    return {"data": data, "layout": layout}


def _layout(height: int, margin_left: int = 70) -> Plot:
    return {
        "height": height, "margin": {"l": margin_left, "r": 20, "t": 50, "b": 50},
        "paper_bgcolor": "var:page", "plot_bgcolor": "var:page", "font": {"color": "var:text", "size": 12},
        "hovermode": "closest", "hoverlabel": {"bgcolor": "var:panel", "font": {"color": "var:text"}},
        "annotations": [], "shapes": [],
    }  # fmt: skip


def _axis(title: str, **more: Any) -> Plot:
    return {
        "title": {"text": title, "standoff": 6}, "gridcolor": "var:grid", "linecolor": "var:grid",
        "zerolinecolor": "var:grid", "automargin": True, **more,
    }  # fmt: skip


def _title(domain: Sequence[float], text: str) -> Plot:
    """Above a row, at its left."""
    return {
        "xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": domain[1], "yanchor": "bottom",
        "text": f"<b>{text}</b>", "showarrow": False, "font": {"size": 12, "color": "var:text"},
    }  # fmt: skip


def _level(axis: str, value: float) -> Plot:
    return {
        "type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": axis, "y0": value, "y1": value,
        "line": {"color": "var:muted", "dash": "dash", "width": 1},
    }  # fmt: skip


def _stacked(heights: Sequence[int], gap: int) -> list[list[float]]:
    """[bottom, top] of each row, 0 to 1, the first at the top; above each is a gap."""
    whole = sum(heights) + gap * len(heights)
    tops = [whole - sum(heights[:k]) - gap * (k + 1) for k in range(len(heights))]
    return [[(top - height) / whole, top / whole] for top, height in zip(tops, heights, strict=True)]


def _policy_line(at: int) -> Plot:
    return {"color": f"var:policy{at % POLICY_COLOURS}", "dash": DASHES[at % len(DASHES)], "width": 2}


def _spread(count: int) -> list[int]:
    """`count` of the eight colours of exits, from first to last."""
    return np.linspace(0, 7, count).round().astype(int).tolist() if count > 1 else [7]


def _short(name: str, most: int = 26) -> str:
    return escape(name if len(name) <= most else name[: most - 1] + "…")


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.5g}") for value in values]
