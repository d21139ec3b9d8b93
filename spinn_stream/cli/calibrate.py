"""`spinn calibrate`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress as Bar

from spinn_stream.bundle import MANIFEST, load_bundle
from spinn_stream.errors import ConfigError
from spinn_stream.text import printable

from .options import plain_console


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="folder of the bundle")],
    data: Annotated[
        list[Path], typer.Option(help="the images it was trained on, or others: as for spinn train; labelled or not")
    ],
    out: Annotated[Path, typer.Option(help="folder of the new bundle; may be the same")],
    more: Annotated[
        list[Path] | None, typer.Argument(help="more of --data, as a shell's * gives", metavar="DATA")
    ] = None,
    held_out: Annotated[float, typer.Option(help="the last images, as --held-out of its training")] = 0.04,
    whole: Annotated[
        bool, typer.Option("--all", help="all images, instead of the last: it was trained on none of them")
    ] = False,
    payload_images: Annotated[
        int, typer.Option(min=1, help="measure payloads, which takes longest, on this number of the images")
    ] = 1000,
    payloads_only: Annotated[
        bool, typer.Option("--payloads-only", help="keep temperatures, thresholds and codec; measure payloads anew")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:  # fmt: skip
    """Fit temperatures, thresholds and the codec of a bundle anew, and measure its tables; its weights stay.

    For images without labels, the final exit's answer counts as right.
    """
    try:
        from spinn_stream.train.data.datasets import are_labelled, load_dataset, load_pictures
        from spinn_stream.train.generator import split_held_out
        from spinn_stream.train.pack.calibrate import calibrate as fit
    except ImportError as error:
        raise ConfigError(f"calibrating needs {error.name}: pip install 'spinn-stream[train]'") from error
    model = load_bundle(bundle)
    console = plain_console(stderr=True)
    with Bar(console=console, transient=True) as bar:
        task = bar.add_task("reading images", total=None)

        def read(n: int, total: int) -> None:
            bar.update(task, completed=n, total=total)

        paths, side = [*data, *(more or [])], model.input.size
        is_labelled = are_labelled(paths)
        if is_labelled:
            dataset = load_dataset(paths, side=side, classes=model.labels, progress=read)
        else:
            dataset = load_pictures(paths, side=side, progress=read)
    images = dataset.images if whole else split_held_out(dataset.images, held_out)[1]
    if out.resolve() != bundle.resolve():
        out.mkdir(parents=True, exist_ok=True)
        codec = [model.codec_path.name] if payloads_only and model.codec_path is not None else []
        for name in (MANIFEST, model.graph_path.name, *codec):
            shutil.copyfile(bundle / name, out / name)
        if not payloads_only:
            _forget_codec(out)
    with Bar(console=console, transient=True) as bar:
        task = bar.add_task("cut points", total=None)
        fit(
            out, images, is_labelled=is_labelled, payload_images=payload_images, payloads_only=payloads_only,
            say=lambda text: console.print(text, soft_wrap=True),
            progress=lambda n, total: bar.update(task, completed=n, total=total),
        )  # fmt: skip
    found = load_bundle(out)
    console.print(printable(f"wrote {out}: {found.name}, {found.hash[:12]}"), soft_wrap=True)


def _forget_codec(folder: Path) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    manifest.pop("codec_sha256", None)
    path.write_text(json.dumps(manifest, indent=1) + "\n")
