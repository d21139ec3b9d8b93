"""Reads a bundle's manifest, and checks it and the files that it names before they are used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from spinn_stream.errors import BundleError
from spinn_stream.frame import InputSpec

from .bundle import CODEC, Bundle, CutPoint, Exit, PayloadRow, ThresholdRow

FORMAT = "spinn-bundle"
VERSION = 2
MANIFEST = "manifest.json"
GRAPH = "graph.onnx"
EXIT_PREFIX = "exit:"

MAX_MANIFEST_BYTES = 4 * 1024 * 1024  # 1,000 labels and 20 cut points with their tables take 200 kB
MAX_GRAPH_BYTES = 1024 * 1024 * 1024  # VGG-16, the largest network anyone cuts, is 550 MB
MAX_CODEC_BYTES = 64 * 1024 * 1024  # 1 MB for the default bundle
MAX_CUT_POINTS = 1000
MAX_ELEMENTS = 64 * 1024 * 1024  # of one activation: 256 MiB as float32
MAX_ROWS = 10_000  # of a table

BUNDLES = Path(__file__).parent.parent / "bundles"
DEFAULT_BUNDLE = BUNDLES / "lite-1000"


def load_bundle(path: Path = DEFAULT_BUNDLE) -> Bundle:
    """Read and check a bundle. Does not load an engine.

    Args:
        path: its folder, or the name of a built-in bundle, such as `lite-1000`; a folder of that name wins.

    Raises:
        BundleError: missing, damaged, of an unknown version, or not what its hashes say.
    """
    if not path.exists() and (BUNDLES / path / MANIFEST).exists():
        path = BUNDLES / path
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
