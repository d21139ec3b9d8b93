"""The codecs by name. Each is a file, and a registration here or in the program that has it."""

from __future__ import annotations

from spinn_stream.errors import CodecError

from .base import Codec
from .cnn_co import CnnCo
from .jpeg import Jpeg
from .png import Png
from .stream import Transform

CODECS: dict[str, Codec] = {}
"""By name. The default at a split is the first one that is usable there."""

SUPPORTED: dict[str, int] = {}
"""Codec -> this program's version, as both ends tell each other."""


def register(codec: Codec) -> None:
    """Register a codec for `--codec`, plans and the wire. It replaces one of the same name.

    Open connections keep the codecs that were registered when they began.
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
