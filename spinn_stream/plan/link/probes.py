"""When to send a probe over an unused link, so that the client notices when the server is worth using again."""

from __future__ import annotations

from spinn_stream.codec.settings import CodecSetting

from .belief import LinkBelief

QUALITIES = ((95, 3.2), (80, 1.9), (60, 1.1), (30, 0.65), (5, 0.0))
"""JPEG qualities of probes, and from how many Mb/s each is used: a probe then takes the link some 15 ms."""

EVERY_S, AGAIN_S = 2.0, 0.25
"""Time between two probes, and after one that changed the belief."""

CHANGED = 0.25
"""A probe changed the belief if the capacity's median moved by at least this share."""


class Prober:
    """Decides; the client sends, as it sends any request, and tells the belief as of any request.

    A probe is a frame that the device answers, sent as a picture, too. `now` is in seconds and never falls.
    """

    def __init__(self, now: float) -> None:
        self._last = now - EVERY_S  # the first one at once
        self._median: float | None = None  # capacity believed in when the last probe was sent

    def used(self, now: float) -> None:
        """A frame was sent, which is as good as a probe."""
        self._last = max(self._last, now)

    def due(self, now: float, belief: LinkBelief) -> CodecSetting | None:
        """How to code the present frame for a probe; None: none is due. The caller must send it.

        While a request waits for its answer, no probe is due: that request is one.
        """
        if belief.in_flight or now - self._last < AGAIN_S:
            return None
        median, before = belief.state(now, 0.5, 0.5).up_mbps, self._median
        changed = before is not None and abs(median - before) > CHANGED * min(median, before)
        if not changed and now - self._last < EVERY_S:
            return None
        self._last, self._median = now, median
        return CodecSetting("jpeg", next(quality for quality, least in QUALITIES if median >= least))
