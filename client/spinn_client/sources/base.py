"""What a source is: pictures, each with the time at which it was captured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from spinn_stream.errors import SourceError
from spinn_stream.frame import Pixels


@dataclass(frozen=True)
class Picture:
    """One picture of a source.

    pixels: (H, W, 3) uint8 BGR, upright. captured: when it was captured, in seconds of the client's clock
    (`time.monotonic`); None: just now. origin: the file that it came from, if each picture has one of its own.
    """

    pixels: Pixels
    captured: float | None = None
    origin: str | None = None


@dataclass(frozen=True)
class Unusable:
    """A picture that cannot be used: it is dropped and counted as `bad_frame`. why: one line, for people."""

    why: str
    origin: str | None = None


class Source(Protocol):
    """Pictures in order. All methods block, and are called by one thread at a time.

    name: for people, with passwords masked. live: it sets its own pace, and does not wait for its reader.
    fps: the rate at which the pictures were recorded; None: there is none (a live source, a folder of pictures).
    live and fps may be right only after the first picture.

    A live source may hang. Its reader then abandons the iterator, which stays in its thread, and calls `pictures` again
    in another thread. So whatever is open must belong to the iterator, not to the source.
    """

    @property
    def name(self) -> str: ...

    @property
    def live(self) -> bool: ...

    @property
    def fps(self) -> float | None: ...

    def pictures(self) -> Iterator[Picture | Unusable]:
        """Pictures from the first on; each call begins again if that is possible.

        The end of a live source means that it is lost. A generator may return a line about its end, such as "ended
        early".

        Raises:
            SourceError: it cannot be opened, or is lost.
        """

    def close(self) -> None:
        """Release what is held besides the iterators. A later `pictures` opens it again."""


def pixels_of(source: Source) -> Iterator[Pixels]:
    """The pixels of every picture of a source, one after the other.

    Raises:
        SourceError: it cannot be opened, is lost, or one of its pictures cannot be used; names it.
    """
    for picture in source.pictures():
        if isinstance(picture, Unusable):
            raise SourceError(f"{source.name}: {picture.why}")
        yield picture.pixels
