"""How a source is played."""

from __future__ import annotations

from dataclasses import dataclass

OPENING = 2.0
"""A source may take this many times `source_timeout_s` to open: address, connection, and a first whole picture."""

BACKLOG_S = 0.5
"""Longest wait for a live source that was just opened to give what was buffered before."""

AHEAD = 3.0
"""A recorded picture is read this many times as long ahead of its time as the one before it took to read.

If it were read at once, a device with one core would do so while it runs the network on the frame before.
"""

WAITED_S = 0.01
"""A picture that takes this long to come was not buffered."""


@dataclass(frozen=True)
class FeedConfig:
    """How a source is played."""

    fps: float | None = None  # frames per second; None: the source's own
    unpaced: bool = False  # every frame, as fast as they are taken
    loop: bool = False  # begin again at the end
    max_frames: int | None = None  # stop after this many
    source_timeout_s: float = 5.0  # a live source that gives nothing for this long is opened again
    give_up_after_s: float | None = None  # a live source that is away for longer ends the stream; None: never

    def __post_init__(self) -> None:
        if self.fps is not None and not 0.01 <= self.fps <= 1000:
            raise ValueError(f"fps is {self.fps}, expected 0.01 to 1000")
        if self.max_frames is not None and self.max_frames < 1:
            raise ValueError(f"frames is {self.max_frames}, expected at least 1")
        if self.unpaced and self.fps is not None:
            raise ValueError("--fps and --unpaced exclude each other")
        if not 0.1 <= self.source_timeout_s <= 3600:
            raise ValueError(f"source_timeout_s is {self.source_timeout_s}, expected 0.1 to 3600")
        if self.give_up_after_s is not None and not 0 <= self.give_up_after_s <= 1e7:
            raise ValueError(f"give_up_after_s is {self.give_up_after_s}, expected 0 to 10000000")
