"""A folder of images, played like a clip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from spinn_stream.errors import SourceError
from spinn_stream.frame import Pixels

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
FPS = 30.0


class ImageFolder:
    """The images that lie in a folder, sorted by name; those in folders of it are not among them.

    Raises:
        SourceError: there is no image in it, or it cannot be listed.
    """

    fps: float | None = FPS

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        try:
            self._files = sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS and p.is_file())
        except OSError as error:
            raise SourceError(f"cannot list {path}: {error.strerror}") from error
        if not self._files:
            raise SourceError(f"no image in {path}, expected some of {', '.join(sorted(EXTENSIONS))}")

    def __len__(self) -> int:
        return len(self._files)

    def frames(self) -> Iterator[Pixels]:
        """One after the other, read when it is asked for.

        Raises:
            SourceError: names the image that cannot be read.
        """
        for file in self._files:
            yield _read(file)

    def close(self) -> None:
        """Nothing is held."""


def _read(file: Path) -> Pixels:
    try:
        data = np.frombuffer(file.read_bytes(), np.uint8)
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except OSError as error:
        raise SourceError(f"cannot read {file}: {error.strerror}") from error
    except cv2.error as error:
        raise SourceError(f"{file} is not an image that OpenCV can read") from error
    if picture is None:
        raise SourceError(f"{file} is not an image that OpenCV can read")
    return np.asarray(picture, np.uint8)
