"""A bundle: a model on disk, all that either end needs to run any part of it.

A folder of two or three files; other files are not read:

    manifest.json   names, shapes, costs, temperatures, labels, and the SHA-256 of the graph
    graph.onnx      one graph; every cut point is a tensor of that name, the logits of the exit at cut point
                    X are the tensor `exit:X`; weights are stored once, as float16
    codec.npz       the bases in which the `transform` codec codes activations; may be missing

The bundle's hash is the SHA-256 of manifest.json, which pins the others too. Both ends compare it before
they work together. Nothing in a bundle is executed: no pickle, no Python, no external data files.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spinn_stream.errors import BundleError, ConfigError
from spinn_stream.frame import InputSpec

CODEC = "codec.npz"


@dataclass(frozen=True)
class CutPoint:
    """A place in the graph where one tensor crosses.

    shape: of one activation without the batch axis, (C, H, W), or (classes,) at the last one.
    macs: multiply-adds of the backbone from the input to here, exit heads not counted.
    """

    name: str
    shape: tuple[int, ...]
    macs: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Exit:
    """A classifier at a cut point; the last one is the backbone's own.

    cut: index of its cut point. macs: of its head alone. temperature: its logits are divided by this
    before softmax, so that confidence means the chance of being right (Guo et al. 2017).
    """

    name: str
    cut: int
    macs: int
    temperature: float


@dataclass(frozen=True)
class ThresholdRow:
    """What one threshold of a plan means, and what it gave on held-out images.

    needed: confidence that each early exit needs to answer; None: the exit is not evaluated (see `thresholds`).
    accuracy: share of right answers. mean_macs_fraction: mean multiply-adds, heads included, over the whole
    backbone's. share: of the images that each exit answered, the final one last.
    """

    threshold: float
    needed: tuple[float | None, ...]
    accuracy: float
    mean_macs_fraction: float
    share: tuple[float, ...]


@dataclass(frozen=True)
class PayloadRow:
    """What sending from a cut point costs, and the accuracy it keeps, measured on held-out images (see `tables`).

    cut: index of the cut point. codec: name and version. bytes: mean and 95th percentile of one payload.
    accuracy: of each exit behind the cut point (by its name) after coding and decoding.
    lost: for each row of the bundle's thresholds, the loss of accuracy if the frames that no earlier exit answers are
    coded here; below 0 by chance alone. Empty: not measured.
    """

    cut: int
    codec: str
    bytes_mean: float
    bytes_p95: float
    accuracy: Mapping[str, float]
    lost: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle whose manifest was read, and whose graph is the one that the manifest names.

    Two objects are never equal: compare `hash`.
    """

    name: str
    hash: str
    input: InputSpec
    labels: tuple[str, ...]
    cut_points: tuple[CutPoint, ...]
    exits: tuple[Exit, ...]
    default_threshold: float
    thresholds: tuple[ThresholdRow, ...]
    payloads: tuple[PayloadRow, ...]
    graph_path: Path
    codec_path: Path | None = None

    @property
    def last(self) -> int:
        """The split that runs everything on the device."""
        return len(self.cut_points) - 1

    @cached_property
    def exit_at(self) -> Mapping[int, Exit]:
        """Index of the cut point -> the exit there."""
        return {e.cut: e for e in self.exits}

    @cached_property
    def _ways(self) -> dict[tuple[int, int, frozenset[int] | None], list[tuple[int, int]]]:
        """Results of `pieces`, which is called for every frame."""
        return {}

    def has_basis(self, cut: int) -> bool:
        """Whether activations at this cut point can be coded in a basis of their own (see `codec.basis`)."""
        return self.codec_path is not None and 0 < cut < self.last

    @contextmanager
    def codec_arrays(self) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
        """The arrays of `codec.npz`, by name. Each is read when it is asked for. If it is damaged, numpy's errors come.

        Raises:
            BundleError: the bundle has no such file.
        """
        if self.codec_path is None:
            raise BundleError(f"bundle {self.name} has no {CODEC}")
        with np.load(self.codec_path, allow_pickle=False) as arrays:
            yield arrays

    def split_index(self, text: str) -> int:
        """The cut point that `--split NAME|N` means.

        Raises:
            ConfigError: no cut point of that name or number.
        """
        names = [c.name for c in self.cut_points]
        if text in names:
            return names.index(text)
        if text.isdecimal() and int(text) <= self.last:
            return int(text)
        raise ConfigError(
            f"split {text!r} is not in bundle {self.name}; expected 0 to {self.last} or one of {', '.join(names)}"
        )

    def needed(self, threshold: float | None) -> Mapping[int, float]:
        """The early exits that may answer under a plan's threshold: index of the cut point -> confidence needed.

        A threshold between two rows of the table takes the higher one's; None: no early exit answers.
        """
        place = self.threshold_row(threshold)
        if place is None:
            return {}
        needed = self.thresholds[place].needed
        return {e.cut: n for e, n in zip(self.exits[:-1], needed, strict=True) if n is not None}

    def threshold_row(self, threshold: float | None) -> int | None:
        """The row of `thresholds` for a plan's threshold; None: the threshold is None, or above the last row's."""
        if threshold is None:
            return None
        return next((n for n, row in enumerate(self.thresholds) if row.threshold >= threshold - 1e-9), None)

    def pieces(self, start: int, stop: int, exits: Collection[int] | None = None) -> list[tuple[int, int]]:
        """The pieces from one cut point to a later one: one ends after each evaluated exit.

        Args:
            exits: cut points of those exits; None: all.

        >>> bundle.pieces(0, 9)  # with exits at 5 and 8
        [(0, 5), (5, 8), (8, 9)]
        >>> bundle.pieces(0, 9, {8})
        [(0, 8), (8, 9)]
        """
        key = start, stop, None if exits is None else frozenset(exits)
        if key in self._ways:
            return list(self._ways[key])
        if not 0 <= start <= stop <= self.last:
            raise ConfigError(f"no way from cut point {start} to {stop} in 0..{self.last}")
        ends = [e.cut for e in self.exits if start < e.cut < stop and (exits is None or e.cut in exits)] + [stop]
        starts = [start, *ends[:-1]]
        self._ways[key] = [(a, b) for a, b in zip(starts, ends, strict=True) if a < b]
        return list(self._ways[key])
