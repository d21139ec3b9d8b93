"""The payloads of one connection, in any codec: the client's sender and the server's receiver."""

from __future__ import annotations

from spinn_stream.bundle import Bundle
from spinn_stream.frame import Pixels

from .base import Floats
from .payload_tables import setting_of, smallest_row
from .registry import CODECS
from .settings import CodecSetting


def default_setting(bundle: Bundle, split: int, asked: CodecSetting | None = None) -> CodecSetting:
    """The setting for payloads at this split: the one that a plan asks for, or else one that fits the bundle."""
    if asked is not None:
        return asked
    row = smallest_row(bundle, 0) if split == 0 else None
    if row is not None:
        return setting_of(row)
    return CodecSetting.default_of(next(c for c in CODECS.values() if c.usable(bundle, split)))


def max_payload_bytes(bundle: Bundle, split: int) -> int:
    """The largest payload that an honest client sends at this split."""
    elements = bundle.cut_points[split].elements
    return max(c.max_payload_bytes(elements) for c in CODECS.values() if c.of_frames == (split == 0))


def prepare_codecs(bundle: Bundle, split: int) -> None:
    """Read all that codecs may need at this split, so that no frame waits for it.

    Raises:
        BundleError: the bundle's data for it are damaged.
    """
    for codec in CODECS.values():
        if codec.usable(bundle, split):
            codec.prepare(bundle, split)


class PayloadSender:
    """Codes what one connection sends, in any setting.

    Made anew for each connection, which is cheap. `encode` runs in one thread. `acknowledge` and `reset` may be called
    in another one meanwhile, and take effect from the next `encode` on.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._ends = {name: codec.sender(bundle) for name, codec in CODECS.items()}

    def encode(self, request: int, split: int, setting: CodecSetting, activation: Floats, picture: Pixels) -> bytes:
        """The payload of one frame.

        Args:
            request: its id, rising.
            activation: (1, C, H, W) at the split; ignored for split 0.
            picture: (size, size, 3) RGB, the frame as the network sees it; used for split 0 only.

        Raises:
            CodecError: values that cannot be coded, or a setting that does not go with the split or the bundle.
        """
        setting.check_split(split)
        return self._ends[setting.codec].encode(request, split, setting.quality, activation, picture)

    def acknowledge(self, request: int) -> None:
        """The server answered this request."""
        for end in self._ends.values():
            end.acknowledge(request)

    def reset(self) -> None:
        """The server lost a reference: do not refer to anything sent so far."""
        for end in self._ends.values():
            end.reset()


class PayloadReceiver:
    """Decodes what one connection receives. Calls must not overlap."""

    def __init__(self, bundle: Bundle) -> None:
        self._ends = {name: codec.receiver(bundle) for name, codec in CODECS.items()}

    @property
    def held_bytes(self) -> int:
        """Bytes of memory for activations to which later payloads may refer."""
        return sum(end.held_bytes for end in self._ends.values())

    def decode(self, request: int, split: int, codec: str, payload: bytes) -> Floats:
        """Payload -> activation at the split, (1, C, H, W) float32.

        Raises:
            CodecError: the codec does not fit the split or the bundle, or the payload is damaged.
            ReferenceMissing: it is a change since an activation that is not held.
        """
        CodecSetting.any_of(codec).check_split(split)
        return self._ends[codec].decode(request, split, payload)

    def clear(self) -> None:
        """Forget all references."""
        for end in self._ends.values():
            end.clear()


def encode_payload(bundle: Bundle, split: int, setting: CodecSetting, activation: Floats, picture: Pixels) -> bytes:
    """The payload of one frame alone; see `PayloadSender.encode`."""
    setting.check_split(split)
    return setting.kind.sender(bundle).encode(0, split, setting.quality, activation, picture)


def decode_payload(bundle: Bundle, split: int, codec: str, payload: bytes) -> Floats:
    """The activation of a payload alone; see `PayloadReceiver.decode`."""
    setting = CodecSetting.any_of(codec)
    setting.check_split(split)
    return setting.kind.receiver(bundle).decode(0, split, payload)
