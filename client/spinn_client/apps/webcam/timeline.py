"""The last minute: age, bandwidth, plan and exits, bytes and energy, as samples and as the charts of a page."""

from __future__ import annotations

import statistics
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from spinn_client import State
from spinn_client.link.estimate import LinkReading
from spinn_stream.plan import Figures
from spinn_stream.repeat import EXIT

from .session import Answer

STEP_S = 0.5
SAMPLES = 120
WIDTH_S = STEP_S * SAMPLES

OURS, DEVICE, SERVER, FALLBACK, PLAIN = "#8b5cf6", "#16a37a", "#2f80ed", "#e8950c", "#8a8f98"
LANES = {"ours": ("ours", OURS), "device": ("device only", DEVICE), "server": ("server only", SERVER)}
GREENS, BLUES = ("#16a37a", "#5cc9a7", "#a5e3cf"), ("#2f80ed", "#7fb2f5", "#bcd6fa")
REPEATED = "#0d6b50"

CHARTS = ("age", "bandwidth", "plan", "cost")


@dataclass(frozen=True)
class Sample:
    """Half a second.

    ages: median age of each stream's answers, in ms. answers: of our own stream, by where and exit.
    imposed_mbps: the link's capacity; None: unlimited, or not our link. used_mbps: what was sent.
    capacity_mbps: the capacity that the stream measured while the link was full. split: index of the plan's cut point.
    bytes_up, energy_mj: of a frame; the energy is the scheduler's estimate.
    """

    at: float
    ages: dict[str, float] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    imposed_mbps: float | None = None
    used_mbps: float | None = None
    capacity_mbps: float | None = None
    rtt_ms: float | None = None
    split: int | None = None
    bytes_up: float | None = None
    energy_mj: float | None = None


class Timeline:
    """Answers are added in the streams' thread; samples are taken, and charts made, in the pages'."""

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=SAMPLES)
        self.deadline_ms = 0.0
        self._new: deque[Answer] = deque(maxlen=1000)
        self._before = (0, 0)  # bytes and final answers

    def add(self, answer: Answer) -> None:
        self._new.append(answer)

    def sample(
        self, now: float, seen: tuple[State, Figures | None, LinkReading | None] | None, imposed_mbps: float | None
    ) -> Sample:
        """Add a sample of what happened since the last one. seen: see `Session.look`."""
        ages: dict[str, list[float]] = {}
        answers: Counter[str] = Counter()
        while self._new:
            answer = self._new.popleft()
            ages.setdefault(answer.lane, []).append(answer.result.age_ms)
            if answer.lane == "ours":
                answers[kind_of(answer)] += 1
        medians = {lane: round(statistics.median(found), 1) for lane, found in ages.items()}
        if seen is None:
            sample = Sample(now, medians, answers, imposed_mbps)
        else:
            state, forecast, reading = seen
            (bytes_before, final_before), self._before = self._before, (state.bytes_up, state.final)
            frames = state.final - final_before
            full = reading is not None and reading.full
            sample = Sample(
                now, medians, answers, imposed_mbps, state.up_mbps,
                reading.up_mbps if reading is not None and full else None, state.rtt_ms, state.plan.split,
                (state.bytes_up - bytes_before) / frames if frames > 0 else None,
                forecast.device_energy if forecast is not None else None,
            )  # fmt: skip
        self.samples.append(sample)
        return sample

    def series(self, chart: str, kinds: list[str]) -> list[dict[str, Any]]:
        """Data of a chart's series, in the order of `options`; x: seconds before now."""
        samples = list(self.samples)
        end = samples[-1].at if samples else 0.0

        def line(values: list[float | None]) -> dict[str, Any]:
            return {
                "data": [
                    [round(sample.at - end, 1), None if value is None else round(value, 2)]
                    for sample, value in zip(samples, values, strict=True)
                ]
            }

        if chart == "age":
            lines = [line([s.ages.get(lane) for s in samples]) for lane in LANES]
            return [*lines, {"data": [[-WIDTH_S, self.deadline_ms], [0, self.deadline_ms]]}]
        if chart == "bandwidth":
            return [
                line([s.imposed_mbps for s in samples]),
                line([s.used_mbps for s in samples]),
                line([s.rtt_ms for s in samples]),
            ]
        if chart == "plan":
            totals = [max(1, s.answers.total()) for s in samples]
            shares = [line([100 * s.answers[kind] / n for s, n in zip(samples, totals, strict=True)]) for kind in kinds]
            return [*shares, line([s.split for s in samples])]
        return [
            line([None if s.bytes_up is None else s.bytes_up / 1000 for s in samples]),
            line([s.energy_mj for s in samples]),
        ]


def kind_of(answer: Answer) -> str:
    """Who gave it, for the chart: `device block11`, `server final`, or `fallback`."""
    result = answer.result
    return "fallback" if result.is_fallback else f"{result.where} {result.exit}"


def kinds(exits: list[str]) -> list[str]:
    """All that `kind_of` may say of a bundle with these exits; the last exit comes first."""
    last_first = exits[::-1]
    device, server = ([f"{where} {name}" for name in last_first] for where in ("device", "server"))
    return [*device, f"device {EXIT}", *server, "fallback"]


def options(chart: str, exits: list[str], cuts: list[str]) -> dict[str, Any]:
    """A chart of ECharts, without data."""
    if chart == "age":
        lines = [_line(name, colour, width=3 if lane == "ours" else 1.5) for lane, (name, colour) in LANES.items()]
        deadline = _line("deadline", "#d64545", dashed=True)
        return _chart([_axis("ms")], [*lines, deadline])
    if chart == "bandwidth":
        return _chart(
            [_axis("Mb/s"), _axis("ms")],
            [_line("link", PLAIN, dashed=True), _line("sent", OURS, width=2, area=True),
             {**_line("round trip", FALLBACK), "yAxisIndex": 1}],
        )  # fmt: skip
    if chart == "plan":
        colours = [*_first(GREENS, len(exits)), REPEATED, *_first(BLUES, len(exits)), FALLBACK]
        names = [*["on the device"] * len(exits), "repeated", *["by the server"] * len(exits), "alone in trouble"]
        bars = [
            {"type": "bar", "name": name, "stack": "answers", "color": colour, "barWidth": "100%", "data": [],
             "emphasis": {"disabled": True}}
            for name, colour in zip(names, colours, strict=True)
        ]  # fmt: skip
        last = max(1, len(cuts) - 1)
        split = {**_line("split", OURS, width=2.5), "step": "end", "yAxisIndex": 1}
        ends = f"(value) => value === 0 ? 'server' : value >= {last} ? 'device' : ''"
        right = {**_axis(""), "max": last, "interval": last, "axisLabel": {"color": PLAIN, ":formatter": ends}}
        return _chart([{**_axis("%"), "max": 100, "interval": 50}, right], [*bars, split])
    return _chart(
        [_axis("kB"), _axis("mJ")],
        [_line("kB sent", SERVER, width=2, area=True),
         {**_line("mJ on the device (estimate)", DEVICE, width=2), "yAxisIndex": 1}],
    )  # fmt: skip


def _first(colours: tuple[str, ...], number: int) -> list[str]:
    return [colours[i % len(colours)] for i in range(number)]


def _chart(axes: list[dict[str, Any]], series: list[dict[str, Any]]) -> dict[str, Any]:
    # The first series of a name lends the legend its colour.
    names = list(dict.fromkeys(one["name"] for one in series))
    for axis, side in zip(axes, ("left", "right"), strict=False):
        axis["position"] = side
    return {
        "animation": False,
        "grid": {"left": 36, "right": 40 if len(axes) > 1 else 12, "top": 48, "bottom": 22},
        "legend": {
            "top": 0, "left": 0, "itemWidth": 10, "itemHeight": 7, "itemGap": 7, "icon": "roundRect",
            "data": names, "textStyle": {"color": PLAIN, "fontSize": 10.5},
        },
        "xAxis": {
            "type": "value", "min": -WIDTH_S, "max": 0, "interval": 20, "splitLine": {"show": False},
            "axisLine": {"lineStyle": {"color": PLAIN}},
            "axisLabel": {"color": PLAIN, ":formatter": "(value) => value === 0 ? 'now' : value + ' s'"},
        },
        "yAxis": axes,
        "series": series,
    }  # fmt: skip


def _axis(unit: str) -> dict[str, Any]:
    return {
        "type": "value", "min": 0, "name": unit, "nameGap": 6, "splitNumber": 3,
        "nameTextStyle": {"color": PLAIN, "fontSize": 10}, "axisLabel": {"color": PLAIN, "fontSize": 11},
        "axisLine": {"show": False, "onZero": False}, "axisTick": {"show": False},
        "splitLine": {"lineStyle": {"color": PLAIN, "opacity": 0.2}},
    }  # fmt: skip


def _line(name: str, colour: str, *, width: float = 1.5, dashed: bool = False, area: bool = False) -> dict[str, Any]:
    line = {
        "type": "line", "name": name, "color": colour, "showSymbol": False, "silent": True, "data": [],
        "lineStyle": {"width": width, "type": "dashed" if dashed else "solid"},
    }  # fmt: skip
    return {**line, "areaStyle": {"opacity": 0.18}} if area else line
