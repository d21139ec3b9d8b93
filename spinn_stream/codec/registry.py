"""The codecs by name. One is a file, and a registration here or in the program that brings it."""

from __future__ import annotations

from spinn_stream.errors import CodecError

from .base import Codec
from .cnn_co import CnnCo
from .jpeg import Jpeg
from .png import Png
from .stream import Transform

CODECS: dict[str, Codec] = {}
"""By name. Of those that go with a split, the first one that is usable there is the default."""

SUPPORTED: dict[str, int] = {}
"""Codec -> the version this program speaks, as both ends tell each other."""


def register(codec: Codec) -> None:
    """Let `--codec`, plans and the wire know a codec. A later one of the same name takes the place of the earlier.

    Connections that are open keep the codecs that there were when they began.
    """
    CODECS[codec.name] = codec
    SUPPORTED[codec.name] = codec.version


def codec_of(name: str) -> Codec:
    """Raises CodecError: there is no codec of this name."""
    codec = CODECS.get(name)
    if codec is None:
        raise CodecError(f"codec {name!r:.40}, expected one of {', '.join(CODECS)}")
    return codec


register(Transform())
register(CnnCo())
register(Jpeg())
register(Png())
