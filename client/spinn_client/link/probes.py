"""Frames that are sent to learn of the link alone."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from spinn_stream.codec import CodecSetting
from spinn_stream.plan import Plan

if TYPE_CHECKING:
    from spinn_client.link.link import Link

PROBE_S = 2.0
"""A probe that waits for longer before it is sent is not sent."""

MOST_PROBES = 16
"""Whose answers may be under way; the oldest is forgotten then."""

PROBE_CODEC = CodecSetting("jpeg", 95)
"""Of its name alone is told to the server; any quality is decoded alike."""


class Probes:
    """frames: those that were sent, the newest ones."""

    def __init__(self) -> None:
        self.frames: deque[int] = deque(maxlen=MOST_PROBES)

    def send(self, frame: int, payload: bytes, link: Link, now: float) -> None:
        """Send a frame that is answered already; the server's first exit will do. now: seconds."""
        if link.send(frame, Plan(0, 0, 0.0, PROBE_CODEC), payload, now + PROBE_S, None):
            self.frames.append(frame)
