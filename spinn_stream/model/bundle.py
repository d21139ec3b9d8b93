"""A bundle: a model on disk, all that either end needs to run any part of it.

A folder with two files or three, and nothing else is read:

    manifest.json   names, shapes, costs, temperatures, labels, and the SHA-256 of the graph
    graph.onnx      one graph; every cut point is a tensor of that name, the logits of the exit at cut point
                    X are the tensor `exit:X`; weights are stored once, as float16
    codec.npz       the bases in which the `transform` codec codes activations; may be missing

The bundle's hash is the SHA-256 of manifest.json, which pins the others too. Both ends compare it before
they work together. Nothing in a bundle is executed: no pickle, no Python, no external data files.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BundleError, CodecError, ConfigError

if TYPE_CHECKING:
    from ..codec.basis import Basis

FORMAT = "spinn-bundle"
VERSION = 2
MANIFEST = "manifest.json"
GRAPH = "graph.onnx"
CODEC = "codec.npz"
EXIT_PREFIX = "exit:"

MAX_MANIFEST_BYTES = 4 * 1024 * 1024  # 200 labels and 19 cut points take 20 kB
MAX_GRAPH_BYTES = 1024 * 1024 * 1024  # VGG-16, the largest network anyone cuts, is 550 MB
MAX_CODEC_BYTES = 64 * 1024 * 1024  # 1 MB for the default bundle
MAX_CUT_POINTS = 1000
MAX_ELEMENTS = 64 * 1024 * 1024  # of one activation: 256 MiB as float32
MAX_ROWS = 10_000  # of a table

DEFAULT_BUNDLE = Path(__file__).parent.parent / "bundles" / "lite2-200"


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

    needed: confidence that each early exit needs to answer; None: it is not evaluated (see `thresholds`).
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
    """What sending from a cut point costs and keeps, measured on held-out images (see `tables`).

    cut: index of the cut point. codec: name and version. bytes: mean and 95th percentile of one payload.
    accuracy: of each exit behind the cut point (by its name) after coding and decoding.
    lost: for each row of the bundle's thresholds, how much less accurate coding makes a network whose frames are coded
    here unless an exit before it answers them; below 0 by chance alone. Empty: not measured.
    """

    cut: int
    codec: str
    bytes_mean: float
    bytes_p95: float
    accuracy: Mapping[str, float]
    lost: tuple[float, ...] = ()


@dataclass(frozen=True)
class InputSpec:
    """How a frame becomes the network's input: (pixel - mean) * scale, RGB, (3, size, size)."""

    size: int
    mean: float
    scale: float


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest was read and whose graph was found to be the one that the manifest names."""

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
        """What `pieces` gave: it is asked for every frame."""
        return {}

    def has_basis(self, cut: int) -> bool:
        """Whether activations at this cut point can be coded with `transform`."""
        return self.codec_path is not None and 0 < cut < self.last

    def basis(self, cut: int) -> Basis:
        """The basis in which activations at a cut point are coded. The first call for each reads it.

        Raises:
            CodecError: the bundle has none for it.
        """
        found = self._bases.get(cut)
        if found is None:
            if not self.has_basis(cut):
                raise CodecError(f"bundle {self.name} has no basis at split {cut}; use cnn-co, or `spinn calibrate` it")
            found = self._bases[cut] = read_basis(self, cut)
        return found

    @cached_property
    def _bases(self) -> dict[int, Basis]:
        return {}

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
        """Which row of `thresholds` a plan's threshold means; None: none, or it is above the last one."""
        if threshold is None:
            return None
        return next((n for n, row in enumerate(self.thresholds) if row.threshold >= threshold - 1e-9), None)

    def pieces(self, start: int, stop: int, exits: Collection[int] | None = None) -> list[tuple[int, int]]:
        """The way from one cut point to a later one, broken after the exits that are evaluated on it.

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


def load_bundle(path: Path = DEFAULT_BUNDLE) -> Bundle:
    """Read and check a bundle. Does not load an engine.

    Raises:
        BundleError: missing, damaged, of an unknown version, or not what its hashes say.
    """
    manifest_path, graph_path = path / MANIFEST, path / GRAPH
    for file, limit in ((manifest_path, MAX_MANIFEST_BYTES), (graph_path, MAX_GRAPH_BYTES)):
        try:
            size = file.stat().st_size
        except OSError as error:
            raise BundleError(f"{path} is not a bundle: {file.name}: {error.strerror}") from error
        if size > limit:
            raise BundleError(f"{file}: {size} bytes, at most {limit} are read")
    try:
        raw = manifest_path.read_bytes()
        manifest = json.loads(raw)
        graph_hash = hashlib.sha256(graph_path.read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: {error}") from error
    except ValueError as error:
        raise BundleError(f"{manifest_path} is not JSON: {error}") from error
    try:
        bundle = _parse(manifest, hashlib.sha256(raw).hexdigest(), graph_path)
        bundle = replace(bundle, codec_path=_codec_path(path, manifest.get("codec_sha256")))
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{manifest_path}: {type(error).__name__}: {error}") from error
    if manifest["graph_sha256"] != graph_hash:
        raise BundleError(
            f"{graph_path} is not the file its manifest names: SHA-256 {graph_hash[:12]}, "
            f"expected {str(manifest['graph_sha256'])[:12]}; copy the bundle again"
        )
    return bundle


def _codec_path(folder: Path, expected: Any) -> Path | None:
    if expected is None:
        return None
    path = folder / CODEC
    try:
        if path.stat().st_size > MAX_CODEC_BYTES:
            raise BundleError(f"{path}: {path.stat().st_size} bytes, at most {MAX_CODEC_BYTES} are read")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(f"{folder} is not a whole bundle: {path.name}: {error.strerror}") from error
    if found != expected:
        raise BundleError(
            f"{path} is not the file its manifest names: SHA-256 {found[:12]}, expected {str(expected)[:12]}; "
            "copy the bundle again"
        )
    return path


def read_basis(bundle: Bundle, cut: int) -> Basis:
    """One basis out of the bundle's file.

    Raises:
        BundleError: the file has none for this cut point, or another kind of one.
    """
    from ..codec.basis import from_arrays

    assert bundle.codec_path is not None
    try:
        with np.load(bundle.codec_path, allow_pickle=False) as arrays:
            return from_arrays(arrays, cut, bundle.cut_points[cut].shape)
    except Exception as error:  # numpy, zipfile and zlib raise theirs, and say so nowhere
        raise BundleError(f"{bundle.codec_path}, cut point {cut}: {type(error).__name__}: {error}") from error


def _parse(manifest: Any, digest: str, graph_path: Path) -> Bundle:
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"format is not {FORMAT!r}")
    if manifest.get("version") != VERSION:
        raise ValueError(f"version {manifest.get('version')!r}, this program reads version {VERSION}")
    cuts = tuple(
        CutPoint(_text(c["name"]), tuple(_whole(n, 1, MAX_ELEMENTS) for n in c["shape"]), _whole(c["macs"], 0, 10**15))
        for c in manifest["cut_points"]
    )
    if not 2 <= len(cuts) <= MAX_CUT_POINTS or len({c.name for c in cuts}) != len(cuts):
        raise ValueError(f"cut points: got {len(cuts)}, expected 2 to {MAX_CUT_POINTS} of different names")
    index = {c.name: i for i, c in enumerate(cuts)}
    exits = tuple(
        Exit(_text(e["cut"]), index[e["cut"]], _whole(e["macs"], 0, 10**15), _number(e["temperature"], 0.01, 100))
        for e in _rows(manifest["exits"])
    )
    if not exits or [e.cut for e in exits] != sorted({e.cut for e in exits}) or exits[-1].cut != len(cuts) - 1:
        raise ValueError("exits must be in order, one a cut point, the last at the last cut point")
    labels = tuple(_text(name) for name in manifest["labels"])
    size = _whole(manifest["input"]["size"], 8, 4096)
    if cuts[0].shape != (3, size, size) or cuts[-1].shape != (len(labels),):
        raise ValueError(
            f"first and last cut point have shapes {cuts[0].shape} and {cuts[-1].shape}, "
            f"expected {(3, size, size)} and {(len(labels),)}"
        )
    if any(c.elements > MAX_ELEMENTS for c in cuts):
        raise ValueError(f"a cut point has more than {MAX_ELEMENTS} elements")
    thresholds = tuple(_threshold_row(row, len(exits)) for row in _rows(manifest["thresholds"]))
    if not thresholds or [r.threshold for r in thresholds] != sorted({r.threshold for r in thresholds}):
        raise ValueError("thresholds must be one row or more, rising")
    return Bundle(
        name=_text(manifest["name"]),
        hash=digest,
        input=InputSpec(
            size, _number(manifest["input"]["mean"], -1e4, 1e4), _number(manifest["input"]["scale"], 0, 1e4)
        ),
        labels=labels,
        cut_points=cuts,
        exits=exits,
        default_threshold=_number(manifest["default_threshold"], 0, 1),
        thresholds=thresholds,
        payloads=tuple(
            _payload_row(row, index, {e.name for e in exits}, len(thresholds)) for row in _rows(manifest["payloads"])
        ),
        graph_path=graph_path,
    )


def _rows(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > MAX_ROWS:
        raise ValueError(f"got {value!r:.60}, expected a table of at most {MAX_ROWS} rows")
    return value


def _threshold_row(row: Any, exits: int) -> ThresholdRow:
    needed = tuple(None if n is None else _number(n, 0, 1) for n in row["needed"])
    share = tuple(_number(s, 0, 1) for s in row["share"])
    if len(needed) != exits - 1 or len(share) != exits:
        raise ValueError(f"a row of thresholds has {len(needed)} needs and {len(share)} shares for {exits} exits")
    return ThresholdRow(
        _number(row["threshold"], 0, 1), needed, _number(row["accuracy"], 0, 1),
        _number(row["mean_macs_fraction"], 0, 100), share,
    )  # fmt: skip


def _payload_row(row: Any, index: Mapping[str, int], exits: set[str], thresholds: int) -> PayloadRow:
    accuracy = {_text(name): _number(value, 0, 1) for name, value in row["accuracy"].items()}
    if accuracy.keys() - exits:
        raise ValueError(f"a payload's accuracy names exits {sorted(accuracy.keys() - exits)}, which are not there")
    lost = tuple(_number(value, -1, 1) for value in _rows(row.get("lost", [])))
    if lost and len(lost) != thresholds:
        raise ValueError(f"a payload has {len(lost)} losses for {thresholds} thresholds")
    return PayloadRow(
        index[row["cut"]], _text(row["codec"]), _number(row["bytes_mean"], 0, 1e9), _number(row["bytes_p95"], 0, 1e9),
        accuracy, lost,
    )  # fmt: skip


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise ValueError(f"got {value!r:.60}, expected a name of 1 to 200 characters")
    return value


def _whole(value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"got {value!r:.60}, expected a whole number from {low} to {high}")
    return value


def _number(value: Any, low: float, high: float) -> float:
    if type(value) not in (int, float) or not low <= value <= high:
        raise ValueError(f"got {value!r:.60}, expected a number from {low} to {high}")
    return float(value)
