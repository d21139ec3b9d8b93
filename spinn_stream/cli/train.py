"""`spinn train`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from spinn_stream.errors import ConfigError
from spinn_stream.text import printable

from .options import plain_console

IMAGE_SIZE = 128  # pixels, where neither the user nor a bundle says it


def train(
    backbone: Annotated[
        str, typer.Option(help="NAME, timm:NAME, torchvision:NAME, package.module:function or bundle:FOLDER")
    ],
    data: Annotated[list[Path], typer.Option(help="parquet files, folders of them, or a folder per class")],
    out: Annotated[Path, typer.Option(help="folder of the bundle")],
    more: Annotated[
        list[Path] | None, typer.Argument(help="more of --data, as a shell's * gives", metavar="DATA")
    ] = None,
    exits: Annotated[
        int | None, typer.Option(help="early exits, at equal distances of multiply-adds", show_default="6")
    ] = None,
    exit_at: Annotated[str | None, typer.Option(help="their cut points instead: NAME,NAME,...")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="side of the network's input in pixels", show_default="128, or the bundle's")
    ] = None,
    train_sizes: Annotated[
        str | None, typer.Option(help="sizes while training: 96:0.6,128:1 is 96 until 60 %", show_default="image-size")
    ] = None,
    epochs: Annotated[float, typer.Option(help="passes over the images; a fraction is allowed")] = 4.0,
    batch_size: Annotated[int, typer.Option(help="images a step")] = 64,
    lr: Annotated[float, typer.Option(help="peak learning rate of the backbone")] = 4e-4,
    lr_heads: Annotated[float, typer.Option(help="peak learning rate of exit heads and a new classifier")] = 2e-3,
    exit_weight: Annotated[float, typer.Option(help="weight of an exit's loss beside the final one's 1")] = 0.7,
    distillation: Annotated[float, typer.Option(help="share of an exit's loss that the final exit teaches")] = 0.5,
    label_smoothing: Annotated[float, typer.Option(help="of the hard labels")] = 0.05,
    distillation_temperature: Annotated[float, typer.Option(help="temperature that softens both answers for it")] = 2.0,
    keep_head: Annotated[
        bool, typer.Option("--keep-head", help="the backbone's own classifier stays and teaches the exits: no labels")
    ] = False,
    blended: Annotated[
        float, typer.Option(help="with --keep-head: share of the crops over which another one is laid")
    ] = 0.0,
    calibrate_on: Annotated[
        list[Path] | None, typer.Option(help="labelled images for calibration instead of those that are held out")
    ] = None,
    freeze: Annotated[str, typer.Option(help="train nothing up to this cut point; `backbone`: exits alone")] = "",
    views: Annotated[
        int, typer.Option(metavar="N", help="with --freeze backbone: run it on N crops of each image, once, keep them")
    ] = 0,
    keep_layout: Annotated[
        bool, typer.Option("--keep-layout", help="neither crop nor mirror: the labels say where something is")
    ] = False,
    no_pretrained: Annotated[bool, typer.Option("--no-pretrained", help="begin from random weights")] = False,
    start: Annotated[Path | None, typer.Option(help="checkpoint of the same backbone to begin from")] = None,
    held_out: Annotated[float, typer.Option(help="images for calibration: a share below 1, or a number")] = 0.04,
    payload_images: Annotated[
        int, typer.Option(min=1, help="measure payloads, which takes longest, on this number of those")
    ] = 1000,
    classes: Annotated[
        Path | None, typer.Option(help="JSON list of the classes' names in label order, or object with them as keys")
    ] = None,
    seed: Annotated[int, typer.Option(help="seed of weights, order and crops")] = 1,
    work: Annotated[
        Path | None, typer.Option(help="folder of checkpoint and log, to continue from", show_default="OUT.work")
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="steps between two checkpoints")] = 100,
    name: Annotated[str | None, typer.Option(help="the bundle's name", show_default="OUT's")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    threads: Annotated[int | None, typer.Option(help="threads of the CPU", show_default="all cores")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:  # fmt: skip
    """Make an early-exit bundle of any CNN: find cut points, attach exits, train, calibrate, measure its tables."""
    try:
        import torch

        from spinn_stream.train.backbone.from_bundle import input_size, source_bundle
        from spinn_stream.train.data.datasets import load_dataset
        from spinn_stream.train.generator import Recipe, check_data, generate, prepare
        from spinn_stream.train.training import Progress, TrainingConfig, keep_freed_memory
    except ImportError as error:
        raise ConfigError(f"training needs {error.name}: pip install 'spinn-stream[train]'") from error
    console = plain_console(stderr=True)
    source = source_bundle(backbone)
    if source is not None:
        image_size = input_size(source, image_size)
    elif image_size is None:
        image_size = IMAGE_SIZE
    names = _names(classes) or (list(source.labels) if keep_head and source is not None else None)
    is_trained = source is not None or start is not None
    first_weight = exit_weight if is_trained else min(0.3, exit_weight)  # trained exits need no gentle beginning
    try:
        config = TrainingConfig(
            epochs=epochs, batch_size=batch_size, image_sizes=_sizes(train_sizes, image_size), lr_backbone=lr,
            lr_heads=lr_heads, exit_weight_start=first_weight, exit_weight_end=exit_weight,
            distillation=distillation, distillation_temperature=distillation_temperature,
            label_smoothing=label_smoothing, freeze=freeze or ("backbone" if keep_head else ""), keep_head=keep_head,
            blended=blended, views=views, keep_layout=keep_layout, seed=seed,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(str(error)) from error
    recipe = Recipe(
        backbone=backbone, name=name or out.resolve().name, image_size=image_size, exits=exits,
        exit_at=None if exit_at is None else tuple(exit_at.split(",")), held_out=held_out,
        pretrained=not no_pretrained and start is None, training=config,
        start=None if start is None else str(start),
    )  # fmt: skip
    keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    where = _device(device, torch.cuda.is_available())
    with Bar(*Bar.get_default_columns(), console=console, transient=True) as bar:
        task = bar.add_task("reading images", total=None)
        side = max(image_size, *(size for _, size in config.image_sizes))
        dataset = (_read_unlabelled if keep_head else load_dataset)(
            [*data, *(more or [])], side=side, classes=names,
            progress=lambda n, total: bar.update(task, completed=n, total=total),
        )  # fmt: skip
        other = load_dataset(calibrate_on, side=image_size, classes=dataset.classes) if calibrate_on else None
    if not keep_head:
        check_data(dataset)
    _say_skipped(console, dataset)
    prepared = prepare(recipe, len(dataset.classes))
    cuts = prepared.network.cuts
    macs = [f"{cuts[c].name} ({cuts[c].macs / cuts[-1].macs:.0%})" for c in prepared.network.exit_cuts]
    console.print(
        f"{len(dataset.images)} images of {len(dataset.classes)} classes; {len(cuts)} cut points "
        f"({len(prepared.pruned)} pruned), {cuts[-1].macs / 1e6:.1f} M multiply-adds; exits at {', '.join(macs)}",
        soft_wrap=True,
        highlight=False,
    )
    for text in prepared.uncounted:
        console.print(f"not counted: {text}", style="yellow")
    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1)

        def report(p: Progress) -> None:
            text = (
                f"step {p.step}/{p.steps}, loss {p.loss:.2f}, {p.images_per_s:.0f} img/s, {p.minutes_left:.0f} min left"
            )
            bar.update(task, completed=p.step, total=p.steps, description=text)

        bundle = generate(
            recipe, prepared, dataset, out=out, work=work or out.with_name(out.name + ".work"), device=where,
            report=report, say=lambda text: console.print(text, soft_wrap=True),
            checkpoint_every=checkpoint_every, calibrate_on=None if other is None else other.images,
            payload_images=payload_images,
        )  # fmt: skip
    console.print(
        f"wrote {out}: {bundle.name}, {len(bundle.exits)} exits, default threshold {bundle.default_threshold}",
        soft_wrap=True,
        highlight=False,
    )


def _read_unlabelled(paths: list[Path], *, side: int, classes: list[str] | None, progress: Any) -> Any:
    """Images without labels, which the kept head answers, and the names of its classes."""
    from spinn_stream.train.data.datasets import load_pictures

    if classes is None:
        raise ConfigError("--keep-head needs the names of the head's classes: --classes FILE.json")
    return replace(load_pictures(paths, side=side, progress=progress), classes=tuple(classes))


def _sizes(text: str | None, image_size: int) -> tuple[tuple[float, int], ...]:
    if text is None:
        return ((1.0, image_size),)
    try:
        pairs = [part.split(":") for part in text.split(",")]
        return tuple((float(until), int(size)) for size, until in pairs)
    except ValueError:
        raise ConfigError(f"--train-sizes is {text!r}, expected SIZE:SHARE,... such as 96:0.6,128:1") from None


def _device(text: str, has_cuda: bool) -> str:
    if text not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device is {text!r}, expected auto, cpu or cuda")
    if text == "cuda" and not has_cuda:
        raise ConfigError(
            "--device cuda: this torch sees no CUDA device; leave out --device, or install its CUDA build"
        )
    return "cuda" if has_cuda and text != "cpu" else "cpu"


def _names(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    try:
        rows: Any = json.loads(path.read_text())
        return [row if isinstance(row, str) else str(row["name"]) for row in rows]
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f'{path}: expected a JSON list of names, or of {{"name": ...}}: {error}') from error


def _say_skipped(console: Console, dataset: Any) -> None:
    if dataset.skipped_total:
        first = dataset.skipped[0]
        console.print(Text(f"{dataset.skipped_total} images skipped", "yellow"), end=", ")
        console.print(printable(f"the first: {first.where}: {first.why}"), soft_wrap=True)
