"""What gives the pipeline its frames: a `Feed`, or what stands for one in a simulation."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from .feed import Frame


class FrameSource(Protocol):
    """See `Feed`. captured: pictures so far; dropped: how many of them were dropped, by reason."""

    name: str
    fps: float | None
    captured: int
    dropped: Counter[str]

    async def open(self) -> None: ...

    def start(self) -> None: ...

    def drop(self, index: int, reason: str) -> None: ...

    def stop(self) -> None: ...

    async def next(self) -> Frame | None: ...

    async def close(self) -> None: ...
