"""`spinn replay`."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from spinn_stream.bundle import DEFAULT_BUNDLE, load_bundle
from spinn_stream.errors import ConfigError, SpinnError
from spinn_stream.runtime import open_engine


def replay(
    source: Annotated[str, typer.Option(help="clip, demo, folder of images; labelled: parquet, folder of classes")],
    out: Annotated[Path, typer.Option(help="folder for report.html, replay.json and the runs; goes on where it was")],
    trace: Annotated[list[Path] | None, typer.Option(help="recorded network, any format; several times")] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="device-only, server-only, fixed:split=S,threshold=T,codec=C; NAME=POLICY; several times"),
    ] = None,
    duration_s: Annotated[float, typer.Option(help="seconds of each run")] = 60.0,
    repeats: Annotated[int, typer.Option(help="runs of each trace and policy")] = 1,
    fps: Annotated[float | None, typer.Option(help="frames per second", show_default="the source's own")] = None,
    deadline_ms: Annotated[float, typer.Option(help="age by which every frame has its answer")] = 150.0,
    device_slowdown: Annotated[float, typer.Option(help="the device takes k times as long: a small board")] = 1.0,
    simulate: Annotated[bool, typer.Option("--simulate", help="in virtual time, without processes")] = False,
    bundle: Annotated[Path, typer.Option(help="folder of the bundle", show_default="built in")] = DEFAULT_BUNDLE,
    runtime: Annotated[str, typer.Option(help="of both ends: auto, onnxruntime, openvino or torch")] = "auto",
    no_pin: Annotated[bool, typer.Option("--no-pin", help="do not give each end a core of its own")] = False,
    offset: Annotated[float, typer.Option(help="seconds into each trace at which runs begin")] = 0.0,
    seed: Annotated[int, typer.Option(help="of the images' order, of jitter and losses, of intervals")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print the table's figures as one JSON object")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress, no table")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:
    """Play a source through recorded networks under several policies, with real processes, and report on it.

    Each run is a client, a shaper that imposes the trace, and a server. --out gets a page to read (report.html) and all
    data as JSON (replay.json). The same command continues an interrupted replay. Exit code 1: a run failed.
    """
    for package in ("spinn_client", "spinn_server"):
        if importlib.util.find_spec(package) is None:
            name = package.replace("_", "-")
            raise ConfigError(f"spinn replay runs a client and a server: pip install {name}")
    from spinn_traces.replay.policy import parse_policies
    from spinn_traces.replay.report.output import show, write
    from spinn_traces.replay.run.conduct import ReplayConfig, conduct, simulator

    model = load_bundle(bundle)
    config = ReplayConfig(
        source=source, traces=tuple(trace or ()), policies=tuple(parse_policies(policy or [], model)), out=out,
        duration_s=duration_s, repeats=repeats, fps=fps, deadline_ms=deadline_ms, device_slowdown=device_slowdown,
        offset_s=offset, seed=seed, runtime=runtime, pin=not no_pin, simulate=simulate,
    )  # fmt: skip
    if simulate:
        simulator()
    _make_writable(out)
    console = Console(stderr=True)

    def say(text: str) -> None:
        if not quiet:
            console.print(text, highlight=False, soft_wrap=True, markup=False)

    engine = open_engine(model, runtime, say=say, warn=lambda text: say(f"warning: {text}"))
    with _ended_by_sigterm(), _watched(console, say, quiet=quiet) as watcher:
        done = conduct(config, model, engine, watcher)
    for note in done.notes:
        say(note)
    rows = write(done, say)
    if as_json:
        print(json.dumps({"out": str(out), "failed": len(done.failures), "table": [row.as_json() for row in rows]}))
    elif not quiet:
        show(Console(), done, rows)
    if done.failures:
        first = done.failures[0]
        raise SpinnError(
            f"{len(done.failures)} of {len(done.failures) + len(done.records)} runs failed; the first, "
            f"{first.trace}, {first.policy}: {first.why}"
        )


def _make_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot write there: {error.strerror}") from error


@contextlib.contextmanager
def _watched(console: Console, say: Any, *, quiet: bool) -> Iterator[Any]:
    """A progress bar over runs, with the time left, on standard error."""
    from spinn_traces.replay.run.conduct import Watcher

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet, transient=True) as bar:
        task = bar.add_task("preparing", total=None)

        def step(total: int, done: float, doing: str) -> None:
            bar.update(task, total=total, completed=done, description=escape(doing))

        yield Watcher(say, step)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Makes SIGTERM end the replay and its processes, as Ctrl-C does."""

    def end(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
