"""Activations of a frozen backbone, stored on disk, so that its exits learn without running it every epoch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spinn_stream.errors import ConfigError, DataError
from spinn_stream.runtime.engines.base import Engine
from spinn_stream.train.backbone.network import EarlyExitNetwork
from spinn_stream.train.data.images import LabelledImages, Scaling, augment, blend

STATE = "views.json"
LOGITS = "final"
BATCH = 64
"""Images that the engine runs at a time."""

SAVE_EVERY = 100
"""Batches between two notes of the progress: an interruption costs at most ten seconds of work."""

LARGEST = 6e4
"""Greatest magnitude that is stored: float16 ends at 65504."""

Halves = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Views:
    """A frozen backbone's activations for V augmented views of each of N images.

    activations: per exit, shallow to deep, (V, N, C, H, W). logits: (V, N, classes) of the final exit. Both are
    memory-mapped: an epoch reads one view of every image from the disk, or from free memory.
    """

    activations: tuple[Halves, ...]
    logits: Halves

    def answers(
        self, network: EarlyExitNetwork, rows: npt.NDArray[np.int64], epoch: int, device: str
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Logits of every exit and of the final exit, (B, classes) each; gradients reach the heads.

        Args:
            rows: (B,) positions of images. Each is seen in the next of its views every epoch, and neighbours in
                different ones.
        """
        at = (rows + epoch) % len(self.logits), rows
        exits = []
        for head, kept in zip(network.heads, self.activations, strict=True):
            x = torch.from_numpy(kept[at]).to(device, torch.float32)
            with torch.autocast(device, torch.bfloat16):
                exits.append(head(x.contiguous(memory_format=torch.channels_last)))
        return exits, torch.from_numpy(self.logits[at]).to(device)


def views_key(
    network: EarlyExitNetwork, images: LabelledImages, *, views: int, size: int, seed: int, blended: float = 0.0
) -> str:
    """Hash of all that decides the stored activations: weights of the backbone, images, how they are cropped."""
    digest = hashlib.sha256(json.dumps([views, size, seed, blended, images.pixels.shape]).encode())
    for tensor in network.stages.state_dict().values():
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).data)
    for i in range(0, len(images), 1000):
        digest.update(np.ascontiguousarray(images.pixels[i : i + 1000]).data)
    return digest.hexdigest()


def make_views(
    engine: Engine,
    exits: Sequence[tuple[str, int, tuple[int, ...]]],
    last: int,
    classes: int,
    images: LabelledImages,
    scaling: Scaling,
    folder: Path,
    *,
    key: str,
    views: int,
    size: int,
    seed: int,
    blended: float = 0.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Views:
    """Run the backbone over augmented views of the images and store the activations at the exits; or open stored ones.

    An interrupted run continues where it was. The crops depend on the seed alone.

    Args:
        engine: runs the backbone. exits: name, cut point and shape of each, shallow to deep. last: the last cut point.
        folder: gets a file for every exit and one for the logits: two bytes a number.
        key: see `views_key`.
        size: of the network's input, in pixels.
        blended: share of the crops over which another one is laid (see `images.blend`).
        progress: called with views of images done, and all.

    Raises:
        ConfigError: the folder holds activations of another backbone, of other images or of other cut points.
        DataError: too little room on the disk, or a folder that cannot be written; activations beyond float16.
    """
    count = len(images)
    shapes = {name: (views, count, *shape) for name, _, shape in exits} | {LOGITS: (views, count, classes)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done, stored = _state(folder, key, list(shapes))
        needed = [name for name in shapes if name not in stored]
        _check_room(folder, {name: shapes[name] for name in needed}, views)
        arrays = {name: _open(folder / f"{name}.npy", shape, new=name in needed) for name, shape in shapes.items()}
        per_view = -(-count // BATCH)
        for step in range(done, views * per_view):
            view, position = divmod(step, per_view)
            rows = slice(position * BATCH, min(count, (position + 1) * BATCH))
            generator = torch.Generator().manual_seed(seed * 10_000_000 + step)
            pixels = augment(torch.from_numpy(images.pixels[rows]), size, generator)
            pixels = blend(pixels, blended, generator) if blended else pixels
            y = ((pixels - scaling.mean) * scaling.scale).contiguous().numpy()
            start = 0
            for name, cut in [*((name, cut) for name, cut, _ in exits), (LOGITS, last)]:
                y, _ = engine.run(start, cut, y, exit=False)
                start = cut
                if not np.abs(y).max() < LARGEST:
                    raise DataError(f"activations at {name} reach beyond {LARGEST:g}; train without --views")
                arrays[name][view, rows] = y
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == views * per_view:
                for array in arrays.values():
                    array.flush()
                _write_state(folder, key, list(shapes), step + 1)
                progress(view * count + rows.stop, views * count)
        opened = [_open(folder / f"{name}.npy", shape, new=False) for name, shape in shapes.items()]
    except OSError as error:
        raise DataError(f"cannot keep activations in {folder}: {error.strerror or error}") from error
    return Views(tuple(opened[:-1]), opened[-1])


def _state(folder: Path, key: str, names: list[str]) -> tuple[int, list[str]]:
    """Batches done, and the names of the files that there are."""
    path = folder / STATE
    if not path.exists():
        return 0, []
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        done, theirs, stored = int(found["batches"]), str(found["key"]), [str(name) for name in found["files"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); remove {folder} to begin anew") from error
    if theirs != key:
        raise ConfigError(
            f"{folder} holds activations of another backbone, of other images or in other views; "
            "give the same options, remove it, or choose another --work folder"
        )
    missing = [name for name in names if name not in stored]
    if missing:
        raise ConfigError(
            f"{folder} holds activations at {', '.join(stored)}, not at {', '.join(missing)}; "
            "remove it, or choose another --work folder"
        )
    return done, stored


def _write_state(folder: Path, key: str, names: list[str], batches: int) -> None:
    partial = folder / (STATE + ".partial")
    partial.write_text(json.dumps({"key": key, "files": names, "batches": batches}))
    partial.replace(folder / STATE)


def _check_room(folder: Path, shapes: dict[str, tuple[int, ...]], views: int) -> None:
    wanted = sum(2 * int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise DataError(
            f"the activations of {views} views take {wanted / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB free; "
            "expected fewer --views or exits, or a --work folder on another disk"
        )


def _open(path: Path, shape: tuple[int, ...], *, new: bool) -> Any:
    """The array in this file. A new one gets its space at once, since a full disk would kill the process later."""
    if not new:
        array = np.load(path, mmap_mode="r+")
        if array.shape != shape or array.dtype != np.float16:
            raise DataError(f"{path} holds {array.dtype} {array.shape}, expected float16 {shape}")
        return array
    created: Any = np.lib.format.open_memmap(path, "w+", np.float16, shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return created
