"""The frames of a clip in their order, prepared as a device would."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spinn_stream.errors import ConfigError, DataError
from spinn_stream.frame import Pixels, crop, upright

from .decoding import MAX_PIXELS, free_memory_bytes

UNKNOWN_FPS = 30.0
"""Of a clip that does not say its rate."""

MEMORY_SHARE = 0.5
"""Of the free memory: frames are copied once into one array."""


@dataclass(frozen=True)
class Clip:
    """pixels: (N, side, side, 3) uint8, RGB. fps: frames a second, as the file says, or 30. damaged: packets of the
    file that gave no picture."""

    pixels: Pixels
    fps: float
    damaged: int


def is_clip(path: Path) -> bool:
    """Whether it is a file that may be a clip: any that is no parquet file.

    Raises:
        ConfigError: it cannot be read.
    """
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(4) != b"PAR1"
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def load_clip(path: Path, *, side: int, progress: Callable[[int, int], None] = lambda done, total: None) -> Clip:
    """Read all frames.

    Args:
        side: of the result in pixels. progress: called with (frames done, frames in all as the file says, or 0).

    Raises:
        ConfigError: PyAV is missing. DataError: no pictures, or more than half of the free memory holds.
    """
    try:
        import av
    except ImportError as error:
        raise ConfigError("reading a clip needs PyAV: pip install 'spinn-stream[train]'") from error
    try:
        container = av.open(str(path.absolute()))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"{path}: neither a parquet file nor a video that can be read") from error
    with container:
        if not container.streams.video:
            raise DataError(f"{path}: has no pictures")
        video = container.streams.video[0]
        video.thread_type = "AUTO"
        rate = video.average_rate or video.guessed_rate
        frames: list[Pixels] = []
        damaged, most = 0, int(MEMORY_SHARE * free_memory_bytes() / (side * side * 3))

        def decoded() -> Iterator[av.VideoFrame]:
            nonlocal damaged
            with contextlib.suppress(av.FFmpegError):  # the file ends in the middle of something
                for packet in container.demux(video):
                    try:
                        yield from packet.decode()
                    except av.FFmpegError:
                        damaged += 1

        for frame in decoded():
            if frame.width * frame.height > MAX_PIXELS:
                raise DataError(f"{path}: frames of {frame.width}x{frame.height}, expected up to {MAX_PIXELS} pixels")
            if len(frames) >= most:
                raise DataError(f"{path}: more than {most} frames, which is all that memory holds; pass a shorter clip")
            frames.append(crop(upright(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8), frame.rotation), side))
            progress(len(frames), max(video.frames, len(frames)))
    if not frames:
        raise DataError(f"{path}: no picture of it can be decoded")
    return Clip(np.stack(frames), float(rate) if rate else UNKNOWN_FPS, damaged)
