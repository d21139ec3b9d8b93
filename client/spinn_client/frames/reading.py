"""Playing a source, in the thread of whoever calls."""

from __future__ import annotations

import time
from collections.abc import Callable

from spinn_client.sources.base import Picture, Source, Unusable
from spinn_client.sources.pixels import to_bgr
from spinn_stream.errors import SourceError

Deliver = Callable[[Picture | Unusable, float], bool]
"""Called with a picture and when it came; gives whether more are wanted."""


def read(source: Source, deliver: Deliver, *, loop: bool) -> str | None:
    """Play a source to its end; over and over if it is recorded and `loop`.

    Gives what there is to say about its end; None: nobody wants more of it.

    Raises:
        SourceError: it cannot be opened, is lost, or had no picture that can be used.
    """
    while True:
        usable, pictures = False, iter(source.pictures())
        try:
            while True:
                try:
                    picture = checked(next(pictures))
                except StopIteration as end:
                    why = str(end.value or "")
                    break
                now = time.monotonic()
                usable = usable or isinstance(picture, Picture)
                if not deliver(picture, now):
                    return None
        finally:
            if hasattr(pictures, "close"):
                pictures.close()
        if source.live:
            raise SourceError(f"{source.name} gives no more pictures")
        if not usable:
            raise SourceError(f"{source.name} has no frame that can be read")
        if not loop:
            return why


def checked(picture: Picture | Unusable) -> Picture | Unusable:
    """A picture as a `Picture` must be, whoever wrote the source."""
    if isinstance(picture, Unusable):
        return picture
    pixels = picture.pixels
    if pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == "uint8" and 0 not in pixels.shape:
        return picture
    try:
        return Picture(to_bgr(pixels), picture.captured, picture.origin)
    except ValueError as error:
        return Unusable(str(error), picture.origin)
