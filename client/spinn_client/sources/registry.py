"""The kinds of sources. Each is a file and a registration here. Its file is imported only when it is opened."""

from __future__ import annotations

import importlib
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spinn_stream.errors import SourceError

from .base import Source
from .folder import is_picture
from .names import shown

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp", "rtp", "srt")


@dataclass(frozen=True)
class SourceKind:
    """A kind of source.

    name: of the kind. matches: whether a text means this kind; quick, and opens nothing. opener: "module:function",
    called with the text; gives a `Source`. live: as of its sources, if that is known before one is opened.
    """

    name: str
    matches: Callable[[str], bool]
    opener: str
    live: bool = False


KINDS: dict[str, SourceKind] = {}
"""By name, in the order in which they are asked."""


def register(kind: SourceKind) -> None:
    """Register a kind for `--source` and `open_source`. It is asked after the others, and replaces one of the same
    name."""
    KINDS[kind.name] = kind


def _mode(text: str) -> int:
    """The type of the file at a path; 0: there is none."""
    try:
        return stat.S_IFMT(Path(text).stat().st_mode) if text else 0
    except (OSError, ValueError):  # not there, not ours to look at, too long, or no path at all
        return 0


_ROOM = "spinn_client.sources"
# What is there wins: a file may be called 7, demo, or http:x.
register(SourceKind("folder", lambda text: _mode(text) == stat.S_IFDIR, f"{_ROOM}.folder:open_folder"))
register(
    SourceKind(
        "picture", lambda text: _mode(text) == stat.S_IFREG and is_picture(Path(text)), f"{_ROOM}.folder:open_picture"
    )
)
register(SourceKind("clip", lambda text: _mode(text) == stat.S_IFREG, f"{_ROOM}.video:open_clip"))
register(SourceKind("device", lambda text: _mode(text) == stat.S_IFCHR, f"{_ROOM}.camera:open_device", live=True))
register(SourceKind("demo", lambda text: text == "demo", f"{_ROOM}.demo:open_demo"))
register(
    SourceKind("camera", lambda text: text.isascii() and text.isdecimal(), f"{_ROOM}.camera:open_number", live=True)
)
register(
    SourceKind(
        "stream", lambda text: text.lower().startswith(tuple(f"{s}://" for s in SCHEMES)),
        f"{_ROOM}.video:open_stream", live=True,
    )
)  # fmt: skip


def kind_of(text: str) -> SourceKind | None:
    """The kind of source that a text means; None: no kind."""
    return next((kind for kind in list(KINDS.values()) if kind.matches(text)), None)


def open_source(text: str) -> Source:
    """The source that `--source` names: FILE, FOLDER, a camera's number, a stream's address, or `demo`.

    Cameras, clips and streams are opened once pictures are asked for; see `Source.pictures`.

    Raises:
        SourceError: there is no such source, or it cannot be used.
    """
    kind = kind_of(text)
    if kind is not None:
        module, _, function = kind.opener.partition(":")
        source: Source = getattr(importlib.import_module(module), function)(text)
        return source
    named = shown(text)
    expected = "expected a video file, a picture, a folder of pictures, a camera's number, rtsp://... or demo"
    if text and _mode(text):
        raise SourceError(f"'{named}' is not a file; {expected}")
    raise SourceError(f"no file '{named}'; {expected}")
