"""`spinn trace generate`, `fit` and `derive`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from spinn_stream.errors import ConfigError
from spinn_stream.trace import Trace, format_csv
from spinn_traces.generator import MODELS, Compared, Model, Settings, compare, derive, fit, generate, load_model
from spinn_traces.readers import read_trace, write_parquet

from .fit_plot import draw_fit
from .trace_plot import check_drawable

PICTURES = (".png", ".svg", ".pdf")
ROWS = {
    "mean_mbps": "mean, Mb/s",
    "p5_mbps": "5 %",
    "p50_mbps": "median",
    "p95_mbps": "95 %",
    "outage_share": "time in outages",
    "outages_an_hour": "outages an hour",
    "longest_outage_s": "longest, s",
}
Debug = Annotated[bool, typer.Option("--debug", help="show tracebacks")]


def generate_command(
    model: Annotated[str, typer.Option(help=f"one of {', '.join(MODELS)}, or a file of `spinn trace fit`")],
    out: Annotated[Path, typer.Option(help="the trace: a file .csv or .parquet")],
    seed: Annotated[int, typer.Option(help="the same seed gives the same trace")] = 1,
    duration: Annotated[float, typer.Option(help="seconds")] = 600.0,
    debug: Debug = False,
) -> None:
    """Make up a trace: a walk through the regimes of a network, with outages. Nothing in it is measured."""
    if out.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"--out is {out}, expected a file .csv or .parquet")
    made = generate(load_model(model), seed=seed, duration_s=duration)
    if out.suffix == ".parquet":
        write_parquet(made, out)
        return
    how = f"made up: spinn trace generate --model {model} --seed {seed} --duration {duration:g} --out {out.name}"
    _write(out, "\n".join(format_csv(made, [how])) + "\n")


def fit_command(
    files: Annotated[list[Path], typer.Argument(help="real traces of one kind of network")],
    out: Annotated[list[Path], typer.Option(help="the model (.json) or how it fits (.png, .svg, .pdf); repeatable")],
    name: Annotated[str, typer.Option(help="the model's name")] = "fitted",
    model: Annotated[str | None, typer.Option(help="fit nothing: show how this model fits the files")] = None,
    step_s: Annotated[float, typer.Option(help="step of the model: 1, or a whole part of it such as 0.2")] = 1.0,
    up_share: Annotated[float, typer.Option(help="uplink as a part of the downlink, where none is recorded")] = 1.0,
    rtt_from: Annotated[Path | None, typer.Option(help="a trace with round trips")] = None,
    rtt_ms: Annotated[
        float | None, typer.Option(help="median round trip, assumed", show_default="that of --rtt-from, or 50")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the figures of the fit as one JSON object")] = False,
    debug: Debug = False,
) -> None:
    """Fit a model to real traces and show how it fits: distribution, autocorrelation, outages.

    The real traces are compared with ten traces of the model of the same length, in windows of one second.
    """
    for path in out:
        if path.suffix not in (".json", *PICTURES):
            raise ConfigError(f"--out is {path}, expected a file .json, {', '.join(PICTURES)}")
        if path.suffix in PICTURES:
            check_drawable(path)
    readings = [read_trace(path) for path in files]
    traces = [reading.trace for reading in readings]
    if model is None:
        settings = Settings(step_s, _rtt(rtt_from), rtt_ms, up_share)
        made_by = _command(files, name, settings, rtt_from)
        sources = [path.name for reading in readings for path in sorted(reading.files)]
        found = fit(traces, settings, name=name, made_by=made_by, sources=sources)
    else:
        found = load_model(model)
    compared = compare(found, traces)
    for path in out:
        if path.suffix == ".json":
            _write(path, found.as_json())
        else:
            draw_fit(found, compared, [path.name for path in files], path)
    if as_json:
        print(json.dumps({"model": found.name, "files": list(map(str, files)), "fit": [c.as_json() for c in compared]}))
    else:
        _show(found, compared)


def derive_command(
    levels: Annotated[str, typer.Argument(help="the model whose capacities and round trips are taken")],
    motion: Annotated[str, typer.Argument(help="the model whose changes and outages are taken")],
    name: Annotated[str, typer.Option(help="the new model's name")],
    out: Annotated[Path, typer.Option(help="the model, a file .json")],
    debug: Debug = False,
) -> None:
    """Make a new model of two others: the capacities of one, the changes of the other."""
    made_by = shlex.join(["spinn", "trace", "derive", levels, motion, "--name", name, "--out", f"{name}.json"])
    _write(out, derive(load_model(levels), load_model(motion), name=name, made_by=made_by).as_json())


def _rtt(path: Path | None) -> Trace | None:
    return None if path is None else read_trace(path).trace


def _command(files: list[Path], name: str, settings: Settings, rtt_from: Path | None) -> str:
    words = ["spinn", "trace", "fit", *map(str, files), "--name", name, "--step-s", f"{settings.step_s:g}"]
    if settings.up_share != 1:
        words += ["--up-share", f"{settings.up_share:g}"]
    if rtt_from is not None:
        words += ["--rtt-from", str(rtt_from)]
    if settings.rtt_ms is not None:
        words += ["--rtt-ms", f"{settings.rtt_ms:g}"]
    return shlex.join([*words, "--out", f"{name}.json"])


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error


def _show(model: Model, compared: list[Compared]) -> None:
    table = Table(title=f"{model.name}: measured, and made by the model", title_justify="left")
    table.add_column("")
    columns = [(c.as_json(), kind) for c in compared for kind in ("measured", "generated")]
    for said, kind in columns:
        table.add_column(f"{said['direction'].removesuffix('_mbps')} {kind}", justify="right")
    for key, label in ROWS.items():
        table.add_row(label, *(f"{said[kind][key]:g}" for said, kind in columns))
    for lag in columns[0][0]["measured"]["correlation"]:
        row = (f"{said[kind]['correlation'][lag]:g}" for said, kind in columns)
        table.add_row(f"correlation, {lag.replace('_', ' ')}", *row)
    console = Console()
    console.print(table)
    for said, kind in columns:
        if kind == "measured":
            direction, off = said["direction"].removesuffix("_mbps"), said["largest_difference"]
            console.print(f"{direction}: the distributions differ by at most {off:.1%}", highlight=False)
