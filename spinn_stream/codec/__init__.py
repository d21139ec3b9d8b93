"""Activation <-> payload. Every codec has a name and a version, which both ends agree on first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import CodecError
from ..frame import decode_png, encode_png, normalise
from ..model.bundle import Bundle
from . import cnn_co

__all__ = ["ACTIVATION", "FRAME", "SUPPORTED", "codec_for", "decode_payload", "encode_payload", "max_payload_bytes"]

ACTIVATION = cnn_co.NAME
FRAME = "png"
SUPPORTED: dict[str, int] = {cnn_co.NAME: cnn_co.VERSION, FRAME: 1}
"""Codec -> the version this program speaks."""


FRAME_OVERHEAD_BYTES = 4096
"""A PNG's chunks and row filters beyond its pixels, which CNN-CO's bound does not hold."""


def codec_for(split: int) -> str:
    """What a payload at this split is coded with: the frame itself at 0, activations behind it."""
    return FRAME if split == 0 else ACTIVATION


def max_payload_bytes(bundle: Bundle, split: int) -> int:
    """The largest payload that an honest client sends at this split."""
    return cnn_co.max_payload_bytes(bundle.cut_points[split].shape) + FRAME_OVERHEAD_BYTES


def encode_payload(split: int, activation: npt.NDArray[np.float32], picture: npt.NDArray[np.uint8]) -> bytes:
    """What crosses the network for one frame.

    Args:
        activation: (1, C, H, W) at the split; not looked at for split 0.
        picture: (size, size, 3) RGB, the frame as the network sees it; looked at for split 0 only.

    Raises:
        CodecError: values that cannot be coded.
    """
    if codec_for(split) == FRAME:
        return encode_png(picture)
    return cnn_co.encode(activation)


def decode_payload(bundle: Bundle, split: int, codec: str, payload: bytes) -> npt.NDArray[np.float32]:
    """Payload -> activation at the split, (1, C, H, W) float32.

    Raises:
        CodecError: a codec that does not go with the split, or a payload that is not what it says.
    """
    if codec != codec_for(split):
        raise CodecError(f"codec {codec!r} does not go with split {split}, expected {codec_for(split)!r}")
    if codec == FRAME:
        return normalise(decode_png(payload, bundle.input.size), bundle.input)
    return cnn_co.decode(payload, (1, *bundle.cut_points[split].shape))
