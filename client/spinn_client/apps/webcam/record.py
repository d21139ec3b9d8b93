"""`--record`: the pictures with their answers drawn on them, as an MP4."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

from spinn_stream.errors import ConfigError

from .session import Answer

WAITING = 8
"""Pictures that wait for the encoder; more are left out."""

TIMEBASE = Fraction(1, 90_000)
CODECS = ("libx264", "libopenh264", "mpeg4")
COLOURS = {"device": (122, 163, 22), "server": (237, 128, 47), "fallback": (12, 149, 232)}  # BGR, as on the page
FONT = cv2.FONT_HERSHEY_SIMPLEX


class Recorder:
    """Writes every answered picture of our own stream, at its capture time.

    The first picture's size holds for the whole file. `add` may be called in any thread and never waits.

    Raises:
        ConfigError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._bytes = path.open("wb")
        except OSError as error:
            raise ConfigError(f"cannot record to {path}: {error}") from error
        self._file = av.open(self._bytes, "w", format="mp4")
        self._queue: queue.Queue[Answer | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()
        self.path = path
        self.written = self.left_out = 0
        self.error = ""

    def add(self, answer: Answer) -> None:
        """An answer, with its picture."""
        if answer.lane != "ours" or self.error:
            return
        try:
            self._queue.put_nowait(answer)
        except queue.Full:
            self.left_out += 1

    def close(self, timeout_s: float = 10.0) -> None:
        """Finish the file."""
        until = time.monotonic() + timeout_s
        with contextlib.suppress(queue.Full):  # it has failed, or its disk hangs
            self._queue.put(None, timeout=timeout_s)
        self._thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        try:
            self._write()
        except (av.FFmpegError, OSError, ValueError) as error:
            self.error = f"recording to {self.path} ended: {error}"
        finally:
            self._file.close()
            self._bytes.close()

    def _write(self) -> None:
        stream: av.VideoStream | None = None
        began, last = 0.0, -1
        while (answer := self._queue.get()) is not None:
            pixels = answer.shot.pixels
            if stream is None:
                began = answer.shot.captured
                stream = self._stream(pixels.shape[1] // 2 * 2, pixels.shape[0] // 2 * 2)
            at = round((answer.shot.captured - began) / TIMEBASE)
            if at <= last:
                continue  # answers come in the order they are ready, and one may overtake another
            last = at
            drawn = draw(cv2.resize(pixels, (stream.width, stream.height)), answer)  # type: ignore[arg-type]
            frame = av.VideoFrame.from_ndarray(drawn, format="bgr24")
            frame.pts, frame.time_base = at, TIMEBASE
            self._file.mux(stream.encode(frame))
            self.written += 1
        if stream is not None:
            self._file.mux(stream.encode(None))

    def _stream(self, width: int, height: int) -> av.VideoStream:
        codec = next(name for name in CODECS if name in av.codecs_available)
        stream = self._file.add_stream(codec, rate=30, options={"preset": "veryfast"} if codec == "libx264" else {})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = TIMEBASE
        stream.bit_rate = 2_500_000
        return stream


def draw(pixels: npt.NDArray[np.uint8], answer: Answer) -> npt.NDArray[np.uint8]:
    """The picture with its label, confidence, age and origin at its lower end; draws into it."""
    result = answer.result
    height, width = pixels.shape[:2]
    scale = width / 640
    bar = round(64 * scale)
    pixels[height - bar :] //= 3
    colour = COLOURS["fallback" if result.is_fallback else result.where or "fallback"]
    confidence = result.confidence or 0.0
    cv2.rectangle(pixels, (0, height - bar), (round(width * confidence), height - bar + round(4 * scale)), colour, -1)
    label = (result.label or "no answer").encode("ascii", "replace").decode()
    thick = max(1, round(1.6 * scale))
    left = round(14 * scale)
    cv2.putText(
        pixels, f"{label}  {confidence:.0%}", (left, height - round(34 * scale)), FONT, 0.8 * scale, (255, 255, 255),
        thick, cv2.LINE_AA,
    )  # fmt: skip
    said = f"{result.where or 'nobody'}, {result.exit or '-'}, {result.reason}, {result.age_ms:.0f} ms"
    cv2.putText(
        pixels, said, (left, height - round(12 * scale)), FONT, 0.45 * scale, colour, max(1, thick - 1), cv2.LINE_AA
    )
    return pixels
