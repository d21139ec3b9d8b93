"""Each part of the steering removed, or replaced by the obvious: the rows of `ablation`.

A variant changes names of the client's and the planner's modules while its runs last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spinn_client.device.clock import StageClock
from spinn_client.link.window import Window
from spinn_client.steering import steering
from spinn_client.steering.exit_rates import ExitRates
from spinn_client.steering.guide import default_split
from spinn_stream.bundle import Bundle
from spinn_stream.codec.stream import Sender
from spinn_stream.plan import LinkEstimate, PlanTable
from spinn_stream.plan.change import scheduler
from spinn_stream.plan.change.hysteresis import Hysteresis
from spinn_stream.plan.link.belief import LinkBounds
from spinn_stream.plan.link.probes import ProbeConfig, Prober
from spinn_stream.plan.policy.baselines import POLICIES, Mask, one_setting, without_exits
from spinn_stream.plan.predict.predictor import LinkState

Change = tuple[object, str, Any]
"""An object, the name of an attribute of it, and what it is while the variant runs."""

SMOOTHED = 0.25
"""Weight of a new rate in the smoothed one."""


class SmoothedLink:
    """A smoothed rate and the least round trip instead of a belief, as SPINN, DynO and video players have them."""

    def __init__(self, now: float, surprised: Callable[[], None] = lambda: None) -> None:
        self._estimate = LinkEstimate(now)
        self._in_flight: set[int] = set()
        self._up_mbps, self._rtt_ms = 8.0, 40.0  # as the belief begins
        self.heard = now

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def sent(self, request: int, size: int, now: float) -> None:
        self._in_flight.add(request)
        self._estimate.sent(request, size, now)

    def answered(self, request: int, now: float, *, arrived_ms: float, left_ms: float) -> None:
        self._in_flight.discard(request)
        self._estimate.answered(request, now, arrived_ms=arrived_ms, left_ms=left_ms)
        self.heard = now

    def refused(self, request: int, now: float) -> None:
        self._in_flight.discard(request)
        self._estimate.refused(request, now)
        self.heard = now

    def ponged(self, rtt_ms: float, now: float) -> None:
        self._estimate.ponged(rtt_ms, now)
        self.heard = now

    def disconnected(self) -> None:
        self._in_flight.clear()
        self._estimate.disconnected()

    def bounds(self, now: float, up: float = 0.5, rtt: float = 0.5) -> LinkBounds:
        found = self._estimate.reading(now)
        if found.up_mbps is not None and (found.full or found.up_mbps > self._up_mbps):
            self._up_mbps += SMOOTHED * (max(found.up_mbps, 0.05) - self._up_mbps)
        if found.rtt_ms is not None:
            self._rtt_ms = found.rtt_ms
        return LinkBounds(self._up_mbps, self._rtt_ms, 0.0)

    def state(self, now: float) -> LinkState:
        found = self.bounds(now)
        return LinkState(found.up_mbps, found.rtt_ms)


@dataclass(frozen=True)
class Variant:
    """changes: gives what is changed; plans: which of a table's plans may be chosen."""

    changes: Callable[[], Sequence[Change]] = lambda: ()
    plans: Callable[[Bundle, PlanTable], Mask] = POLICIES["spinn"].plans

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """While this lasts, the system is the variant."""
        changes = self.changes()
        before = [vars(thing)[name] for thing, name, _ in changes]
        try:
            for thing, name, value in changes:
                setattr(thing, name, value)
            yield
        finally:
            for (thing, name, _), value in zip(changes, before, strict=True):
                setattr(thing, name, value)


def patience(**values: float) -> Callable[[], Sequence[Change]]:
    """Other constants of the scheduler."""
    real = scheduler.SchedulerConfig
    return lambda: [(scheduler, "SchedulerConfig", lambda: replace(real(), **values))]


def _split_alone(bundle: Bundle, table: PlanTable) -> Mask:
    at = table.thresholds.index(bundle.default_threshold)
    return (table.threshold == at) & one_setting(bundle, table)


def _threshold_alone(bundle: Bundle, table: PlanTable) -> Mask:
    here = table.split == default_split(bundle, bundle.default_threshold)
    return np.asarray((here & one_setting(bundle, table)) | (table.split == table.last))


def _one_probe() -> Sequence[Change]:
    real = ProbeConfig()
    small = replace(real, most_bytes=real.least_bytes)
    return [(steering, "Prober", lambda now: Prober(now, small))]


def _keys_only() -> Sequence[Change]:
    encode = Sender.encode

    def key(self: Sender, *arguments: Any) -> bytes:
        self.reset()
        return encode(self, *arguments)

    return [(Sender, "encode", key)]


def _same_repairs() -> Sequence[Change]:
    return [
        (Hysteresis, "repair_at", property(lambda self: np.inf if self._broken is None else self._broken + 0.3)),
        *patience(repairs_s=0.0)(),
    ]


LEARNED: Sequence[Change] = (
    (ExitRates, "shifts", lambda self, now: self._told),
    (steering, "PAYLOAD_STEP", 0.0),
    (steering, "OVERHEAD_STEP", 0.0),
    (steering, "SERVER_OVERHEAD_STEP_MS", 0.0),
    (StageClock, "load_of_prediction", lambda self, now: 1.0),
)
"""Each taken away alone, and all together."""

NO_HOLDS = {"hold_s": 0.0, "least_hold_s": 0.0, "longest_hold_s": 0.0}
NO_TIES = {"settle_s": float("inf")}
NO_PATIENCE = {"patience_s": 1e-6, "rest_s": 0.0}

VARIANTS: dict[str, Variant] = {
    "as it is": Variant(),
    # the link
    "smoothed rate instead of the belief": Variant(lambda: [(steering, "LinkBelief", SmoothedLink)]),
    "no probes": Variant(lambda: [(Prober, "due", lambda self, now, belief: None)]),
    "probes of one size": Variant(_one_probe),
    "no window": Variant(lambda: [(Window, "open", lambda self, now: True)]),
    "one frame in flight": Variant(lambda: [(Window, "open", lambda self, now: not self._sent)]),
    # when a plan changes
    "no evidence": Variant(patience(proof=0.0)),
    "no ties": Variant(patience(**NO_TIES)),
    "no caution": Variant(patience(caution=0.0)),
    "no headroom": Variant(patience(headroom=0.0, clear_headroom=0.0)),
    "holds do not double": Variant(patience(longest_hold_s=4.0)),
    "no holds": Variant(patience(**NO_HOLDS)),
    "no shorter holds for large gains": Variant(patience(clear_margin=float("inf"))),
    "repairs at once": Variant(patience(repair_s=0.0)),
    "repairs always wait the same time": Variant(_same_repairs),
    "later targets need no patience": Variant(patience(**NO_PATIENCE)),
    "a margin of 0": Variant(patience(margin=0.0)),
    "margin and evidence alone": Variant(
        patience(**NO_HOLDS, **NO_TIES, **NO_PATIENCE, caution=0.0, headroom=0.0, clear_headroom=0.0)
    ),
    "margin and one hold alone": Variant(
        patience(
            **NO_TIES,
            **NO_PATIENCE,
            proof=0.0,
            caution=0.0,
            headroom=0.0,
            clear_headroom=0.0,
            longest_hold_s=4.0,
            least_hold_s=4.0,
        )
    ),
    "the best plan at every look": Variant(
        patience(
            **NO_HOLDS,
            **NO_TIES,
            **NO_PATIENCE,
            caution=0.0,
            headroom=0.0,
            clear_headroom=0.0,
            margin=0.0,
            proof=0.0,
            repair_s=0.0,
        )
    ),
    # what is learned besides
    "no exit shifts": Variant(lambda: LEARNED[:1]),
    "no payload factors": Variant(lambda: LEARNED[1:2]),
    "no device overhead": Variant(lambda: LEARNED[2:3]),
    "no server overhead": Variant(lambda: LEARNED[3:4]),
    "no load of the device": Variant(lambda: LEARNED[4:]),
    "nothing learned but the link": Variant(lambda: LEARNED),
    # what is chosen
    "no exits": Variant(plans=without_exits),
    "split alone": Variant(plans=_split_alone),
    "threshold alone": Variant(plans=_threshold_alone),
    "one codec setting": Variant(plans=one_setting),
    "no temporal coding": Variant(_keys_only),
}
"""The rows."""
