"""The repeat exit on a device: when there is one, and how the device's thread asks it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from spinn_stream.frame import Pixels
from spinn_stream.repeat import Look, Repeats

from .opening import DeviceConfig


def repeats_for(config: DeviceConfig, *, one_camera: bool, ours: bool) -> Repeats | None:
    """The repeat exit of a stream; None: it has none.

    If nobody said, there is one for the frames of one camera under our own policy. Other policies have no such exit,
    and a fixed plan says how every frame is treated.
    """
    wanted = one_camera and ours if config.repeat is None else config.repeat
    return Repeats(audit_rate=config.audit_rate) if wanted else None


def looks(
    repeats: Repeats, frame: int, clock: Callable[[], float], repeat: Callable[[int, Look], object]
) -> Callable[[Pixels], bool]:
    """A function for the device's thread: whether a prepared picture needs no answer of the network.

    Args:
        repeat: called on the event loop if the frame's answer repeats another one; an audit is run all the same.
    """
    loop = asyncio.get_running_loop()

    def look(picture: Pixels) -> bool:
        found = repeats.look(frame, picture, clock())
        if found.answer is not None:
            loop.call_soon_threadsafe(repeat, frame, found)
        return found.answer is not None and not found.audit

    return look
