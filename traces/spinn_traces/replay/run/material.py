"""The frames that are played: a clip as it is, or labelled images in a shuffled order, with their right labels."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spinn_client.sources.folder import is_picture, pictures_in
from spinn_client.sources.names import masked
from spinn_client.sources.registry import kind_of
from spinn_stream.bundle import Bundle
from spinn_stream.errors import ConfigError, DataError
from spinn_stream.train.data.decoding import decode_square
from spinn_stream.train.data.sources import CLASSES_FILE, FolderSource, Source, open_sources

MAX_FRAMES = 200_000


@dataclass(frozen=True)
class Material:
    """The frames of a run, played again and again until it ends.

    source: as `spinn run --source` takes it. name: for people. content: equal for equal material. truth: the right
    label of each frame of a round; None: not known.
    """

    source: str
    name: str
    content: str
    truth: tuple[str, ...] | None = None


def prepare(text: str, bundle: Bundle, folder: Path, *, count: int, seed: int) -> Material:
    """The material that `--source` names, ready to be played.

    text: a clip, `demo`, a folder of images, or labelled images: a parquet file with an image and a label column (or
        a folder of them), or a folder with one folder for each class.
    folder: for labelled images; its content is removed, and at most `count` images are written there.

    Raises:
        ConfigError, DataError: it is missing, or its labels do not fit the bundle; says which.
    """
    kind = kind_of(text)
    if kind is not None and kind.name == "demo":
        return Material(text, "demo", "demo")
    if kind is not None and kind.live:
        raise ConfigError(
            f"--source {masked(text)} is live, and every policy must see the same frames; record it, and give the file"
        )
    path = Path(text)
    if not text or not path.exists():
        raise ConfigError(
            f"--source {text!r}: no such file or folder; expected a clip, demo, a folder of images, "
            "a parquet file of images and labels, or a folder with one folder for each class"
        )
    if not _is_labelled(path):
        return Material(text, path.name, _content(path))
    if not 1 <= count <= MAX_FRAMES:
        raise ConfigError(f"the run needs {count} frames, expected 1 to {MAX_FRAMES}: make it shorter or --fps lower")
    if importlib.util.find_spec("pyarrow") is None and not any(entry.is_dir() for entry in _entries(path)):
        raise ConfigError(f"reading {path} needs pyarrow: pip install 'spinn-traces[parquet]'")
    chosen = _choose(open_sources(path), bundle, count, seed)
    return _lay_out(chosen, bundle, path.name, folder)


def _is_labelled(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() == ".parquet"
    entries = _entries(path)
    if any(entry.is_dir() or entry.suffix.lower() == ".parquet" for entry in entries):
        return True
    return not any(map(is_picture, entries))  # empty: its reader says so


def _entries(path: Path) -> list[Path]:
    """What is in a folder, or the file itself; without what is hidden."""
    return [path] if path.is_file() else [entry for entry in path.iterdir() if not entry.name.startswith(".")]


def _content(path: Path) -> str:
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else pictures_in(path):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Chosen:
    """A labelled image. position: which frame of the round it is. label: of the bundle, its number."""

    position: int
    label: int
    image: bytes
    where: str


def _choose(sources: Sequence[Source], bundle: Bundle, count: int, seed: int) -> Iterator[_Chosen]:
    """At most `count` images, chosen and ordered by the seed; they come in the order of the files."""
    labels = [_labels(source, bundle) for source in sources]
    every = np.concatenate(labels)
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(every >= 0))[:count]
    if len(rows) == 0:
        raise DataError(f"{sources[0].path}: no image has a label")
    position = dict(zip(rows.tolist(), range(len(rows)), strict=True))
    first = 0
    for source, own in zip(sources, labels, strict=True):
        for row, image in enumerate(source.encoded()):
            if first + row in position:
                data = image.read_bytes() if isinstance(image, Path) else image or b""
                yield _Chosen(position[first + row], int(own[row]), data, source.where(row))
        first += len(own)


def _labels(source: Source, bundle: Bundle) -> np.ndarray:
    """(N,) which of the bundle's labels each image has; -1: the image has none."""
    labels = np.full(len(source.codes), -1, np.int64)
    wnids = _wnids(source.path) if isinstance(source, FolderSource) else {}
    for code in np.unique(source.codes[source.labelled]).tolist():
        rows = source.labelled & (source.codes == code)
        where = source.where(int(rows.argmax()))
        if source.names is None:
            if not 0 <= code < len(bundle.labels):
                raise DataError(f"{where}: label {code}, expected 0 to {len(bundle.labels) - 1}, as in {bundle.name}")
            labels[rows] = code
        elif not 0 <= code < len(source.names):
            raise DataError(f"{where}: label {code}, expected 0 to {len(source.names) - 1}")
        else:
            labels[rows] = _label(source.names[code], bundle, wnids, where)
    return labels


def _label(name: str, bundle: Bundle, wnids: dict[str, str], where: str) -> int:
    """The class of the bundle that a name means: the label's text, its number, or its WordNet id."""
    meant = wnids.get(name, name)
    if meant in bundle.labels:
        return bundle.labels.index(meant)
    plain = [label.lower().replace("_", " ") for label in bundle.labels]
    if meant.lower().replace("_", " ") in plain:
        return plain.index(meant.lower().replace("_", " "))
    if meant.isdecimal() and int(meant) < len(bundle.labels):
        return int(meant)
    raise DataError(
        f"{where}: class {name!r:.60} is not in bundle {bundle.name}; expected one of its {len(bundle.labels)} labels "
        f"({', '.join(bundle.labels[:2])}, ...), the number of one, or a WordNet id that {CLASSES_FILE} explains"
    )


def _wnids(folder: Path) -> dict[str, str]:
    """WordNet id -> label, of a classes.json in the folder or beside it."""
    for file in (folder / CLASSES_FILE, folder.resolve().parent / CLASSES_FILE):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return {str(entry["wnid"]): str(entry["name"]) for entry in json.loads(file.read_text("utf-8"))}
    return {}


def _lay_out(chosen: Iterator[_Chosen], bundle: Bundle, name: str, folder: Path) -> Material:
    """Write each image's own bytes as a frame, so that their names sort in the order they are played in."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    truth: dict[int, str] = {}
    digests: dict[int, bytes] = {}
    for one in chosen:
        checked = decode_square(one.image, 1)
        if isinstance(checked, str):
            raise DataError(f"{one.where}: {checked}")
        (folder / f"{one.position:06d}{_extension(one.image, one.where)}").write_bytes(one.image)
        truth[one.position] = bundle.labels[one.label]
        digests[one.position] = hashlib.sha256(one.image).digest()
    order = range(len(truth))
    content = hashlib.sha256(b"".join(digests[k] + truth[k].encode() for k in order)).hexdigest()
    return Material(str(folder), name, content, tuple(truth[k] for k in order))


def _extension(image: bytes, where: str) -> str:
    for start, extension in ((b"\xff\xd8", ".jpg"), (b"\x89PNG", ".png"), (b"RIFF", ".webp"), (b"BM", ".bmp")):
        if image.startswith(start):
            return extension
    raise DataError(f"{where}: not a JPEG, PNG, WebP or BMP image")
