"""`spinn evaluate`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import typer
from rich.progress import Progress as Bar
from rich.table import Table

from spinn_stream.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from spinn_stream.errors import ConfigError
from spinn_stream.runtime import open_engine
from spinn_stream.text import printable
from spinn_stream.train.pack.evaluation import Evaluation
from spinn_stream.train.pack.evaluation import evaluate as score

from .options import plain_console, save_figure


def evaluate(
    bundle: Annotated[
        list[Path] | None,
        typer.Argument(help="folder of the bundle; more of --data, as a shell's * gives", show_default="built in"),
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="parquet files, folders of them, or folders, labelled or not; or one clip")
    ] = None,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="ignore labels: only agreement with the final exit")
    ] = False,
    held_out: Annotated[
        int | None, typer.Option(min=1, help="only the last images, as --held-out of its training", show_default="all")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
    plot: Annotated[Path | None, typer.Option(help="draw the threshold curve here (png, svg or pdf)")] = None,
    runtime: Annotated[str, typer.Option(help="auto, onnxruntime, openvino or torch")] = "onnxruntime",
    threads: Annotated[int | None, typer.Option(help="engine threads", show_default="all cores")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:  # fmt: skip
    """Score a bundle: accuracy, calibration and cost of each exit, and what each threshold buys.

    On images without labels, it counts how often each exit, and each threshold, agrees with the final exit. On a clip,
    it also says how many frames the repeat exit would answer.
    """
    folders, files = _sorted(bundle or [])
    if not data:
        raise ConfigError("no images were given: --data FILE.parquet, a folder of images, or a clip")
    model = load_bundle(folders[0] if folders else DEFAULT_BUNDLE)
    engine = open_engine(model, runtime, threads=threads or os.cpu_count() or 1)
    console = plain_console(stderr=True)
    with Bar(console=console, transient=True) as bar:
        task = bar.add_task("reading images", total=None)
        images = _read(
            [*data, *files], model, labelled=not unlabelled,
            progress=lambda n, total: bar.update(task, completed=n, total=total),
        )  # fmt: skip
        if held_out is not None:
            images = images.last(held_out)
        running = bar.add_task("running every exit", total=len(images.pixels))
        found = score(
            model, engine, images.pixels, images.labels, fps=images.fps,
            progress=lambda n: bar.update(running, completed=n),
        )  # fmt: skip
    for note in images.notes:
        console.print(printable(note), style="yellow", soft_wrap=True)
    if plot is not None:
        _draw(found, model.name, plot)
    if as_json:
        print(json.dumps(found.as_json()))
    else:
        _show(found, model.name)


class _Images(NamedTuple):
    """pixels: (N, H, W, 3) uint8, RGB. labels: (N,); None: there are none. fps: of a clip. notes: what was left out."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64] | None
    fps: float | None
    notes: tuple[str, ...]

    def last(self, count: int) -> _Images:
        labels = None if self.labels is None else self.labels[-count:]
        return self._replace(pixels=self.pixels[-count:], labels=labels)


def _read(paths: list[Path], bundle: Bundle, *, labelled: bool, progress: Callable[[int, int], None]) -> _Images:
    """labelled: read labels, if there are any."""
    try:
        from spinn_stream.train.data.clips import is_clip, load_clip
        from spinn_stream.train.data.datasets import are_labelled, load_dataset, load_pictures
    except ImportError as error:
        raise ConfigError(f"reading images needs {error.name}: pip install 'spinn-stream[train]'") from error
    side = bundle.input.size
    clips = [path for path in paths if is_clip(path)]
    if clips and len(paths) > 1:
        raise ConfigError(f"got the clip {clips[0]} and {len(paths) - 1} more of --data, expected one clip alone")
    if clips:
        clip = load_clip(clips[0], side=side, progress=progress)
        damaged = (f"{clip.damaged} damaged parts of the clip gave no picture",) if clip.damaged else ()
        return _Images(clip.pixels, None, clip.fps, damaged)
    labelled = labelled and are_labelled(paths)
    if labelled:
        dataset = load_dataset(paths, side=side, classes=bundle.labels, progress=progress)
    else:
        dataset = load_pictures(paths, side=side, progress=progress)
    notes = []
    if dataset.skipped_total:
        first = dataset.skipped[0]
        notes.append(f"{dataset.skipped_total} images skipped, the first: {first.where}: {first.why}")
    if dataset.empty_classes:
        notes.append(f"{len(dataset.empty_classes)} classes have no image here")
    return _Images(dataset.images.pixels, dataset.images.labels if labelled else None, None, tuple(notes))


def _sorted(arguments: list[Path]) -> tuple[list[Path], list[Path]]:
    """The bundle, and parquet files that followed the first one of --data."""
    folders = [path for path in arguments if path.suffix != ".parquet"]
    if len(folders) > 1:
        raise ConfigError(f"got {len(folders)} bundles, expected one: {', '.join(map(str, folders))}")
    return folders, [path for path in arguments if path.suffix == ".parquet"]


def _show(found: Evaluation, name: str) -> None:
    console = plain_console()
    table = Table(title=f"{name} on {found.images} images", title_justify="left")
    columns = ("exit", "multiply-adds", "as the final exit", *(("top-1", "calibration error") * found.is_labelled))
    for column in columns:
        table.add_column(column, justify="left" if column == "exit" else "right")
    for e in found.exits:
        labelled = [] if e.top1 is None or e.ece is None else [f"{e.top1:.2%}", f"{e.ece:.3f}"]
        table.add_row(e.name, f"{e.macs_fraction:.1%}", f"{e.agreement:.2%}", *labelled)
    console.print(table)
    table = Table(title="thresholds", title_justify="left")
    for column in ("threshold", found.measure, "mean multiply-adds", *(e.name for e in found.exits)):
        table.add_column(column, justify="right")
    for row in found.rows[::5]:
        share = (f"{s:.0%}" for s in row.outcome.share)
        outcome = row.outcome
        table.add_row(f"{row.threshold:g}", f"{outcome.accuracy:.2%}", f"{outcome.mean_macs_fraction:.1%}", *share)
    console.print(table)
    if found.repeats is not None:
        r = found.repeats
        console.print(
            f"repeats, with the final exit on all other frames: {r.repeated:.1%} of the frames repeated, "
            f"{r.macs_fraction:.1%} of the multiply-adds, {r.agreement:.2%} as the final exit; "
            f"audits: {r.audits}, with another label: {r.disagreed}",
            soft_wrap=True,
        )


def _draw(found: Evaluation, name: str, path: Path) -> None:
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ConfigError("--plot needs matplotlib: pip install matplotlib") from error
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    axes.plot(
        [100 * r.outcome.mean_macs_fraction for r in found.rows], [100 * r.outcome.accuracy for r in found.rows],
        marker=".", label="thresholds",
    )  # fmt: skip
    axes.scatter(
        [100 * e.macs_fraction for e in found.exits],
        [100 * (e.agreement if e.top1 is None else e.top1) for e in found.exits],
        marker="x",
        label="one exit for all",
    )
    for e in found.exits:
        height = e.agreement if e.top1 is None else e.top1
        axes.annotate(e.name, (100 * e.macs_fraction, 100 * height), textcoords="offset points", xytext=(4, -10))
    axes.set(xlabel="mean multiply-adds, % of the whole backbone", ylabel=f"{found.measure}, %", title=name)
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)
