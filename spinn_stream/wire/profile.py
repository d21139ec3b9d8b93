"""A server's profile -> message, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle
from spinn_stream.errors import LocalProtocolError, RemoteProtocolError
from spinn_stream.profile import BatchProfile, Profile, Timing

from .messages import MAX_BATCH, MAX_BATCHES, MAX_HEADER_BYTES, MAX_MS, ServerProfile

_FLOAT = np.dtype("<f4")


def max_server_message_bytes(bundle: Bundle) -> int:
    """The largest message that an honest server sends: a profile, since the others are headers alone."""
    return 2 + MAX_HEADER_BYTES + _payload_bytes(bundle, MAX_BATCHES)


def profile_message(profile: Profile, bundle: Bundle) -> ServerProfile:
    """The message that carries a profile. Its times of preprocessing are left out: they are the server's own.

    Raises:
        LocalProtocolError: the profile is of another bundle, or the client would refuse it.
    """
    sizes = tuple(b.batch for b in profile.batches)
    if profile.exit_cuts != _exit_cuts(bundle) or len(profile.batches[0].segments) != bundle.last:
        raise LocalProtocolError(
            f"a profile of {len(profile.batches[0].segments)} segments with exits at {profile.exit_cuts}, "
            f"bundle {bundle.name} has {bundle.last} and {_exit_cuts(bundle)}"
        )
    if len(sizes) > MAX_BATCHES or sizes[-1] > MAX_BATCH:
        raise LocalProtocolError(f"batch sizes {sizes}, at most {MAX_BATCHES} of at most {MAX_BATCH} go")
    table = np.array(
        [
            [
                [*(t.median_ms for t in (*b.segments, *b.exits)), b.call_ms],
                [*(t.p95_ms for t in (*b.segments, *b.exits)), b.call_ms],
            ]
            for b in profile.batches
        ]
    )
    if not _good(table):
        raise LocalProtocolError(f"a profile with times that are not from 0 to {MAX_MS} ms")
    return ServerProfile(profile.runtime[:100], sizes, table.astype(_FLOAT).tobytes())


def read_profile(message: ServerProfile, bundle: Bundle) -> Profile:
    """The profile in a message; `preprocess` is 0.

    Raises:
        RemoteProtocolError: it does not fit the bundle, or has impossible times.
    """
    expected = _payload_bytes(bundle, len(message.batches))
    if len(message.payload) != expected:
        raise RemoteProtocolError(
            "bad_message", f"a profile of {len(message.payload)} bytes for this bundle, expected {expected}"
        )
    table = np.frombuffer(message.payload, _FLOAT).reshape(len(message.batches), 2, -1)
    if not _good(table):
        raise RemoteProtocolError("bad_message", f"a profile with times that are not from 0 to {MAX_MS} ms")
    if (table[:, 0, -1] != table[:, 1, -1]).any():
        raise RemoteProtocolError("bad_message", "a profile with two prices of one cut")
    rows = []
    for batch, (medians, p95s) in zip(message.batches, table.tolist(), strict=True):
        timings = [Timing(*pair) for pair in zip(medians[:-1], p95s[:-1], strict=True)]
        rows.append(BatchProfile(batch, tuple(timings[: bundle.last]), tuple(timings[bundle.last :]), medians[-1]))
    return Profile(message.runtime, _exit_cuts(bundle), tuple(rows), Timing(0, 0))


def _exit_cuts(bundle: Bundle) -> tuple[int, ...]:
    return tuple(e.cut for e in bundle.exits[:-1])


def _payload_bytes(bundle: Bundle, batches: int) -> int:
    columns = bundle.last + len(_exit_cuts(bundle)) + 1
    return batches * 2 * columns * _FLOAT.itemsize


def _good(table: npt.NDArray[np.floating[Any]]) -> bool:
    with np.errstate(invalid="ignore"):  # a signalling NaN, compared
        return bool(((table >= 0) & (table <= MAX_MS)).all())
