"""How often frames are answered by repeating, to plan with."""

from __future__ import annotations

import math

from spinn_stream.plan.predict.exit_shares import NO_REPEATS, RepeatRates
from spinn_stream.repeat import Repeats

from .exit_rates import REST_S

STEP = 0.1
"""Smaller changes of the share are not worth a new table."""


class RepeatShare:
    """The share of repeats, as the camera's last frames show it. None: there is no repeat exit."""

    def __init__(self, repeats: Repeats | None) -> None:
        self._repeats = repeats
        self._told = NO_REPEATS
        self._told_at = -math.inf

    def rates(self, now: float) -> RepeatRates:
        """For `build_table`. They change only if that is worth a new table. now: seconds."""
        repeats = self._repeats
        if repeats is not None and abs(repeats.share - self._told.share) >= STEP and now - self._told_at >= REST_S:
            self._told, self._told_at = RepeatRates(repeats.share, repeats.loss), now
        return self._told
