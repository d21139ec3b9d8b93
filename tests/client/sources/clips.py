"""Clips and pictures made for a test, with OpenCV and PyAV."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import cv2
import numpy as np

from spinn_stream.frame import Pixels


def quarters(height: int = 48, width: int = 64) -> Pixels:
    """A picture that shows how it is turned: red, green, blue and black from the top left, row by row (BGR)."""
    picture = np.zeros((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    picture[:top, :left] = (20, 30, 200)
    picture[:top, left:] = (20, 200, 30)
    picture[top:, :left] = (200, 30, 20)
    return picture


def write_clip(path: Path, count: int = 20, *, fps: float = 25.0, size: tuple[int, int] = (64, 48)) -> Path:
    """Grey frames, each 10 lighter than the one before. size: width and height."""
    code = "mp4v" if path.suffix == ".mp4" else "MJPG"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, size)
    for n in range(count):
        writer.write(np.full((size[1], size[0], 3), 10 * n % 250, np.uint8))
    writer.release()
    return path


def write_noisy(path: Path, count: int, *, codec: str, options: dict[str, str] | None = None) -> Path:
    """Moving noise, so that every frame takes many bytes."""
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 160, 120, "yuv420p", 12
        for n in range(count):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, n, axis=1), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def turn_clip(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write into an MP4 how its pictures are to be turned: ISO/IEC 14496-12, 8.3.2; matrix a, b, c, d."""
    a, b, c, d = (one << 16 for one in matrix)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version and flags, times, id, duration, layer, group, volume
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def jpeg(pixels: Pixels) -> bytes:
    done, data = cv2.imencode(".jpg", pixels)
    assert done
    return data.tobytes()
