"""Clips and streams, through PyAV: docs/decisions/0024-clips-and-streams.md says why not through OpenCV."""

from __future__ import annotations

import socket
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

import av
import numpy as np

from spinn_stream.errors import SourceError
from spinn_stream.frame import Pixels, upright

from .base import Picture, Unusable
from .names import one_line, shown

OPEN_TIMEOUT_S, READ_TIMEOUT_S = 30.0, 60.0
"""Time-out of the decoder itself for a silent address. The player's own time-out is shorter."""

UNKNOWN_FPS = 30.0
SLOWEST_FPS, FASTEST_FPS = 0.01, 1000.0

MISSING = 0.01
"""A note is given if more than this share of a clip's pictures is missing at its end: some containers only estimate
their number."""

MOST_DAMAGED = 10_000
"""After this number of packets without a picture, a clip or stream is taken to have none."""

PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935}

Pictures = Generator[Picture | Unusable, None, str]


class Clip:
    """A video file. Its rate is its own, or 30 frames a second if it does not say."""

    live = False

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        self._fps: float | None = None

    @property
    def fps(self) -> float | None:
        """Frames a second; looks into the file, once.

        Raises:
            SourceError: it is none that can be read.
        """
        if self._fps is None:
            with self._open() as container:
                self._fps = _rate(_video_of(container, self.name)) or UNKNOWN_FPS
        return self._fps

    def pictures(self) -> Pictures:
        """See `Source`. Returns a line about its end, or None.

        Raises:
            SourceError: it is none that can be read.
        """
        with self._open() as container:
            said = yield from _decoded(container, self.name, threads="AUTO")
            if _rate(container.streams.video[0]) is None:
                said = "; ".join(filter(None, [said, f"it does not say its rate: played at {UNKNOWN_FPS:g} frames/s"]))
            return said

    def close(self) -> None:
        """Nothing is held: each iterator opens it."""

    def _open(self) -> av.container.InputContainer:
        try:
            return av.open(str(self._path.absolute()))  # or a: at its start would mean something else
        except (av.FFmpegError, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.strerror and not isinstance(error, av.error.InvalidDataError):
                raise SourceError(f"cannot read {self.name}: {error.strerror}") from error
            raise SourceError(f"{self.name} is not a video that can be read") from error


class Stream:
    """A stream by its address. If a web server's address turns out to be a clip when it is opened, it is not live."""

    def __init__(self, address: str) -> None:
        self.name = shown(address)
        self.live = True
        self.fps: float | None = None
        self._address = address

    def pictures(self) -> Pictures:
        """See `Source`.

        Raises:
            SourceError: it cannot be opened, or gives no more pictures; says why.
        """
        with self._open() as container:
            video = _video_of(container, self.name)
            if self._address.lower().startswith("http") and container.duration is not None:
                self.live, self.fps = False, _rate(video) or UNKNOWN_FPS
                return (yield from _decoded(container, self.name, threads="AUTO"))
            said = yield from _decoded(container, self.name, threads="SLICE")  # by pictures, they would come later
            raise SourceError(f"{self.name} gives no more pictures" + (f" ({said})" if said else ""))

    def close(self) -> None:
        """Nothing is held: each iterator opens it."""

    def _open(self) -> av.container.InputContainer:
        options = {"rtsp_flags": "prefer_tcp"} if self._address.lower().startswith("rtsp") else {}
        try:
            return av.open(self._address, options=options, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"{self.name}: {_why_not(self._address, error)}") from None  # which shows the password


def _video_of(container: av.container.InputContainer, name: str) -> av.VideoStream:
    if not container.streams.video:
        raise SourceError(f"{name} has sound or text, but no pictures")
    return container.streams.video[0]


def _rate(video: av.VideoStream) -> float | None:
    """Frames per second, as the file says; None: it does not say, or says something impossible."""
    for rate in (video.average_rate, video.guessed_rate):
        if rate is not None and SLOWEST_FPS <= float(rate) <= FASTEST_FPS:
            return float(rate)
    return None


def _decoded(container: av.container.InputContainer, name: str, *, threads: str) -> Pictures:
    """The pictures of an open clip or stream; returns a line if some were missing."""
    video = _video_of(container, name)
    video.thread_type = threads
    packets, in_vain = container.demux(video), 0
    given, damaged, last = 0, 0, None
    while in_vain < MOST_DAMAGED:
        in_vain += 1
        try:
            packet = next(packets, None)
        except av.FFmpegError:  # the file ends in the middle of something, or the stream is cut
            break
        if packet is None:
            break
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            damaged += 1
            yield Unusable(f"a picture that cannot be decoded: {error.strerror}")
            continue
        for frame in frames:
            given, damaged, in_vain, last = given + 1, damaged + frame.is_corrupt, 0, frame.time
            yield _picture(frame)
    return _lacks(container, video, given, damaged, last)


def _lacks(
    container: av.container.InputContainer, video: av.VideoStream, given: int, damaged: int, last: float | None
) -> str:
    """What was missing in a recording that was played to its end; empty: nothing.

    given: number of pictures. damaged: number of damaged frames. last: time of the last picture, in seconds of the
    recording.
    """
    expected, rate = _pictures_in(container, video), _rate(video)
    lacks = expected is not None and expected - given > max(2, MISSING * expected)
    said = [f"damaged frames: {damaged}"] if damaged else []
    if lacks and container.duration is not None and rate is not None and last is not None:
        begun = (container.start_time or 0) / av.time_base
        left = (container.duration / av.time_base) - (last - begun) - 1 / rate
        said.insert(0, ("ended early: " if left * rate > 2 else "") + f"{given} of {expected} frames")
    elif lacks:
        said.insert(0, f"ended early: {given} of {expected} frames")
    return "; ".join(said)


def _pictures_in(container: av.container.InputContainer, video: av.VideoStream) -> int | None:
    """The number of pictures that a file claims to have; None: it does not say."""
    if video.frames > 0:
        return video.frames
    rate = _rate(video)
    if container.duration is None or rate is None:
        return None
    return round(Fraction(container.duration, av.time_base) * Fraction(rate))


def _picture(frame: av.VideoFrame) -> Picture | Unusable:
    """The picture of a frame, in its own size, upright."""
    try:
        pixels: Pixels = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
    except (av.FFmpegError, ValueError, OSError, MemoryError) as error:
        return Unusable(f"a picture that cannot be converted: {one_line(str(error))}")
    return Picture(upright(pixels, frame.rotation))


def _why_not(address: str, error: Exception) -> str:
    """Why a stream could not be opened, in a few words."""
    if isinstance(error, av.error.ExitError):
        return f"gives nothing within {OPEN_TIMEOUT_S:g} s"
    said = getattr(error, "strerror", None) or "cannot be opened"
    if isinstance(error, (av.error.HTTPError, ConnectionRefusedError, av.error.ProtocolNotFoundError)):
        return str(said)
    return _trouble_of_host(address) or str(said)  # the decoder names few of the troubles of networks


def _trouble_of_host(address: str) -> str | None:
    """Why the host of an address cannot be reached; None: it can, or the reason is unknown."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    except ValueError as error:
        return f"is no address: {error}"
    if host is None or port is None or parts.scheme in ("udp", "rtp", "srt"):
        return None
    try:
        socket.create_connection((host, port), timeout=2).close()
    except (socket.gaierror, UnicodeError):
        return f"unknown host {host}"
    except TimeoutError:
        return f"{host} does not answer"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return None


def open_clip(text: str) -> Clip:
    """A video file, whatever its name."""
    return Clip(one_line(text), Path(text))


def open_stream(text: str) -> Stream:
    """A stream by its address."""
    return Stream(text)
