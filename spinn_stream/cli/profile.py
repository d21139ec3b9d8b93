"""`spinn profile`."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import cv2
import typer
from rich.console import Console
from rich.progress import Progress as Bar
from rich.table import Table

from spinn_stream.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from spinn_stream.errors import ConfigError
from spinn_stream.profile import BatchProfile, Profile, Timing
from spinn_stream.runtime.choice import choose_engine, open_engine
from spinn_stream.runtime.measure import store
from spinn_stream.runtime.measure.profiler import QUICK, THOROUGH, stored_profile

from .options import Threads, plain_console, read_threads, save_figure

MAX_BATCH = 256

MAX_BATCHES = 16
"""The number that a server's profile message can hold (wire/messages.py)."""


def profile(
    bundle: Annotated[Path, typer.Option(help="folder of the bundle", show_default="built in")] = DEFAULT_BUNDLE,
    runtime: Annotated[str, typer.Option(help="auto, onnxruntime, openvino or torch")] = "auto",
    threads: Threads = "auto",
    batches: Annotated[str, typer.Option(help="batch sizes, rising")] = "1,2,4,8,16",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
    plot: Annotated[Path | None, typer.Option(help="draw the first batch size here (png, svg or pdf)")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="a second for each batch size, not up to 15")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:
    """Measure how long every part of the network takes here; `spinn run` and `spinn serve` use it from then on."""
    sizes = _sizes(batches)
    count = read_threads(threads)
    if plot is not None:
        _check_drawable(plot)
    model = load_bundle(bundle)
    cv2.setNumThreads(count)  # as `spinn run` does
    errors = plain_console(stderr=True)
    with Bar(console=errors, transient=True, disable=not errors.is_terminal) as bar:

        def say(text: str) -> None:
            errors.print(text, soft_wrap=True)

        task = bar.add_task("choosing an engine", total=None)
        name, why = _choose(model, runtime, count, say)
        engine = open_engine(model, name, threads=count, warn=say)
        bar.update(task, description=f"measuring {engine.name}", total=1.0, completed=0.0)
        found = stored_profile(
            model, engine, threads=count, batches=sizes, again=True, rule=QUICK if quick else THOROUGH, say=say,
            progress=lambda share: bar.update(task, completed=share),
        )  # fmt: skip
    if plot is not None:
        _draw(model, found, plot)
    if as_json:
        object_ = {
            "bundle": model.hash, "runtime": found.runtime, "threads": count, "machine": store.machine(),
            "why": why, "profile": found.as_json(),
        }  # fmt: skip
        print(json.dumps(object_))
    else:
        console = plain_console()
        console.print(f"{found.runtime}: {why}", soft_wrap=True)
        _show(console, model, found, count)


def _sizes(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    sizes = [int(word) if word.isascii() and word.isdecimal() and len(word) < 9 else 0 for word in words]
    if sizes != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] > MAX_BATCH or len(sizes) > MAX_BATCHES:
        raise ConfigError(
            f"--batches is {text!r:.80}, expected rising numbers from 1 to {MAX_BATCH}, {MAX_BATCHES} at most, "
            "such as 1,2,4"
        )
    return sizes


def _choose(bundle: Bundle, runtime: str, threads: int, say: Callable[[str], object]) -> tuple[str, str]:
    """The engine to measure, and why it is that one."""
    if runtime != "auto":
        return runtime, f"asked for with --runtime {runtime}"
    choice = choose_engine(bundle, threads=threads, again=True, say=say)
    return choice.order[0], "; ".join([choice.why, *choice.refused.values()])


def _show(console: Console, bundle: Bundle, found: Profile, threads: int) -> None:
    """Segments and exits in their places, then the other costs of a frame."""
    title = f"{bundle.name}, {threads} thread{'s' if threads > 1 else ''}: ms for the whole batch"
    table = Table(title=title, title_justify="left")
    table.add_column("to")
    table.add_column("multiply-adds", justify="right")
    every_p95 = console.width >= 30 + 18 * len(found.batches)
    for row in found.batches:
        table.add_column(f"batch {row.batch}", justify="right")
        if every_p95 or row is found.batches[0]:
            table.add_column("95 %", justify="right")

    def add(name: str, share: str, times: Iterable[Timing | float | None]) -> None:
        cells = []
        for row, t in zip(found.batches, times, strict=True):
            cells.append("" if t is None else f"{t.median_ms if isinstance(t, Timing) else t:.2f}")
            if every_p95 or row is found.batches[0]:
                cells.append(f"{t.p95_ms:.2f}" if isinstance(t, Timing) else "")
        table.add_row(name, share, *cells)

    whole = bundle.cut_points[-1].macs or 1
    for i, (a, b) in enumerate(zip(bundle.cut_points, bundle.cut_points[1:], strict=False)):
        add(b.name, f"{(b.macs - a.macs) / whole:.1%}", [row.segments[i] for row in found.batches])
        if i + 1 in found.exit_cuts:
            place = found.exit_cuts.index(i + 1)
            macs = bundle.exit_at[i + 1].macs
            add(f"  exit {b.name}", f"{macs / whole:.1%}", [row.exits[place] for row in found.batches])
    table.add_section()
    add("a cut", "", [row.call_ms for row in found.batches])
    add("preprocess", "", [found.preprocess if row.batch == 1 else None for row in found.batches])
    add("one graph", "", [found.expected_ms([(0, bundle.last)], batch=row.batch) for row in found.batches])
    add("total", "", [_total(bundle, found, row) for row in found.batches])
    console.print(table)
    console.print(
        "one graph: no cut, no exit. total: preprocess, a cut behind every exit, and every exit.", style="dim"
    )


def _total(bundle: Bundle, found: Profile, row: BatchProfile) -> float:
    pieces = bundle.pieces(0, bundle.last)
    return found.preprocess.median_ms * row.batch + found.expected_ms(pieces, found.exit_cuts, batch=row.batch)


def _check_drawable(path: Path) -> None:
    """Before minutes are spent on what could not be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib: pip install 'spinn-stream[train]'")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"cannot draw {path}: there is no folder {path.absolute().parent}")


def _draw(bundle: Bundle, found: Profile, path: Path) -> None:
    """A bar for every part on the way of one batch, whiskers up to the 95th percentile, and the running sum."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    row = found.batches[0]
    parts = [("preprocess", "C2", Timing(*(row.batch * ms for ms in _both(found.preprocess))))]
    for i, (segment, cut) in enumerate(zip(row.segments, bundle.cut_points[1:], strict=True), start=1):
        parts.append((cut.name, "C0", segment))
        if i in found.exit_cuts:
            parts.append((f"exit {cut.name}", "C1", row.exits[found.exit_cuts.index(i)]))
    medians = [t.median_ms for _, _, t in parts]
    reach = [max(0.0, t.p95_ms - t.median_ms) for _, _, t in parts]
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    places = range(len(parts))
    axes.bar(places, medians, color=[colour for _, colour, _ in parts], yerr=[[0.0] * len(parts), reach], capsize=2)
    axes.set_xticks(places, [name for name, _, _ in parts], rotation=60, ha="right", fontsize=8)
    axes.set(
        ylabel="ms, and up to the 95th percentile",
        title=f"{bundle.name}, {found.runtime}, batch of {row.batch}; a cut: {row.call_ms:.2f} ms",
    )
    summed = axes.twinx()
    summed.plot(places, [sum(medians[: i + 1]) for i in places], color="0.3", marker=".")
    summed.set(ylabel="so far, ms", ylim=(0, None))
    save_figure(figure, path)


def _both(timing: Timing) -> tuple[float, float]:
    return timing.median_ms, timing.p95_ms
