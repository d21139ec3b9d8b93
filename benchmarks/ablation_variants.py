"""Each part of the steering removed, or replaced by the obvious: the rows of `ablation`.

A variant changes names of the client's and the planner's modules while its runs last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinn_client.device.clock import StageClock
from spinn_client.link.estimate import LinkEstimate
from spinn_client.link.window import Window
from spinn_client.steering import steering
from spinn_client.steering.guide import default_split
from spinn_client.steering.learned import Pictures
from spinn_client.steering.steering import Steering
from spinn_stream.bundle import Bundle
from spinn_stream.codec.stream import Sender
from spinn_stream.plan import PlanTable
from spinn_stream.plan.change import patience, scheduler
from spinn_stream.plan.link import belief, probes
from spinn_stream.plan.link.belief import LinkBelief
from spinn_stream.plan.link.probes import Prober
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

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def sent(self, request: int, size: int, now: float) -> None:
        self._in_flight.add(request)
        self._estimate.sent(request, size, now)

    def answered(self, request: int, now: float, *, arrived_ms: float, left_ms: float) -> None:
        self._in_flight.discard(request)
        self._estimate.answered(request, now, arrived_ms=arrived_ms, left_ms=left_ms)

    def refused(self, request: int, now: float) -> None:
        self._in_flight.discard(request)
        self._estimate.refused(request, now)

    def ponged(self, rtt_ms: float, now: float) -> None:
        self._estimate.ponged(rtt_ms, now)

    def disconnected(self) -> None:
        self._in_flight.clear()
        self._estimate.disconnected()

    def state(self, now: float, up: float = 0.5, rtt: float = 0.5) -> LinkState:
        found = self._estimate.reading(now)
        if found.up_mbps is not None and (found.full or found.up_mbps > self._up_mbps):
            self._up_mbps += SMOOTHED * (max(found.up_mbps, 0.05) - self._up_mbps)
        if found.rtt_ms is not None:
            self._rtt_ms = found.rtt_ms
        return LinkState(self._up_mbps, self._rtt_ms)


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


def constants(module: object, **values: float) -> Callable[[], Sequence[Change]]:
    """Other constants of a module."""
    return lambda: [(module, name, value) for name, value in values.items()]


def _medians() -> Sequence[Change]:
    real = LinkBelief.state
    return [(LinkBelief, "state", lambda self, now, up=0.5, rtt=0.5: real(self, now, up, rtt))]


def _split_alone(bundle: Bundle, table: PlanTable) -> Mask:
    at = table.thresholds.index(bundle.default_threshold)
    return (table.threshold == at) & one_setting(bundle, table)


def _threshold_alone(bundle: Bundle, table: PlanTable) -> Mask:
    here = table.split == default_split(bundle, bundle.default_threshold)
    return np.asarray((here & one_setting(bundle, table)) | (table.split == table.last))


def _keys_only() -> Sequence[Change]:
    encode = Sender.encode

    def key(self: Sender, *arguments: Any) -> bytes:
        self.reset()
        return encode(self, *arguments)

    return [(Sender, "encode", key)]


LEARNED: Sequence[Change] = (
    (Pictures, "shifts", property(lambda self: (0.0,) * len(self._exits))),
    (Pictures, "payload_factors", property(lambda self: {})),
    (Steering, "treated", lambda self, overhead_s: None),
    (StageClock, "load_of_prediction", lambda self, now: 1.0),
)
"""Each taken away alone, and all together."""

VARIANTS: dict[str, Variant] = {
    "as it is": Variant(),
    # the link
    "smoothed rate instead of the belief": Variant(lambda: [(steering, "LinkBelief", SmoothedLink)]),
    "a belief that learns no jitter": Variant(constants(belief, JITTER_STEP=0.0)),
    "jumps of both at once alone": Variant(constants(belief, JUMPS_UP=0.0, JUMPS_RTT=0.0)),
    "silence is no evidence": Variant(lambda: [(LinkBelief, "_silence", lambda self, now: 1.0)]),
    "no ping after a surprise": Variant(constants(belief, SURPRISE=np.inf)),
    "medians of the belief": Variant(_medians),
    "no probes": Variant(lambda: [(Prober, "due", lambda self, now, belief: None)]),
    "probes of one size": Variant(lambda: [(probes, "QUALITIES", ((5, 0.0),))]),
    "no window": Variant(lambda: [(Window, "open", lambda self, now: True)]),
    "one frame in flight": Variant(lambda: [(Window, "open", lambda self, now: not self._sent)]),
    # when a plan changes
    "no margin": Variant(constants(patience, MARGIN=1e-9)),
    "no proof": Variant(constants(patience, PROOF=0.0)),
    "no calm": Variant(constants(patience, CALM_S=1e-3)),
    "no headroom": Variant(constants(scheduler, HEADROOM=0.0)),
    "the best plan at every look": Variant(
        lambda: [*constants(patience, MARGIN=1e-9, PROOF=0.0)(), *constants(scheduler, HEADROOM=0.0)()]
    ),
    # what is learned besides
    "no exit shifts": Variant(lambda: LEARNED[:1]),
    "no payload factors": Variant(lambda: LEARNED[1:2]),
    "no device overhead": Variant(lambda: LEARNED[2:3]),
    "no load of the device": Variant(lambda: LEARNED[3:]),
    "nothing learned but the link": Variant(lambda: LEARNED),
    # what is chosen
    "no exits": Variant(plans=without_exits),
    "split alone": Variant(plans=_split_alone),
    "threshold alone": Variant(plans=_threshold_alone),
    "one codec setting": Variant(plans=one_setting),
    "no temporal coding": Variant(_keys_only),
}
"""The rows."""
