"""What crosses the network <-> payload: activations, and the frame itself at split 0.

A codec has a name and a version, which both ends agree on first; how fine it is, the sender chooses by its setting.

    transform   activations in a basis fitted to data, near their entropy, as changes since an earlier one
    cnn-co      activations as SPINN sends them: the baseline
    jpeg, png   the frame, at split 0
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle
from spinn_stream.frame import MAX_PICTURE_OVERHEAD_BYTES, decode_jpeg, decode_png, encode_jpeg, encode_png, normalise

from . import cnn_co, transform
from .basis import basis_of
from .payload_tables import setting_of, smallest_row
from .settings import JPEG, PNG, SUPPORTED, CodecSetting
from .stream import Receiver, Sender

__all__ = [
    "JPEG",
    "PNG",
    "SUPPORTED",
    "CodecSetting",
    "PayloadReceiver",
    "PayloadSender",
    "decode_payload",
    "default_setting",
    "encode_payload",
    "max_payload_bytes",
]

Floats = npt.NDArray[np.float32]

DEFAULT_BITS = 10  # keeps the label on 99 % of pictures at every cut point; 6 keeps the accuracy (docs/codec.md)
DEFAULT_JPEG_QUALITY = 95  # of a bundle without tables


def default_setting(bundle: Bundle, split: int, asked: CodecSetting | None = None) -> CodecSetting:
    """What a payload at this split is coded with: what a plan asks for, and else one that fits the bundle."""
    if asked is not None:
        return asked
    if split == 0:
        row = smallest_row(bundle, 0)
        return CodecSetting(JPEG, DEFAULT_JPEG_QUALITY) if row is None else setting_of(row)
    if bundle.has_basis(split):
        return CodecSetting(transform.NAME, DEFAULT_BITS)
    return CodecSetting(cnn_co.NAME, 8)


def max_payload_bytes(bundle: Bundle, split: int) -> int:
    """The largest payload that an honest client sends at this split."""
    elements = bundle.cut_points[split].elements
    if split == 0:
        return cnn_co.max_payload_bytes(elements) + MAX_PICTURE_OVERHEAD_BYTES  # PNG's bound is like LZ4's
    return max(cnn_co.max_payload_bytes(elements), transform.max_payload_bytes(elements))


class PayloadSender:
    """Codes what one connection sends, in any setting. See `stream.Sender` for who may call what."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._stream = Sender()

    def encode(
        self, request: int, split: int, setting: CodecSetting, activation: Floats, picture: npt.NDArray[np.uint8]
    ) -> bytes:
        """What crosses the network for one frame.

        Args:
            activation: (1, C, H, W) at the split; not looked at for split 0.
            picture: (size, size, 3) RGB, the frame as the network sees it; looked at for split 0 only.

        Raises:
            CodecError: values that cannot be coded, or a setting that does not go with the split or the bundle.
        """
        setting.check_split(split)
        if setting.codec != transform.NAME:
            return _encode_alone(setting, activation, picture)
        assert setting.quality is not None
        return self._stream.encode(request, split, basis_of(self._bundle, split), setting.quality, activation)

    def acknowledge(self, request: int) -> None:
        """The server answered this request."""
        self._stream.acknowledge(request)

    def reset(self) -> None:
        """The connection is another one, or the server says that it lost a reference."""
        self._stream.reset()


class PayloadReceiver:
    """Decodes what one connection receives. Calls must not overlap."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._stream = Receiver()

    @property
    def held_bytes(self) -> int:
        """Memory of what later payloads may refer to."""
        return self._stream.held_bytes

    def decode(self, request: int, split: int, codec: str, payload: bytes) -> Floats:
        """Payload -> activation at the split, (1, C, H, W) float32.

        Raises:
            CodecError: a codec that does not go with the split or the bundle, or a payload that is not what it says.
            ReferenceMissing: it is a change since something that is not held.
        """
        if codec != transform.NAME or split == 0:
            return decode_payload(self._bundle, split, codec, payload)
        shape = self._bundle.cut_points[split].shape
        return self._stream.decode(request, split, basis_of(self._bundle, split), payload).reshape(1, *shape)

    def clear(self) -> None:
        """Hold nothing more."""
        self._stream.clear()


def encode_payload(
    bundle: Bundle, split: int, setting: CodecSetting, activation: Floats, picture: npt.NDArray[np.uint8]
) -> bytes:
    """One frame that has nothing to do with any other; see `PayloadSender.encode`."""
    return PayloadSender(bundle).encode(0, split, setting, activation, picture)


def decode_payload(bundle: Bundle, split: int, codec: str, payload: bytes) -> Floats:
    """The same way back; see `PayloadReceiver.decode`."""
    if codec not in SUPPORTED or (codec in (JPEG, PNG)) != (split == 0):
        CodecSetting.any_of(codec).check_split(split)
    if codec == JPEG:
        return normalise(decode_jpeg(payload, bundle.input.size), bundle.input)
    if codec == PNG:
        return normalise(decode_png(payload, bundle.input.size), bundle.input)
    shape = bundle.cut_points[split].shape
    if codec == cnn_co.NAME:
        return cnn_co.decode(payload, (1, *shape))
    return Receiver().decode(0, split, basis_of(bundle, split), payload).reshape(1, *shape)


def _encode_alone(setting: CodecSetting, activation: Floats, picture: npt.NDArray[np.uint8]) -> bytes:
    if setting.codec == PNG:
        return encode_png(picture)
    assert setting.quality is not None
    if setting.codec == JPEG:
        return encode_jpeg(picture, setting.quality)
    return cnn_co.encode(activation, setting.quality)
