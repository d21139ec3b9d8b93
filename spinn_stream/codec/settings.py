"""Codec settings: a codec and how fine it is, as `transform:7`, `cnn-co:8`, `jpeg:85` or `png`."""

from __future__ import annotations

from dataclasses import dataclass

from spinn_stream.errors import CodecError

from . import cnn_co, transform

JPEG, PNG = "jpeg", "png"

SUPPORTED: dict[str, int] = {transform.NAME: transform.VERSION, cnn_co.NAME: cnn_co.VERSION, JPEG: 1, PNG: 1}
"""Codec -> the version this program speaks."""

_QUALITIES = {transform.NAME: transform.BITS, cnn_co.NAME: cnn_co.BITS, JPEG: range(1, 101), PNG: None}
_OF_FRAMES = (JPEG, PNG)


@dataclass(frozen=True)
class CodecSetting:
    """What a payload is coded with. quality: bits of an activation's codec, 1 to 100 of JPEG, None of PNG.

    Raises:
        CodecError: no such codec, or no such quality of it.
    """

    codec: str
    quality: int | None

    def __post_init__(self) -> None:
        if self.codec not in _QUALITIES:
            raise CodecError(f"codec {self.codec!r:.40}, expected one of {', '.join(_QUALITIES)}")
        allowed = _QUALITIES[self.codec]
        if allowed is None and self.quality is not None:
            raise CodecError(f"{self.codec} has no quality, got {self.quality}")
        if allowed is not None and self.quality not in allowed:
            raise CodecError(f"{self}, expected {self.codec}:{allowed[0]} to {self.codec}:{allowed[-1]}")

    @classmethod
    def parse(cls, text: str) -> CodecSetting:
        """Raises CodecError: see the class."""
        codec, colon, quality = text.partition(":")
        if colon and not (quality.isascii() and quality.isdecimal() and len(quality) <= 3):
            raise CodecError(f"codec {text!r:.40}, expected a whole number behind the colon")
        return cls(codec, int(quality) if colon else None)

    @classmethod
    def any_of(cls, codec: str) -> CodecSetting:
        """Some setting of this codec. Raises CodecError where there is no such codec."""
        allowed = _QUALITIES.get(codec)
        return cls(codec, allowed[-1] if allowed else None)

    def __str__(self) -> str:
        return self.codec if self.quality is None else f"{self.codec}:{self.quality}"

    @property
    def of_frames(self) -> bool:
        """Whether it codes the frame itself, at split 0, and not an activation."""
        return self.codec in _OF_FRAMES

    def check_split(self, split: int) -> None:
        """Raises CodecError where it does not go with a split."""
        if self.of_frames != (split == 0):
            kinds = [name for name in _QUALITIES if (name in _OF_FRAMES) == (split == 0)]
            raise CodecError(f"codec {self} does not go with split {split}, expected one of {', '.join(kinds)}")
