"""What a codec is: an object that knows everything about one kind of payload, its two ends on a connection included."""

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
    """Milliseconds of one thread that is not disturbed, on the x86 that the results in benchmarks/ were measured on.

    The scheduler plans with them until a device has measured its own encoding; load factors scale them.
    """

    encode_ms: float  # for any payload at all
    encode_ms_per_million: float  # and for each million numbers
    decode_ms: float
    decode_ms_per_million: float


class SenderEnd(Protocol):
    """One codec's state on the sending side of one connection.

    `encode` runs in one thread; `acknowledge` and `reset` may be called in another one meanwhile, and count from the
    next `encode` on.
    """

    def encode(self, request: int, split: int, quality: int | None, activation: Floats, picture: Pixels) -> bytes:
        """The payload of one frame.

        Args:
            request: its id, rising. quality: one of the codec's `qualities`.
            activation: (1, C, H, W) float32 at the split; not looked at by a codec of frames.
            picture: (size, size, 3) RGB, the frame as the network sees it; looked at by a codec of frames only.

        Raises:
            CodecError: values that cannot be coded, or a bundle that lacks what the codec needs.
        """

    def acknowledge(self, request: int) -> None:
        """The receiver answered this request, which may have been coded by another codec: so it holds it."""

    def reset(self) -> None:
        """The receiver holds nothing of what was sent so far."""


class ReceiverEnd(Protocol):
    """One codec's state on the receiving side of one connection. Calls must not overlap."""

    @property
    def held_bytes(self) -> int:
        """Memory of what later payloads may refer to."""

    def decode(self, request: int, split: int, payload: bytes) -> Floats:
        """Payload -> (1, C, H, W) float32 at the split. Allocates nothing because the payload says so.

        Raises:
            CodecError: the payload is not what it says. ReferenceMissing: it refers to what is not held.
        """

    def clear(self) -> None:
        """Hold nothing more."""


class Codec(ABC):
    """One way from an activation, or from the frame itself, to a payload and back. See docs/extend.md.

    name: as `--codec` and the wire have it. version: both ends must have the same one.
    qualities: what may stand behind the name, from coarse to fine; None: nothing may.
    default_quality: where nobody says. table_qualities: those that the tables of a bundle are measured for.
    of_frames: it codes the frame itself, at split 0, and not an activation. lossless: what is decoded is what was sent.
    """

    name: str
    version: int = 1
    qualities: range | None
    default_quality: int | None
    table_qualities: Sequence[int | None]
    of_frames: bool = False
    lossless: bool = False
    cost: CodingCost

    def usable(self, bundle: Bundle, split: int) -> bool:
        """Whether it can code what this bundle sends at this split."""
        return self.of_frames == (split == 0)

    def prepare(self, bundle: Bundle, split: int) -> None:
        """Read what coding at this split needs, so that the first frame does not wait for it.

        Raises:
            CodecError: the bundle has not got it. BundleError: it is damaged.
        """
        return

    @abstractmethod
    def max_payload_bytes(self, elements: int) -> int:
        """The largest payload that an honest sender makes of `elements` numbers (3 x size x size of a frame)."""

    def guessed_bytes(self, elements: int, quality: int | None) -> float:
        """What a payload takes, for planning with a bundle that has no tables."""
        return elements * (8 if quality is None else quality) / 8

    @abstractmethod
    def sender(self, bundle: Bundle) -> SenderEnd:
        """The sending end of a new connection. Cheap: it reads nothing yet."""

    @abstractmethod
    def receiver(self, bundle: Bundle) -> ReceiverEnd:
        """The receiving end of a new connection. Cheap: it reads nothing yet."""


class StatelessCodec(Codec):
    """A codec whose payloads stand for themselves: two functions, and nothing is held between frames."""

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
