"""Codec settings: a codec and its quality, such as `transform:7`, `cnn-co:8`, `jpeg:85` or `png`."""

from __future__ import annotations

from dataclasses import dataclass

from spinn_stream.bundle import Bundle
from spinn_stream.errors import CodecError

from .base import Codec
from .registry import CODECS, codec_of


@dataclass(frozen=True)
class CodecSetting:
    """A codec and its quality. quality: one of the codec's `qualities`; None: it has none.

    Raises:
        CodecError: no such codec, or no such quality of it.
    """

    codec: str
    quality: int | None

    def __post_init__(self) -> None:
        allowed = codec_of(self.codec).qualities
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
    def default_of(cls, codec: Codec) -> CodecSetting:
        """The codec's default setting."""
        return cls(codec.name, codec.default_quality)

    @classmethod
    def any_of(cls, codec: str) -> CodecSetting:
        """A setting of the codec of this name, of any quality. Raises CodecError: there is no such codec."""
        return cls.default_of(codec_of(codec))

    def __str__(self) -> str:
        return self.codec if self.quality is None else f"{self.codec}:{self.quality}"

    @property
    def kind(self) -> Codec:
        """The codec itself."""
        return codec_of(self.codec)

    @property
    def of_frames(self) -> bool:
        """Whether it codes the frame itself, at split 0, and not an activation."""
        return self.kind.of_frames

    def check_split(self, split: int) -> None:
        """Raises CodecError: it does not fit this split."""
        if self.of_frames != (split == 0):
            kinds = [name for name, codec in CODECS.items() if codec.of_frames == (split == 0)]
            raise CodecError(f"codec {self} does not go with split {split}, expected one of {', '.join(kinds)}")

    def prepare(self, bundle: Bundle, split: int) -> None:
        """Check that this bundle can be coded so at this split, and read what that needs.

        Raises:
            CodecError: it cannot. BundleError: what it needs is damaged.
        """
        self.check_split(split)
        self.kind.prepare(bundle, split)
