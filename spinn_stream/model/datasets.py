"""Labelled images from disk: parquet files of (image bytes, label), and folders with one subfolder per class.

Two passes. The first reads labels alone and settles what the classes are, so that a wrong label is told
before minutes of decoding. The second streams the images through a few threads into one array.

What is wrong with one image (damaged, without label) is a skip that is counted; what is wrong with the data
(a label that no class has, a damaged file, more than one skip in ten) is an error.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, DataError
from .decoding import PictureArray, decode_square
from .images import LabelledImages

IMAGE_COLUMNS = ("image", "img", "bytes")
LABEL_COLUMNS = ("label", "labels", "class")
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
CLASSES_FILE = "classes.json"

MAX_CLASSES = 100_000  # ImageNet-21k, the largest set in common use, has 21841
MAX_SKIPPED_SHARE = 0.1
SKIPS_KEPT = 20
CHUNK = 64  # images in flight: encoded ones only, each is cut to size in the thread that decodes it
THREADS = min(4, os.cpu_count() or 1)  # OpenCV decodes outside Python's lock; beyond four, reading is the limit

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_EXPECTED = "expected a parquet file, a folder of them, or a folder with one subfolder of images per class"


@dataclass(frozen=True)
class Skipped:
    """One image that was left out. where: "train-0.parquet row 17", rows counted from 0, or "folder/class/1.jpg"."""

    where: str
    why: str


@dataclass(frozen=True)
class Dataset:
    """Images in the order of the files: those of a folder come class by class, so shuffle before holding any out.

    classes: names; `images.labels` are positions in it. skipped: the first twenty. skipped_total: all of them.
    """

    images: LabelledImages
    classes: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    skipped_total: int

    @property
    def empty_classes(self) -> tuple[str, ...]:
        """The classes without any image."""
        counts = np.bincount(self.images.labels, minlength=len(self.classes))
        return tuple(name for name, count in zip(self.classes, counts, strict=True) if count == 0)


def load_dataset(
    paths: Sequence[Path],
    *,
    side: int,
    classes: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Read and decode any mix of parquet files, folders of parquet files, and folders with a subfolder per class.

    Images that are all square, of one size and no larger than `side` stay as they are; otherwise each becomes
    its central square of side x side, as a camera frame does (`spinn_stream.frame.crop`).

    Args:
        side: largest side of the result in pixels.
        classes: names in the order that labels shall have. By default what comes with the data says it:
            Hugging Face's metadata, a classes.json beside the file, the names of folders or the labels that
            are names (sorted), or else "0", "1", ... up to the highest label.
        progress: called with (images done, images in all), skips included.

    Raises:
        ConfigError: a path, or a mix of paths, that cannot be meant; the message says what to pass.
        DataError: a damaged parquet file, columns or labels that do not fit, no images, more than a tenth of
            them skipped, or more than memory holds.
    """
    if not paths or side < 1 or (classes is not None and not classes):
        raise ConfigError(f"got {len(paths)} paths, side {side} and classes {classes}; expected at least one of each")
    sources = [source for path in paths for source in _open(Path(path))]
    for path, times in Counter(source.path.resolve() for source in sources).items():
        if times > 1:
            raise ConfigError(f"{path} was given {times} times, alone or with its folder; pass it once")
    names = _agree(sources, classes)
    numbers = [_numbered(source, names) for source in sources]
    total = sum(len(n) for n in numbers)
    if total == 0:
        raise DataError(f"no images in {', '.join(map(str, paths))}; {_EXPECTED} ({_extensions()})")

    pictures, labels, skips = PictureArray(total, side), np.empty(total, np.int64), _Skips(total)
    with ThreadPoolExecutor(THREADS) as pool:
        for source, numbered in zip(sources, numbers, strict=True):
            stream, row = source.encoded(), 0
            while chunk := list(islice(stream, CHUNK)):
                wanted = [image if numbered[row + i] >= 0 else None for i, image in enumerate(chunk)]
                for picture in pool.map(lambda image: decode_square(image, side), wanted):
                    if numbered[row] < 0:
                        skips.add(source.where(row), source.unlabelled)
                    elif isinstance(picture, str):
                        skips.add(source.where(row), picture)
                    else:
                        labels[pictures.count] = numbered[row]
                        pictures.add(picture)
                    row += 1
                if progress is not None:
                    progress(pictures.count + skips.total, total)
    images = LabelledImages(pictures.taken(), labels[: pictures.count])
    return Dataset(images, names, tuple(skips.first), skips.total)


# -- where images come from ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """A parquet file or a folder of classes, its labels read and its images not yet.

    codes: (N,) labels as they stand there, anything where `labelled` is false.
    names: what a code means, None where it is the number of a class and nothing names it.
    declared: all classes in order, where something with the data says so.
    """

    path: Path
    codes: npt.NDArray[np.int64]
    labelled: npt.NDArray[np.bool_]  # (N,)
    names: tuple[str, ...] | None
    declared: tuple[str, ...] | None

    unlabelled = "has no label"

    def where(self, row: int) -> str:
        raise NotImplementedError

    def encoded(self) -> Iterator[bytes | Path | None]:
        """Each image in turn: its bytes, the file they are in, or None where there are none."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Folder(_Source):
    files: tuple[Path, ...]

    unlabelled = "lies beside the class folders, not in one"

    def where(self, row: int) -> str:
        return str(Path(self.path.resolve().name) / self.files[row].relative_to(self.path))

    def encoded(self) -> Iterator[bytes | Path | None]:
        yield from self.files


@dataclass(frozen=True)
class _Parquet(_Source):
    image: str  # its column
    layout: tuple[str, ...]  # image column, label column, label kind: what the files of a folder must agree in

    def where(self, row: int) -> str:
        return f"{self.path.name} row {row}"

    def encoded(self) -> Iterator[bytes | Path | None]:
        import pyarrow.compute as pc

        with _parquet_file(self.path) as file:
            for batch in file.iter_batches(batch_size=CHUNK, columns=[self.image]):
                column = batch.column(0)
                yield from (pc.struct_field(column, "bytes") if column.type.num_fields else column).to_pylist()


def _open(path: Path) -> list[_Source]:
    if path.is_file():
        return [_open_parquet(path)]
    if not path.is_dir():
        raise ConfigError(f"{path}: no such file or folder; {_EXPECTED}")
    entries = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    tables = [p for p in entries if p.suffix.lower() == ".parquet" and p.is_file()]
    folders = [p for p in entries if p.is_dir()]
    if not tables:
        return [_open_folder(path, folders)]
    if any(True for folder in folders for _ in _images_in(folder)):
        raise ConfigError(f"{path}: holds parquet files and folders of images; pass the files or the folders wanted")
    if len({_SPLITS.get(_first_word(p.stem)) for p in tables} - {None}) > 1:
        listed = ", ".join(p.name for p in tables[:10]) + (", ..." if len(tables) > 10 else "")
        raise ConfigError(f"{path}: holds files of several splits ({listed}); pass the files that are wanted")
    sources = [_open_parquet(p) for p in tables]
    for other in sources[1:]:
        if other.layout != sources[0].layout:
            raise DataError(
                f"{other.path} has {' / '.join(other.layout)}, {sources[0].path.name} beside it "
                f"{' / '.join(sources[0].layout)}; expected the same image column, label column and kind of label"
            )
    return list(sources)


def _open_folder(path: Path, folders: Sequence[Path]) -> _Folder:
    files, codes = [p for p in sorted(path.iterdir()) if _is_image(p)], []
    codes += [-1] * len(files)
    filled = []
    for number, folder in enumerate(folders):
        found = sorted(_images_in(folder))
        files += found
        codes += [number] * len(found)
        filled += [folder.name] if found else []
    if not filled:
        nested = next(path.rglob("*.parquet"), None)
        hint = f"; {nested.parent} holds parquet files, pass that folder" if nested else f" ({_extensions()})"
        raise DataError(f"{path}: no images in subfolders, {_EXPECTED}{hint}")
    if all(name.lower() in _SPLITS for name in filled):
        raise ConfigError(f"{path}: its subfolders are splits ({', '.join(filled)}), not classes; pass the one wanted")
    numbers = np.asarray(codes, np.int64)
    return _Folder(path, numbers, numbers >= 0, tuple(f.name for f in folders), None, files=tuple(files))


def _open_parquet(path: Path) -> _Parquet:
    import pyarrow as pa
    import pyarrow.compute as pc

    with _parquet_file(path) as file:
        schema = file.schema_arrow
        image = _column(path, schema, IMAGE_COLUMNS, "image bytes")
        label = _column(path, schema, LABEL_COLUMNS, "label")
        held = schema.field(image).type
        if pa.types.is_struct(held) and held.get_field_index("bytes") >= 0:
            held = held.field("bytes").type
        if not (pa.types.is_binary(held) or pa.types.is_large_binary(held) or pa.types.is_binary_view(held)):
            raise DataError(f"{path}: column {image} is {held}, expected encoded images: binary or struct<bytes, path>")
        kind = schema.field(label).type
        column = file.read(columns=[label]).column(0)
        if pa.types.is_dictionary(kind):  # pandas' categories
            kind = kind.value_type
            column = column.cast(kind)
        declared = _hugging_face_names(schema, label) or _listed_names(path.parent / CLASSES_FILE)
        labelled = pc.is_valid(column).to_numpy()
        if pa.types.is_integer(kind):
            codes = pc.fill_null(column, 0).cast(pa.int64()).to_numpy()
            return _Parquet(path, codes, labelled, declared, declared, image, (image, label, "number"))
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            encoded = column.cast(pa.large_string()).combine_chunks().dictionary_encode()
            codes = pc.fill_null(encoded.indices, 0).cast(pa.int64()).to_numpy()
            names = tuple(encoded.dictionary.to_pylist())
            return _Parquet(path, codes, labelled, names, declared, image, (image, label, "name"))
    raise DataError(f"{path}: column {label} is {kind}, expected whole numbers or names")


@contextlib.contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    """An open `pyarrow.parquet.ParquetFile`; what pyarrow says against the file becomes a DataError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:  # buffered: or else a column of a row group, often the whole file, is read at once
        with pq.ParquetFile(path, buffer_size=1 << 20) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: not a parquet file, or a damaged one ({reason})") from error


def _column(path: Path, schema: Any, known: Sequence[str], what: str) -> str:
    found = next((name for name in known if name in schema.names), None)
    if found is None:
        raise DataError(f"{path}: no {what} column; found {schema.names}, expected one of {list(known)}: rename it")
    return found


def _hugging_face_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """The names of a ClassLabel feature, which the `datasets` package writes into the schema."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"][label]["names"]
        return tuple(str(name) for name in names)
    return None


def _listed_names(path: Path) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    with contextlib.suppress(OSError, KeyError, TypeError, ValueError):
        entries = json.loads(path.read_text("utf-8"))
        names = [entry if isinstance(entry, str) else entry["name"] for entry in entries]
        if isinstance(entries, list) and names and all(isinstance(name, str) for name in names):
            return tuple(names)
    raise DataError(f'{path}: expected a JSON list of names, or of objects with "name"')


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()


def _images_in(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if _is_image(path))


def _extensions() -> str:
    return ", ".join(sorted(e[1:] for e in EXTENSIONS))


def _first_word(name: str) -> str:
    return re.split("[^a-z]", name.lower(), maxsplit=1)[0]


# -- what the classes are --------------------------------------------------------------------------------------


def _agree(sources: Sequence[_Source], classes: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the classes in the order that labels will have."""
    if classes is not None:
        return tuple(classes)
    declaring = [s for s in sources if s.declared is not None]
    for source in declaring:
        if source.declared != declaring[0].declared:
            raise DataError(f"{source.path} and {declaring[0].path} come with different lists of classes")
    if declaring:
        return tuple(declaring[0].declared or ())
    named = [s for s in sources if s.names is not None]
    bare = [s for s in sources if s.names is None]
    if named and bare:
        raise ConfigError(
            f"labels of {bare[0].path} are numbers, those of {named[0].path} are names; "
            f"put a {CLASSES_FILE} that lists the names beside the former"
        )
    if named:
        return tuple(sorted({name for s in named for name in s.names or ()}))
    highest = max(bare, key=lambda s: int(s.codes.max(initial=-1)))
    count = int(highest.codes.max(initial=-1)) + 1
    if count > MAX_CLASSES:
        where = highest.where(int(highest.codes.argmax()))
        raise DataError(f"{where}: label {count - 1}; expected the number of a class, below {MAX_CLASSES}")
    return tuple(map(str, range(count)))


def _numbered(source: _Source, classes: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """(N,) positions in `classes`, -1 where there is no label."""
    own = classes if source.names is None else source.names
    codes, labelled = source.codes, source.labelled
    outside = labelled & ((codes < 0) | (codes >= len(own)))
    if outside.any():
        row = int(outside.argmax())
        hint = "; -1 often marks a test split that has no labels" if codes[row] == -1 else ""
        raise DataError(f"{source.where(row)}: label {codes[row]}, expected 0 to {len(own) - 1}{hint}")
    table = np.arange(len(own))
    if own != classes:
        position = {name: number for number, name in enumerate(classes)}
        if len(position) < len(classes):
            raise DataError(f"{source.path}: labels go by name, but two of the {len(classes)} classes have one name")
        for code in np.unique(codes[labelled]):
            if own[code] not in position:
                where = source.where(int((labelled & (codes == code)).argmax()))
                known = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
                raise DataError(f'{where}: class "{own[code]}" is not among the {len(classes)} expected ({known})')
            table[code] = position[own[code]]
    numbers = np.full(len(codes), -1, np.int64)
    numbers[labelled] = table[codes[labelled]]
    return numbers


class _Skips:
    """Counts what is left out, and stops when that is more than a slip."""

    def __init__(self, images: int) -> None:
        self._images = images
        self.first: list[Skipped] = []
        self.total = 0

    def add(self, where: str, why: str) -> None:
        self.total += 1
        if len(self.first) < SKIPS_KEPT:
            self.first.append(Skipped(where, why))
        if self.total > MAX_SKIPPED_SHARE * self._images:
            examples = "; ".join(f"{s.where} {s.why}" for s in self.first[:3])
            raise DataError(
                f"{self.total} of {self._images} images cannot be used, more than {MAX_SKIPPED_SHARE:.0%}, "
                f"so reading stopped: {examples}"
            )
