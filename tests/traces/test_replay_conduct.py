"""A whole replay with a simulator of the test's in place of processes: order, resumption, failures, table, page."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from spinn_stream.bundle import Bundle
from spinn_stream.errors import ConfigError, TraceError
from spinn_stream.runtime import Engine
from spinn_traces.replay.policy import parse_policies
from spinn_traces.replay.record import LinkSeries, RunRecord, RunSpec
from spinn_traces.replay.report import output, report
from spinn_traces.replay.report.plots import thinned
from spinn_traces.replay.run import conduct as conducting
from spinn_traces.replay.run.conduct import Replay, ReplayConfig, Watcher, conduct
from spinn_traces.replay.run.processes import RunFailed

from ..replays import finals, run_record
from .test_replay_material import parquet

Config = Callable[..., ReplayConfig]


@pytest.fixture
def traces(tmp_path: Path) -> tuple[Path, Path]:
    """Two traces; the second one's name is not to be trusted."""
    one, two = tmp_path / "one.csv", tmp_path / "<b>two<script>.csv"
    one.write_text("time_s,up_mbps\n0,4\n60,\n")
    two.write_text("time_s,up_mbps\n0,1\n20,0\n25,\n")
    return one, two


@pytest.fixture
def config(tmp_path: Path, bundle: Bundle, traces: tuple[Path, Path]) -> Config:
    source = parquet(tmp_path / "val.parquet", [0, 1, 2, 3, 4, 5])

    def make(**other: Any) -> ReplayConfig:
        policies = tuple(parse_policies(["device-only", "<i>=server-only"], bundle))
        said = {"source": str(source), "traces": traces, "policies": policies, "out": tmp_path / "out",
                "duration_s": 40.0, "fps": 10.0, "simulate": True}  # fmt: skip
        return ReplayConfig(**{**said, **other})

    return make


class Simulator:
    """Answers are 20 ms old, or 90 and by the server for the policy that sends frames. fails: specs that do."""

    def __init__(self) -> None:
        self.asked: list[RunSpec] = []
        self.fails: Callable[[RunSpec], bool] = lambda spec: False

    def __call__(self, spec: RunSpec, *, progress: Callable[[float], None]) -> RunRecord:
        self.asked.append(spec)
        if self.fails(spec):
            raise RunFailed("client ended with exit code 1: <oops>")
        progress(0.5)
        sends = spec.policy.endswith("server-only")
        answers = finals([90.0 if sends else 20.0] * 400, correct=(None,) * 400, label=("Egyptian cat",) * 400)
        if sends:  # the last frame has no answer
            answers = replace(
                answers,
                where=("server",) * 399 + (None,),
                label=("tabby",) * 399 + (None,),
                exit=("final",) * 399 + (None,),
                reason=("final_exit",) * 399 + ("no_answer",),
            )
        outage = LinkSeries(1.0, (0.0,) * 5 + (2.0,) * 35, (2.0,) * 40, (50.0,) * 40)
        return run_record(spec, answers, link=outage)


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Simulator:
    made = Simulator()
    monkeypatch.setattr(conducting, "simulator", lambda: made)
    return made


def run(config: ReplayConfig, bundle: Bundle, engine: Engine, said: list[str] | None = None) -> Replay:
    lines: list[str] = [] if said is None else said
    return conduct(config, bundle, engine, Watcher(lines.append, lambda *_: None))


def test_every_trace_is_run_under_every_policy_and_repeats_come_last(
    config: Config, simulator: Simulator, bundle: Bundle, engine: Engine
) -> None:
    done = run(config(repeats=2), bundle, engine)
    order = [(s.repeat, s.trace.name[:3], s.policy[:6]) for s in simulator.asked]
    assert order == [(r, t, p) for r in (0, 1) for t in ("one", "<b>") for p in ("device", "<i>=se")]
    assert done.notes == ("<b>two<script>.csv lasts 25 s and begins again at its end",)
    assert {s.truth for s in simulator.asked} == {"labels"} and not done.failures
    assert done.material.truth is not None
    right = [sum(map(bool, r.finals.correct)) for r in done.records[:2]]
    cats = sum(done.material.truth[k % 6] == "Egyptian cat" for k in range(400))
    assert right == [cats, 0] and cats in (66, 67)


def test_what_is_done_is_not_done_again_and_a_broken_file_is(
    config: Config, simulator: Simulator, bundle: Bundle, engine: Engine
) -> None:
    first = run(config(), bundle, engine)
    assert len(simulator.asked) == 4
    said: list[str] = []
    assert run(config(), bundle, engine, said).records == first.records
    assert len(simulator.asked) == 4 and not said
    broken = sorted((config().out / "runs").iterdir())[0]
    broken.write_text("{}")
    run(config(), bundle, engine, said)
    assert len(simulator.asked) == 5 and "cannot be used and is run again" in said[0]
    run(config(deadline_ms=100.0), bundle, engine)
    assert len(simulator.asked) == 9  # asked for something else


def test_a_run_that_fails_is_told_and_the_others_go_on(
    config: Config, simulator: Simulator, bundle: Bundle, engine: Engine
) -> None:
    simulator.fails = lambda spec: spec.trace.name == "one.csv" and spec.policy == "device-only"
    said: list[str] = []
    done = run(config(), bundle, engine, said)
    assert len(done.records) == 3 and [f.why for f in done.failures] == ["client ended with exit code 1: <oops>"]
    rows = output.write(done, said.append)
    assert all(not row.best for row in rows if row.trace is None)  # not on the same traces
    page = (config().out / "report.html").read_text()
    assert "1 run failed" in page and "&lt;oops&gt;" in page and "<oops>" not in page
    simulator.fails = lambda spec: False
    assert len(run(config(), bundle, engine).records) == 4 and len(simulator.asked) == 5


def test_the_table_says_who_is_better_and_only_where_the_interval_does(
    config: Config, simulator: Simulator, bundle: Bundle, engine: Engine
) -> None:
    rows = output.make_table(run(config(), bundle, engine).records, {"device-only": "d", "<i>=server-only": "s"})
    two = "<b>two<script>.csv"
    places = [("d", None), ("s", None), ("d", "one.csv"), ("s", "one.csv"), ("d", two), ("s", two)]
    assert [(r.policy, r.trace) for r in rows] == places
    d, s = rows[:2]
    assert (d.frames, d.runs) == (800, 2) and d.figures["age_p99_ms"].interval == (20.0, 20.0)
    assert {"age_p50_ms", "age_p95_ms", "age_p99_ms", "right"} <= d.best
    assert "up_mbit_per_min" not in d.best  # one run each: no interval
    assert s.figures["server"].value == pytest.approx(399 / 400) == s.figures["in_time"].value
    assert s.figures["fallback"].value == pytest.approx(1 / 400)
    assert d.figures["up_mbit_per_min"].value == pytest.approx(8 / (40 / 60))  # 1 MB in 40 s
    assert d.figures["server_ms_per_frame"].value == pytest.approx(300 / 400)
    text = json.loads(json.dumps(d.as_json()))
    assert text["age_p50_ms"] == {"value": 20.0, "low": 20.0, "high": 20.0} and text["best"] == sorted(d.best)


def test_people_see_a_column_for_each_policy_over_all_traces_with_intervals_and_who_is_best(
    config: Config, simulator: Simulator, bundle: Bundle, engine: Engine
) -> None:
    done = run(config(), bundle, engine)
    shown = io.StringIO()
    output.show(Console(file=shown, width=200), done, output.write(done, lambda _: None))
    head, *lines = (line.split() for line in shown.getvalue().splitlines())
    assert head == ["device-only", "<i>"]
    assert lines[0] == ["frames", "taken", "in", "800", "800"]
    median = next(line for line in lines if line[:2] == ["age,", "median,"])
    assert median == ["age,", "median,", "ms", "20.0", "(20.0-20.0)", "*", "90.0", "(90.0-90.0)"]
    said = shown.getvalue()
    assert "right: accuracy: the answer is the label that came with the image" in said
    assert "*: better than every other" in said and "one.csv" not in said
    output.show(Console(file=(nothing := io.StringIO())), done, [])
    assert nothing.getvalue() == ""


def in_script(page: str, name: str) -> str:
    found = re.search(f'id="{name}">(.*?)</script>', page, re.S)
    assert found is not None
    return found[1]


def test_the_page_holds_all_that_a_reader_needs_and_nothing_is_loaded_or_taken_for_html(
    config: Config, simulator: Simulator, bundle: Bundle, engine: Engine
) -> None:
    done = run(config(device_slowdown=8.0), bundle, engine)
    output.write(done, lambda _: None)
    page = (config().out / "report.html").read_text()
    for said in (
        "Simulated in virtual time", "slowed down 8 times", "to stand for a small board", "val.parquet", "one.csv",
        "Accuracy: the answer is the label that came with the image", "a processor", "none: simulated", "150 ms",
        "down_mbps, rtt_ms, loss", "prefers-color-scheme", "Politis and Romano", "begins again at its end",
        "The frame goes up", "Asked: accuracy_drop &lt;= 1",
        "device-only is better than every other in: right (16.5 %); age, median (20.0 ms); age, 95 %",
        "&lt;b&gt;two&lt;script&gt;.csv", "&lt;i&gt;",
    ):  # fmt: skip
        assert said in page, said
    own = page.replace(in_script(page, "plotly"), "")
    assert "<b>two" not in own and "<i>" not in own and own.count("<script") == 3
    assert not re.search(r'(src|href)="', own) and "http" not in own and "@import" not in own
    plots = json.loads(in_script(page, "figures"))
    assert set(plots) == {"ages", "shares", "exits", "timeline0", "timeline1"}
    timeline = plots["timeline1"]["layout"]
    assert timeline["xaxis"]["title"]["text"] == "time since the run began, s"
    assert {timeline[f"yaxis{k}"]["title"]["text"] for k in (4, 5)} == {"age, ms"}
    assert [s["x1"] for s in timeline["shapes"] if s["type"] == "rect"] == [5.0]  # the outage
    titles = [a["text"] for a in timeline["annotations"]]
    assert "<b>link up, Mb/s</b>" in titles and "<b>answers: &lt;i&gt;</b>" in titles
    kept = json.loads((config().out / "replay.json").read_text())
    assert [RunRecord.from_json(r) for r in kept["runs"]] == list(done.records) and kept["device_slowdown"] == 8.0


def test_without_its_libraries_there_is_json_and_one_line_on_what_to_install(
    config: Config, simulator: Simulator, bundle: Bundle, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "NEEDED", ("plotly", "no_such_library"))
    said: list[str] = []
    output.write(run(config(), bundle, engine), said.append)
    assert said == ["report.html is not written: it needs no_such_library: pip install 'spinn-traces[report]'"]
    assert (config().out / "replay.json").exists() and not (config().out / "report.html").exists()


def test_plots_of_many_points_keep_the_peaks() -> None:
    values = np.zeros(100_000)
    values[[17, 99_999]] = 5.0
    chosen = thinned(values, 5000)
    assert len(chosen) <= 5000 and {17, 99_999} <= set(chosen.tolist()) and (np.diff(chosen) > 0).all()
    assert thinned(values[:10], 5000).tolist() == list(range(10))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"traces": ()}, "no trace is given: add --trace FILE"),
        ({"duration_s": 0.5}, "--duration-s is 0.5, expected 1 to 86400"),
        ({"repeats": 0}, "--repeats is 0, expected 1 to 1000"),
        ({"device_slowdown": 0.5}, "--device-slowdown is 0.5, expected 1 to 1000"),
        ({"offset_s": -1.0}, "--offset is -1, expected 0"),
        ({"fps": float("nan")}, "--fps is nan"),
    ],
)
def test_what_does_not_fit_is_told(config: Config, other: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config(**other)


def test_a_trace_given_twice_is_told(
    config: Config, simulator: Simulator, bundle: Bundle, engine: Engine, tmp_path: Path, traces: tuple[Path, Path]
) -> None:
    (tmp_path / "copy.csv").write_text(traces[0].read_text())
    with pytest.raises(TraceError, match=r"copy\.csv plays the same as .*one\.csv; give each trace once"):
        run(config(traces=(*traces, tmp_path / "copy.csv")), bundle, engine)
