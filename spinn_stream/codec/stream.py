"""The `transform` codec on a connection: both ends hold earlier frames, and a frame is coded as its change since one.

The sender refers only to what the receiver has acknowledged: an answer to a request says that its activation was
decoded and is held. It always refers to the newest such request, so that with a reference the receiver may drop
whatever is older. Both hold the same whole numbers. A reference is named by its request and by its checksum. A stream
ends with its connection: the next one uses nothing of it.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from spinn_stream.bundle import Bundle
from spinn_stream.frame import Pixels

from . import transform
from .base import Codec, CodingCost, ReceiverEnd, SenderEnd
from .basis import Basis, Floats, Grid, basis_of

MAX_HELD_BYTES = 4 * 1024 * 1024
"""Of one stream at the receiver: 5 activations of 401,408 elements, the largest of the default bundle."""

MAX_SENT = 64
"""Requests that the sender remembers at most; older ones are not referred to."""


class Sender:
    """The device's end.

    Frames are coded in one thread. Another thread may report what the receiver says; it counts from the next frame on.
    """

    def __init__(self) -> None:
        self._sent: OrderedDict[int, tuple[int, Grid]] = OrderedDict()  # request -> (cut point, what it is)
        self._acknowledged: tuple[int, int, Grid] | None = None  # request, cut point, what it is
        self._key_bytes: dict[int, int] = {}  # what the last key frame of a cut point took
        self._told: deque[int | None] = deque()  # requests that were acknowledged since the last frame; None: a reset

    def encode(self, request: int, cut: int, basis: Basis, bits: int, activation: Floats) -> bytes:
        """The payload of a request: the smaller of a key frame and a change, if there is a reference.

        Args:
            request: its id, rising.

        Raises:
            CodecError: see `transform.encode_key`.
        """
        while self._told:
            self._heard(self._told.popleft())
        reference = self._acknowledged
        if reference is None or reference[1] != cut:
            payload, grid = transform.encode_key(basis, bits, activation)
        else:
            before = (reference[0], reference[2])
            payload, grid = transform.encode(basis, bits, activation, before, key_bytes=self._key_bytes.get(cut))
        if transform.is_key(payload):
            self._key_bytes[cut] = len(payload)
        self._sent[request] = (cut, grid)
        if len(self._sent) > MAX_SENT:
            self._sent.popitem(last=False)
        return payload

    def acknowledge(self, request: int) -> None:
        """The receiver answered this request, so it holds it."""
        if request in self._sent:  # else another codec coded it, and `_told` might grow unread
            self._told.append(request)

    def reset(self) -> None:
        """Refer to nothing sent so far: the connection is new, or the receiver lost a reference."""
        self._told.append(None)

    def _heard(self, request: int | None) -> None:
        if request is None:
            self._sent.clear()
            self._acknowledged = None
            return
        sent = self._sent.pop(request, None)
        if sent is None:  # reset, forgotten, or older than another that was acknowledged
            return
        self._acknowledged = (request, *sent)
        for older in [r for r in self._sent if r < request]:
            del self._sent[older]


class Receiver:
    """The server's end. Calls must not overlap.

    Args:
        max_bytes: of references held at most; the oldest is dropped first.
    """

    def __init__(self, max_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[int, tuple[int, Grid]] = OrderedDict()  # request -> (cut point, what it is)
        self.held_bytes = 0

    def decode(self, request: int, cut: int, basis: Basis, payload: bytes) -> Floats:
        """Payload -> activation, (C, H, W) float32; it is held from now on.

        Raises:
            CodecError: the payload is damaged. ReferenceMissing: its reference is not held any more.
        """
        used: list[int] = []

        def find(short: int) -> Grid | None:
            for held, (at, grid) in reversed(self._held.items()):
                if held % transform.ID_MODULUS == short and at == cut:
                    used.append(held)
                    return grid
            return None

        grid = transform.decode(basis, payload, find)
        for older in [r for r in self._held if used and r < used[0]]:
            self._drop(older)
        if request in self._held:
            self._drop(request)
        self._held[request] = (cut, grid)
        self.held_bytes += grid.nbytes
        while self.held_bytes > self._max_bytes and len(self._held) > 1:
            self._drop(next(iter(self._held)))
        return basis.from_grid(grid)

    def clear(self) -> None:
        """Forget all references. The sender learns of it when it next refers to one."""
        self._held.clear()
        self.held_bytes = 0

    def _drop(self, request: int) -> None:
        _, grid = self._held.pop(request)
        self.held_bytes -= grid.nbytes


class Transform(Codec):
    """Quality: bits. `transform` describes the payload."""

    name = transform.NAME
    version = transform.VERSION
    refers = True
    qualities = transform.BITS
    default_quality = 10  # keeps the label on 99 % of pictures at every cut point; 6 keeps the accuracy (docs/codec.md)
    table_qualities = tuple(transform.BITS)
    cost = CodingCost(0.065, 19.7, 0.026, 31.9)  # key frames of 5,632 and 15,680 numbers, benchmarks/results/codec.json

    def usable(self, bundle: Bundle, split: int) -> bool:
        return super().usable(bundle, split) and bundle.has_basis(split)

    def prepare(self, bundle: Bundle, split: int) -> None:
        basis_of(bundle, split)

    def max_payload_bytes(self, elements: int) -> int:
        return transform.max_payload_bytes(elements)

    def sender(self, bundle: Bundle) -> SenderEnd:
        return _BundleSender(bundle)

    def receiver(self, bundle: Bundle) -> ReceiverEnd:
        return _BundleReceiver(bundle)


class _BundleSender:
    """A sender in the bases of a bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._stream = Sender()
        self.acknowledge, self.reset = self._stream.acknowledge, self._stream.reset

    def encode(self, request: int, split: int, quality: int | None, activation: Floats, picture: Pixels) -> bytes:
        assert quality is not None
        return self._stream.encode(request, split, basis_of(self._bundle, split), quality, activation)


class _BundleReceiver:
    """A receiver in the bases of a bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._stream = Receiver()
        self.clear = self._stream.clear

    @property
    def held_bytes(self) -> int:
        return self._stream.held_bytes

    def decode(self, request: int, split: int, payload: bytes) -> Floats:
        shape = self._bundle.cut_points[split].shape
        return self._stream.decode(request, split, basis_of(self._bundle, split), payload).reshape(1, *shape)
