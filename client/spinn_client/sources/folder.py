"""Pictures in files: all of a folder, or one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from spinn_stream.errors import SourceError

from .base import Picture, Unusable
from .names import one_line
from .pixels import decode

EXTENSIONS = frozenset(
    {".apng", ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm",
     ".ppm", ".tif", ".tiff", ".webp"}
)  # fmt: skip
"""Endings of picture names. A file with another ending is a clip, or no picture."""


def is_picture(file: Path) -> bool:
    """Whether a name is a picture's. Names that begin with a dot are not: some systems put notes beside each file."""
    return file.suffix.lower() in EXTENSIONS and not file.name.startswith(".")


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder, without subfolders, in counting order: f2 before f10.

    Raises:
        SourceError: it cannot be listed.
    """
    try:
        found = [p for p in folder.iterdir() if is_picture(p) and (p.is_file() or p.is_symlink()) and not p.is_dir()]
    except OSError as error:
        raise SourceError(f"cannot list {one_line(str(folder))}: {error.strerror}") from error
    return sorted(found, key=_natural)


def _natural(file: Path) -> tuple[list[str | int], str]:
    parts = re.split(r"([0-9]+)", file.name)
    return [int(part) if at % 2 else part for at, part in enumerate(parts)], file.name


class PictureFiles:
    """Picture files, one after the other. They have no rate of their own."""

    live = False
    fps: float | None = None

    def __init__(self, name: str, files: list[Path]) -> None:
        self.name = name
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def pictures(self) -> Iterator[Picture | Unusable]:
        """Each is read when it is asked for; one that cannot be read is `Unusable`."""
        for file in self._files:
            origin = file.name.encode("utf-8", "backslashreplace").decode()  # any name can be written as UTF-8 then
            try:
                yield Picture(decode(file.read_bytes()), origin=origin)
            except OSError as error:
                yield Unusable(f"cannot read {one_line(file.name)}: {error.strerror}", origin)
            except ValueError as error:
                yield Unusable(f"{one_line(file.name)} {error}", origin)

    def close(self) -> None:
        """Nothing is held."""


def open_folder(text: str) -> PictureFiles:
    """The pictures of a folder.

    Raises:
        SourceError: there is none in it, or it cannot be listed.
    """
    files = pictures_in(Path(text))
    if not files:
        raise SourceError(f"no image in {one_line(text)}, expected some of {', '.join(sorted(EXTENSIONS))}")
    return PictureFiles(one_line(text), files)


def open_picture(text: str) -> PictureFiles:
    """One picture."""
    return PictureFiles(one_line(text), [Path(text)])
