"""`spinn trace`: info and plot; generate, fit and derive are in generate.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from spinn_stream.cli.options import plain_console
from spinn_stream.errors import SpinnError, TraceError
from spinn_stream.text import printable
from spinn_traces.figures import figures
from spinn_traces.readers import FORMATS, Reading, read_trace

from .generate import derive_command, fit_command, generate_command

HELP = {"help_option_names": ["-h", "--help"]}

trace = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, context_settings=HELP,
    help="Recordings of networks: look into them, make up others like them. docs/traces.md says the rest.",
)  # fmt: skip

Files = Annotated[list[Path], typer.Argument(help="traces; of a Mahimahi pair .up and .down either is enough")]
Format = Annotated[str | None, typer.Option("--format", help=f"one of {', '.join(FORMATS)}; without: found out")]
Debug = Annotated[bool, typer.Option("--debug", help="show tracebacks")]


@trace.command(context_settings=HELP)
def info(
    files: Files,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object a line, one for each file")] = False,
    format_name: Format = None,
    debug: Debug = False,
) -> None:
    """Print each file's format, length, mean capacities, median round trip, longest outage, and what is assumed.

    Capacities are means weighted by time, in Mb/s; null: not recorded. The longest outage is the longest row of whole
    one-second windows, from 0 on, with a mean below 50 kb/s, in the worse direction. A field is assumed if the file
    does not record it, or only as a constant.
    """
    readings = _read_all(files, format_name, debug)
    if as_json:
        for path, reading in readings:
            print(json.dumps({**figures(reading, str(path)), "units": reading.units}))
    else:
        _show(readings)
    _fail_if_missing(files, readings)


@trace.command(context_settings=HELP)
def plot(
    files: Files,
    out: Annotated[
        Path | None, typer.Option(help="the picture (png, svg or pdf)", show_default="FILE.png, in this folder")
    ] = None,
    window_s: Annotated[float, typer.Option(help="capacity is drawn as means over windows of this length")] = 1.0,
    format_name: Format = None,
    debug: Debug = False,
) -> None:
    """Draw capacity and round trip over time, outages marked; one row of the picture for each file."""
    from .trace_plot import draw

    readings = _read_all(files, format_name, debug)
    _fail_if_missing(files, readings)
    picture = out or Path(f"{files[0].name}.png")
    draw([(path.name, reading) for path, reading in readings], picture, window_s)
    print(f"drawn: {picture}")


trace.command("generate", context_settings=HELP)(generate_command)
trace.command("fit", context_settings=HELP)(fit_command)
trace.command("derive", context_settings=HELP)(derive_command)


def _read_all(files: list[Path], format_name: str | None, debug: bool) -> list[tuple[Path, Reading]]:
    """Every file that can be read; for each of the others, a line on standard error."""
    readings = []
    for path in files:
        try:
            readings.append((path, read_trace(path, format_name)))
        except TraceError as error:
            if debug or len(files) == 1:
                raise
            print(f"spinn trace: {printable(str(error))}", file=sys.stderr)
    return readings


def _fail_if_missing(files: list[Path], readings: list[tuple[Path, Reading]]) -> None:
    if len(readings) < len(files):
        raise TraceError(f"{len(files) - len(readings)} of {len(files)} files could not be read")


def _show(readings: list[tuple[Path, Reading]]) -> None:
    console = plain_console()

    def text(value: float | None, form: Callable[[float], str]) -> str:
        return "not recorded" if value is None else form(value)

    for path, reading in readings:
        said = figures(reading, str(path))
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
        rows: list[tuple[str, Any]] = [
            ("format", said["format"]),
            ("duration", f"{said['duration_s']:g} s"),
            ("up", text(said["up_mbps"], lambda v: f"{v:.3f} Mb/s, mean")),
            ("down", text(said["down_mbps"], lambda v: f"{v:.3f} Mb/s, mean")),
            ("round trip", text(said["rtt_ms"], lambda v: f"{v:g} ms, median")),
            ("longest outage", text(said["longest_outage_s"], lambda v: f"{v:g} s")),
            ("assumed", ", ".join(said["assumed"]) or "nothing"),
            *(("" if i else "units", unit) for i, unit in enumerate(reading.units)),
            *(("" if i else "notes", note) for i, note in enumerate(reading.notes)),
        ]
        for row in rows:
            table.add_row(*row)
        console.print(printable(str(path)), style="bold", soft_wrap=True)
        console.print(table)


def main() -> None:
    """`python -m spinn_traces.cli.trace`: as `spinn trace`."""
    try:
        trace(prog_name="spinn trace")
    except SpinnError as error:
        if "--debug" in sys.argv:
            raise
        print(f"spinn trace: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
