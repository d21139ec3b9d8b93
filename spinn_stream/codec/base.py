"""What a codec is: an object that knows everything about one kind of payload, with the two ends of a connection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle
from spinn_stream.frame import Pixels

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CodingCost:
    """Milliseconds on one undisturbed thread, on the x86 machine of the results in benchmarks/.

    The scheduler plans with them until a device has measured its own encoding. Load factors scale them.
    """

    encode_ms: float  # for any payload at all
    encode_ms_per_million: float  # and for each million numbers
    decode_ms: float
    decode_ms_per_million: float

    def ms(self, elements: int) -> tuple[float, float]:
        """(to encode, to decode) this many numbers."""
        millions = elements * 1e-6
        encode_ms = self.encode_ms + self.encode_ms_per_million * millions
        return encode_ms, self.decode_ms + self.decode_ms_per_million * millions


class SenderEnd(Protocol):
    """One codec's state on the sending side of one connection.

    `encode` runs in one thread. `acknowledge` and `reset` may be called in another one meanwhile, and take effect from
    the next `encode` on.
    """

    def encode(self, request: int, split: int, quality: int | None, activation: Floats, picture: Pixels) -> bytes:
        """The payload of one frame.

        Args:
            request: its id, rising. quality: one of the codec's `qualities`.
            activation: (1, C, H, W) float32 at the split; a codec of frames ignores it.
            picture: (size, size, 3) RGB, the frame as the network sees it; only a codec of frames uses it.

        Raises:
            CodecError: values that cannot be coded, or a bundle that lacks what the codec needs.
        """

    def acknowledge(self, request: int) -> None:
        """The receiver answered this request, so it holds its activation. The request may have been coded by another
        codec."""

    def reset(self) -> None:
        """The receiver holds nothing of what was sent so far."""


class ReceiverEnd(Protocol):
    """One codec's state on the receiving side of one connection. Calls must not overlap."""

    @property
    def held_bytes(self) -> int:
        """Bytes of memory for activations to which later payloads may refer."""

    def decode(self, request: int, split: int, payload: bytes) -> Floats:
        """Payload -> (1, C, H, W) float32 at the split. Never allocates memory because of what the payload says.

        Raises:
            CodecError: the payload is damaged. ReferenceMissing: it refers to an activation that is not held.
        """

    def clear(self) -> None:
        """Forget all references."""


class Codec(ABC):
    """One way from an activation, or from the frame itself, to a payload and back. See docs/extend.md.

    name: as `--codec` and the wire have it. version: both ends must have the same one.
    qualities: that may follow the name, from coarse to fine; None: the codec has no quality. default_quality: if none
    is given. table_qualities: those that a bundle's tables are measured for.
    of_frames: it codes the frame itself, at split 0, and not an activation. lossless: decoding gives exactly what was
    coded. refers: payloads may be changes since earlier ones, so the receiving end has to decode them all, in order.
    """

    name: str
    version: int = 1
    qualities: range | None
    default_quality: int | None
    table_qualities: Sequence[int | None]
    of_frames: bool = False
    lossless: bool = False
    refers: bool = False
    cost: CodingCost

    def usable(self, bundle: Bundle, split: int) -> bool:
        """Whether it can code what this bundle sends at this split."""
        return self.of_frames == (split == 0)

    def prepare(self, bundle: Bundle, split: int) -> None:
        """Read what coding at this split needs, so that the first frame does not wait for it.

        Raises:
            CodecError: the bundle lacks it. BundleError: it is damaged.
        """
        return

    @abstractmethod
    def max_payload_bytes(self, elements: int) -> int:
        """The largest payload that an honest sender makes of `elements` numbers (3 x size x size of a frame)."""

    def guessed_bytes(self, elements: int, quality: int | None) -> float:
        """Estimated bytes of a payload, to plan with a bundle that has no tables."""
        return elements * (8 if quality is None else quality) / 8

    @abstractmethod
    def sender(self, bundle: Bundle) -> SenderEnd:
        """The sending end of a new connection. Cheap: it reads nothing yet."""

    @abstractmethod
    def receiver(self, bundle: Bundle) -> ReceiverEnd:
        """The receiving end of a new connection. Cheap: it reads nothing yet."""


class StatelessCodec(Codec):
    """A codec whose payloads can be decoded alone: two functions, and nothing is held between frames."""

    @abstractmethod
    def encode(self, bundle: Bundle, quality: int | None, activation: Floats, picture: Pixels) -> bytes:
        """See `SenderEnd.encode`."""

    @abstractmethod
    def decode(self, bundle: Bundle, split: int, payload: bytes) -> Floats:
        """See `ReceiverEnd.decode`."""

    def sender(self, bundle: Bundle) -> SenderEnd:
        return _StatelessSender(self, bundle)

    def receiver(self, bundle: Bundle) -> ReceiverEnd:
        return _StatelessReceiver(self, bundle)


class _StatelessSender:
    def __init__(self, codec: StatelessCodec, bundle: Bundle) -> None:
        self._codec = codec
        self._bundle = bundle

    def encode(self, request: int, split: int, quality: int | None, activation: Floats, picture: Pixels) -> bytes:
        return self._codec.encode(self._bundle, quality, activation, picture)

    def acknowledge(self, request: int) -> None:
        return

    def reset(self) -> None:
        return


class _StatelessReceiver:
    held_bytes = 0

    def __init__(self, codec: StatelessCodec, bundle: Bundle) -> None:
        self._codec = codec
        self._bundle = bundle

    def decode(self, request: int, split: int, payload: bytes) -> Floats:
        return self._codec.decode(self._bundle, split, payload)

    def clear(self) -> None:
        return
