"""Images from disk: parquet files of (image bytes, label), and folders with one subfolder per class; or without labels.

There are two passes. The first reads only labels and finds the classes, so that a wrong label is reported before
minutes of decoding. The second one streams the images through a few threads into one array.

If one image is wrong (damaged, without a label), it is skipped and counted. If the data are wrong (a label without a
class, a damaged file, more than one skip in ten), that is an error.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spinn_stream.errors import ConfigError, DataError

from .decoding import PictureArray, decode_square
from .images import LabelledImages
from .sources import CHUNK, CLASSES_FILE, EXPECTED, Source, few, is_labelled, open_sources

MAX_CLASSES = 100_000  # ImageNet-21k, the largest set in common use, has 21841
MAX_SKIPPED_SHARE = 0.1
SKIPS_KEPT = 20
THREADS = min(4, os.cpu_count() or 1)  # OpenCV decodes outside Python's lock; beyond four, reading is the limit


@dataclass(frozen=True)
class Skipped:
    """One image that was left out. where: "train-0.parquet row 17", rows counted from 0, or "folder/class/1.jpg"."""

    where: str
    why: str


@dataclass(frozen=True)
class Dataset:
    """Images in the order of the files. Those of a folder come class by class, so shuffle before holding any out.

    classes: names; `images.labels` are positions in it. Empty: the images have no labels, and all labels are 0.
    skipped: the first twenty. skipped_total: all of them.
    """

    images: LabelledImages
    classes: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    skipped_total: int

    @property
    def empty_classes(self) -> tuple[str, ...]:
        """The classes without any image."""
        if not self.classes:
            return ()
        counts = np.bincount(self.images.labels, minlength=len(self.classes))
        return tuple(name for name, count in zip(self.classes, counts, strict=True) if count == 0)


def are_labelled(paths: Sequence[Path]) -> bool:
    """Whether all of these come with labels (see `sources.is_labelled`)."""
    return all(is_labelled(Path(path)) for path in paths)


def load_pictures(paths: Sequence[Path], *, side: int, progress: Callable[[int, int], None] | None = None) -> Dataset:
    """As `load_dataset`, but ignores labels. Folders may hold images at any depth.

    Raises:
        ConfigError, DataError: see `load_dataset`.
    """
    sources = _open_all(paths, labelled=False)
    return _decoded(paths, sources, (), [source.codes for source in sources], side, progress)


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
        classes: names in the order of labels. By default, the data say it: Hugging Face's metadata, a classes.json
            beside the file, the names of folders or the labels that are names (sorted), or else "0", "1", ... up to the
            highest label.
        progress: called with (images done, images in all), skips included.

    Raises:
        ConfigError: a path, or a mix of paths, that cannot be used; the message says what to pass.
        DataError: a damaged parquet file, columns or labels that do not fit, no images, more than a tenth of
            them skipped, or more than memory holds.
    """
    if not paths or side < 1 or (classes is not None and not classes):
        raise ConfigError(f"got {len(paths)} paths, side {side} and classes {classes}; expected at least one of each")
    sources = _open_all(paths, labelled=True)
    names = _agree(sources, classes)
    return _decoded(paths, sources, names, [_numbered(source, names) for source in sources], side, progress)


def _open_all(paths: Sequence[Path], *, labelled: bool) -> list[Source]:
    sources = [source for path in paths for source in open_sources(Path(path), labelled)]
    for path, times in Counter(source.path.resolve() for source in sources).items():
        if times > 1:
            raise ConfigError(f"{path} was given {times} times, alone or with its folder; pass it once")
    return sources


def _decoded(
    paths: Sequence[Path],
    sources: Sequence[Source],
    names: tuple[str, ...],
    numbers: Sequence[npt.NDArray[np.int64]],
    side: int,
    progress: Callable[[int, int], None] | None,
) -> Dataset:
    total = sum(len(n) for n in numbers)
    if total == 0:
        raise DataError(f"no images in {', '.join(map(str, paths))}; {EXPECTED}")

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


def _agree(sources: Sequence[Source], classes: Sequence[str] | None) -> tuple[str, ...]:
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


def _numbered(source: Source, classes: tuple[str, ...]) -> npt.NDArray[np.int64]:
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
                raise DataError(f'{where}: class "{own[code]}" is not among those expected: {few(classes)}')
            table[code] = position[own[code]]
    numbers = np.full(len(codes), -1, np.int64)
    numbers[labelled] = table[codes[labelled]]
    return numbers


class _Skips:
    """Counts skipped images, and raises if they are too many."""

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
