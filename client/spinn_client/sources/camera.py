"""A camera at this machine, through OpenCV."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import cv2

from spinn_stream.errors import SourceError

from .base import Picture, Unusable
from .names import one_line
from .pixels import to_bgr

LAST_NUMBER = 99
"""For OpenCV, larger numbers mean other drivers of the cameras with smaller numbers."""


class Camera:
    """A camera by its number, or by the path of its device file."""

    live = True
    fps: float | None = None

    def __init__(self, target: int | str) -> None:
        self.name = f"camera {target if isinstance(target, int) else one_line(target)}"
        self._target = target

    def pictures(self) -> Iterator[Picture | Unusable]:
        """See `Source`.

        Raises:
            SourceError: it cannot be opened, or gives no more pictures.
        """
        try:
            capture = cv2.VideoCapture(self._target, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
        except cv2.error as error:
            raise SourceError(f"{self.name} cannot be opened: OpenCV does not take that") from error
        try:
            if not capture.isOpened():
                raise SourceError(f"{self.name} cannot be opened; is it plugged in, free, and readable by you?")
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # where a driver keeps that to itself, reading all the time helps
            while True:
                read, frame = capture.read()
                if not read or frame is None:
                    raise SourceError(f"{self.name} gives no more pictures")
                try:
                    yield Picture(to_bgr(frame))
                except ValueError as error:
                    yield Unusable(str(error))
        finally:
            capture.release()

    def close(self) -> None:
        """Nothing is held: each iterator opens it."""


def open_number(text: str) -> Camera:
    """The camera of a number.

    Raises:
        SourceError: there are no cameras of such numbers.
    """
    if len(text) > 9 or int(text) > LAST_NUMBER:
        raise SourceError(f"there is no file {text}, and no camera: expected a camera's number from 0 to {LAST_NUMBER}")
    return Camera(int(text))


def open_device(text: str) -> Camera:
    """The camera of a device file."""
    return Camera(text)
