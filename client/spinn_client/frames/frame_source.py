"""What gives the pipeline its frames: a `Feed`, or what stands for one in a simulation."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from .feed import Frame


class FrameSource(Protocol):
    """See `Feed`."""

    @property
    def name(self) -> str: ...

    @property
    def fps(self) -> float | None: ...

    @property
    def captured(self) -> int:
        """Pictures so far."""

    @property
    def dropped(self) -> Counter[str]:
        """How many of them were dropped, by reason."""

    async def open(self) -> None: ...

    def start(self) -> None: ...

    def drop(self, index: int, reason: str) -> None:
        """A frame that was given is not taken in after all."""

    def stop(self) -> None: ...

    async def next(self) -> Frame | None: ...

    async def close(self) -> None: ...
