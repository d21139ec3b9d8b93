"""Images on disk: parquet files, folders of them, and folders with a subfolder for each class.

Opening a source reads its labels and its classes' names; `Source.encoded` then streams the images. Without labels, a
folder's images may lie in it at any depth.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spinn_stream.errors import ConfigError, DataError

IMAGE_COLUMNS = ("image", "img", "bytes")
LABEL_COLUMNS = ("label", "labels", "class")
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
CLASSES_FILE = "classes.json"

CHUNK = 64  # images in flight: encoded ones only, each is cut to size in the thread that decodes it

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
EXPECTED = (
    f"expected a parquet file, a folder of them, or a folder with one subfolder of images per class "
    f"({', '.join(sorted(EXTENSIONS))})"
)


@dataclass(frozen=True)
class Source:
    """A parquet file or a folder of classes, its labels read and its images not yet.

    codes: (N,) labels as written; arbitrary where `labelled` is false. names: of the codes; None: a code is the number
    of a class, without a name. declared: all classes in order, if the data say so.
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
        """Each image in turn: its bytes, or its file; None: there is no image."""
        raise NotImplementedError


@dataclass(frozen=True)
class FolderSource(Source):
    files: tuple[Path, ...]

    unlabelled = "lies beside the class folders, not in one"

    def where(self, row: int) -> str:
        return str(Path(self.path.resolve().name) / self.files[row].relative_to(self.path))

    def encoded(self) -> Iterator[bytes | Path | None]:
        yield from self.files


@dataclass(frozen=True)
class ParquetSource(Source):
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


def is_labelled(path: Path) -> bool:
    """Whether there are labels: a column of them in every parquet file, or a subfolder that holds images.

    Raises:
        ConfigError: no such path. DataError: a damaged parquet file.
    """
    if path.is_dir():
        tables = _tables_in(path)
        if tables:
            return all(is_labelled(table) for table in tables)
        return any(True for folder in path.iterdir() if _is_folder(folder) for _ in _images_in(folder))
    if not path.is_file():
        raise ConfigError(f"{path}: no such file or folder; {EXPECTED}")
    with _parquet_file(path) as file:
        return any(name in file.schema_arrow.names for name in LABEL_COLUMNS)


def open_sources(path: Path, labelled: bool = True) -> list[Source]:
    """The sources that a path means.

    Args:
        labelled: read labels, which must be there; else every image is of class 0, whatever labels there are.
    """
    if path.is_file():
        return [_open_parquet(path, labelled)]
    if not path.is_dir():
        raise ConfigError(f"{path}: no such file or folder; {EXPECTED}")
    tables = _tables_in(path)
    folders = sorted(p for p in path.iterdir() if _is_folder(p))
    if not tables:
        return [_open_folder(path, folders) if labelled else _open_heap(path)]
    if any(True for folder in folders for _ in _images_in(folder)):
        raise ConfigError(f"{path}: holds parquet files and folders of images; pass the files or the folders wanted")
    splits = sorted({split for p in tables if (split := _split_of(p.name))})
    if len(splits) > 1:
        listed = "; ".join(few([p.name for p in tables if _split_of(p.name) == split]) for split in splits)
        raise ConfigError(f"{path}: holds files of several splits ({listed}); pass the files that are wanted")
    sources = [_open_parquet(p, labelled) for p in tables]
    for other in sources[1:]:
        if other.layout != sources[0].layout:
            raise DataError(
                f"{other.path} has {' / '.join(other.layout)}, {sources[0].path.name} beside it "
                f"{' / '.join(sources[0].layout)}; expected the same image column, label column and kind of label"
            )
    return list(sources)


def _open_folder(path: Path, folders: Sequence[Path]) -> FolderSource:
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
        hint = f"; {nested.parent} holds parquet files, pass that folder" if nested else ""
        raise DataError(f"{path}: no images in subfolders, {EXPECTED}{hint}")
    if all(name.lower() in _SPLITS for name in filled):  # the whole name: a class may be `test tube`
        raise ConfigError(f"{path}: its subfolders are splits ({', '.join(filled)}), not classes; pass the one wanted")
    numbers = np.asarray(codes, np.int64)
    return FolderSource(path, numbers, numbers >= 0, tuple(f.name for f in folders), None, files=tuple(files))


def _open_heap(path: Path) -> FolderSource:
    """A folder of images without labels, at any depth."""
    files = tuple(sorted(_images_in(path)))
    if not files:
        raise DataError(
            f"{path}: no images, expected some of {', '.join(sorted(EXTENSIONS))} in it or in its subfolders"
        )
    return FolderSource(path, *_unlabelled(len(files)), None, None, files=files)


def _unlabelled(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Codes of `count` images without labels, all of which count as labelled."""
    return np.zeros(count, np.int64), np.ones(count, bool)


def _open_parquet(path: Path, labelled: bool) -> ParquetSource:
    import pyarrow as pa
    import pyarrow.compute as pc

    with _parquet_file(path) as file:
        schema = file.schema_arrow
        image = _column(path, schema, IMAGE_COLUMNS, "image bytes")
        held = schema.field(image).type
        if pa.types.is_struct(held) and held.get_field_index("bytes") >= 0:
            held = held.field("bytes").type
        if not (pa.types.is_binary(held) or pa.types.is_large_binary(held) or pa.types.is_binary_view(held)):
            raise DataError(f"{path}: column {image} is {held}, expected encoded images: binary or struct<bytes, path>")
        if not labelled:
            return ParquetSource(path, *_unlabelled(file.metadata.num_rows), None, None, image, (image,))
        label = _column(path, schema, LABEL_COLUMNS, "label")
        kind = schema.field(label).type
        column = file.read(columns=[label]).column(0)
        if pa.types.is_dictionary(kind):  # pandas' categories
            kind = kind.value_type
            column = column.cast(kind)
        declared = _hugging_face_names(schema, label) or _listed_names(path.parent / CLASSES_FILE)
        is_there = pc.is_valid(column).to_numpy()
        if pa.types.is_integer(kind):
            codes = pc.fill_null(column, 0).cast(pa.int64()).to_numpy()
            return ParquetSource(path, codes, is_there, declared, declared, image, (image, label, "number"))
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            encoded = column.cast(pa.large_string()).combine_chunks().dictionary_encode()
            codes = pc.fill_null(encoded.indices, 0).cast(pa.int64()).to_numpy()
            names = tuple(encoded.dictionary.to_pylist())
            return ParquetSource(path, codes, is_there, names, declared, image, (image, label, "name"))
    raise DataError(f"{path}: column {label} is {kind}, expected whole numbers or names")


@contextlib.contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    """An open `pyarrow.parquet.ParquetFile`; pyarrow's errors become a DataError."""
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


def _tables_in(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.suffix.lower() == ".parquet" and p.is_file() and p.name[0] != ".")


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()


def _images_in(folder: Path) -> Iterator[Path]:
    """At any depth, hidden folders (.thumbnails) left out."""
    for path in folder.rglob("*"):
        if _is_image(path) and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _split_of(name: str) -> str | None:
    """Which split the first word of a name says: "validation-00.parquet" is of "val"."""
    return _SPLITS.get(re.split("[^a-z]", name.lower(), maxsplit=1)[0])


def few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", ... {len(names)} in all" if len(names) > 3 else "")
