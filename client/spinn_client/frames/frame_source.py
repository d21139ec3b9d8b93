"""What gives the pipeline its frames: a `Feed`, or what stands for one in a simulation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from .feed import Frame


class FrameSource(Protocol):
    """See `Feed`."""

    @property
    def name(self) -> str: ...

    @property
    def fps(self) -> float | None: ...

    @property
    def one_camera(self) -> bool:
        """Whether the pictures follow each other as those of a camera; not so for photographs, or if nobody knows."""

    @property
    def captured(self) -> int:
        """Pictures so far."""

    @property
    def dropped(self) -> Counter[str]:
        """How many of them were dropped, by reason."""

    def age(self, now: float) -> float | None:
        """How old a frame is that `next` gives at once, in seconds; None: it has to wait for one. 0.0 at the end."""

    async def open(self) -> None: ...

    def start(self, arrived: Callable[[], object]) -> None:
        """arrived: called on the event loop if another frame may wait."""

    def drop(self, index: int, reason: str) -> None:
        """A frame that was given is not taken in after all."""

    def stop(self) -> None: ...

    async def next(self) -> Frame | None: ...

    async def close(self) -> None: ...
