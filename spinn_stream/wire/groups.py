"""Groups of classes, on the wire: for each class of the bundle the index of its group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle
from spinn_stream.errors import RemoteProtocolError

INDEX = np.dtype("<u2")
MOST_GROUPS = np.iinfo(INDEX).max + 1


def pack_groups(group_of: Sequence[int] | None) -> bytes:
    """The bytes; group_of None: answers name classes. Raises ValueError: more groups than an index can name."""
    if group_of is None:
        return b""
    if max(group_of) >= MOST_GROUPS:
        raise ValueError(f"{max(group_of) + 1} groups, at most {MOST_GROUPS} can be told")
    return np.asarray(group_of, INDEX).tobytes()


def read_groups(payload: bytes, bundle: Bundle) -> npt.NDArray[np.intp] | None:
    """(classes,), index of each class's group; None: answers name classes.

    Raises:
        RemoteProtocolError: not one index for each class, or an index that names no group.
    """
    if not payload:
        return None
    classes = len(bundle.labels)
    if len(payload) != classes * INDEX.itemsize:
        raise RemoteProtocolError(
            "bad_message", f"groups: {len(payload)} bytes, expected 0 or {classes * INDEX.itemsize}"
        )
    group_of = np.frombuffer(payload, INDEX).astype(np.intp)
    if group_of.max() >= classes:
        raise RemoteProtocolError("bad_message", f"groups: index {group_of.max()}, expected less than {classes}")
    return group_of
