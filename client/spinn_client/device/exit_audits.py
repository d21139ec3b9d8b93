"""Audits of early exits: what they lose on this camera beyond what the bundle's tables say.

A share of the frames that an early exit answers here has its final result, and goes on all the same. What the exit cost
is the probability that the later answer gives its own label, less the one that it gives the exit's (see
`spinn_stream.repeat.agreement`). The tables say what that is on the pictures that the bundle was calibrated with. If
this camera's loss is larger, with 95 % confidence, plans count the difference (`Exits`), and the threshold follows.
"""

from __future__ import annotations

import random
from collections import OrderedDict

from spinn_stream.bundle import Bundle
from spinn_stream.plan import Plan
from spinn_stream.repeat.agreement import FRAMES, lost_by, upper_bound
from spinn_stream.runtime import Answer

MOST_OPEN = 64
"""Audits whose later answer may still come; the oldest is forgotten then."""


class ExitAudits:
    """Of one camera. All methods run on the event loop, but `wanted`, which runs in the device's thread.

    Args:
        rate: share of the frames that an early exit answers here, 0 to 1.
    """

    def __init__(self, bundle: Bundle, rate: float) -> None:
        self._bundle, self._rate = bundle, rate
        self._rng = random.Random(1)  # nothing secret; the same run gives the same audits
        self._open: OrderedDict[int, tuple[Answer, float]] = OrderedDict()  # an exit's answer, and its loss by tables
        self._frames = self._lost = self._expected = 0.0
        self.audits = 0
        self.disagreed = 0

    def wanted(self) -> bool:
        """Whether the frame that an exit answers now is to go on."""
        return self._rng.random() < self._rate

    def passed(self, frame: int, plan: Plan, answer: Answer) -> None:
        """An early exit has answered a frame that goes on."""
        self._open[frame] = answer, self._by_tables(plan)
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)

    def answered(self, frame: int, answer: Answer) -> None:
        """An answer came for a frame; that of an audit is compared."""
        audited = self._open.pop(frame, None)
        if audited is None:
            return
        early, expected = audited
        kept = 1 - 1 / FRAMES
        self._frames = kept * self._frames + 1
        self._lost = kept * self._lost + lost_by(early.label, answer)
        self._expected = kept * self._expected + expected
        self.audits += 1
        self.disagreed += early.label != answer.label

    @property
    def lost_beyond(self) -> float:
        """Accuracy that a frame which an early exit answers loses here, beyond the tables: at least this, with 95 %
        confidence; 0 if it is not more."""
        if not self._frames:
            return 0.0
        at_least = 1 - upper_bound(self._frames - self._lost, self._frames)
        return max(0.0, at_least - self._expected / self._frames)

    def _by_tables(self, plan: Plan) -> float:
        """The loss of a frame that an early exit answers under this plan's threshold."""
        row = self._bundle.threshold_row(plan.confidence_threshold)
        if row is None:
            return 0.0
        early = sum(self._bundle.thresholds[row].share[:-1])
        best = max(r.accuracy for r in self._bundle.thresholds)
        return max(0.0, best - self._bundle.thresholds[row].accuracy) / early if early else 0.0
