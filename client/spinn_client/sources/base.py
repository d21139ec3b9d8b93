"""What a source is: pictures, each with the time at which it was captured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from spinn_stream.frame import Pixels


@dataclass(frozen=True)
class Picture:
    """One picture of a source.

    pixels: (H, W, 3) uint8 BGR, upright. captured: when it was captured, in seconds of the client's clock
    (`time.monotonic`); None: just now. origin: the file that it came from, where each picture has one of its own.
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
    """Pictures in order. All of it blocks, and is called by one thread at a time.

    name: for people, with passwords masked. live: it sets its own pace, and does not wait for whoever reads.
    fps: the rate that the pictures were recorded at; None: a live source.
    """

    name: str
    live: bool
    fps: float | None

    def pictures(self) -> Iterator[Picture | Unusable]:
        """Pictures from the first on; each call begins again if that is possible.

        Raises:
            SourceError: it cannot be opened, or is lost.
        """

    def close(self) -> None:
        """Let go of the camera or file. A later `pictures` opens it again."""
