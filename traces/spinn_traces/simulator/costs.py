"""The times of a simulated system's steps: from the profiles, and from measurements for what they do not have."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting
from spinn_stream.profile import Profile
from spinn_stream.runtime.machine.host import Step

HOP_MS = 0.25
"""From the arrival of a message's last byte at a process until its event loop has it. Chosen, not measured: real and
simulated medians agree with it (docs/simulator.md), and it is small beside them."""


@dataclass(frozen=True)
class Costs:
    """Times that a profile does not have, of a machine at full speed.

    preprocess_ms: crop, resize, normalise and layout of the source's frames. encode_ms, decode_ms: of one payload, by
    (cut point, codec); missing ones take the scheduler's times, times the pace. graph_ms: of graphs that ran on the
    device, (start, stop, whether with the exit there); others take the profile's times, times the pace. device_pace,
    server_pace: time of the network at the source's rate over that of its profile: after other work, or a pause, caches
    are cold. hand_over_ms: from the event loop to a thread, and back. hop_ms: see HOP_MS. ratios: times of some frames
    over their median; one is drawn for each frame and batch.
    """

    preprocess_ms: float
    encode_ms: Mapping[tuple[int, str], float] = field(default_factory=dict)
    decode_ms: Mapping[tuple[int, str], float] = field(default_factory=dict)
    graph_ms: Mapping[tuple[int, int, bool], float] = field(default_factory=dict)
    device_pace: float = 1.0
    server_pace: float = 1.0
    hand_over_ms: float = 0.0
    hop_ms: float = HOP_MS
    ratios: tuple[float, ...] = (1.0,)

    def as_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        tables = {name: [[*key, ms] for key, ms in getattr(self, name).items()] for name in TABLES}
        return {**asdict(self), **tables, "ratios": list(self.ratios)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Costs:
        """What `as_json` gave."""
        tables = {name: {tuple(key): ms for *key, ms in values[name]} for name in TABLES}
        return cls(**{**values, **tables, "ratios": tuple(values["ratios"])})


TABLES = ("encode_ms", "decode_ms", "graph_ms")


class CostedPace:
    """A `Pace` that lets each step take its virtual time.

    Args:
        profile: of the engine at full speed. pace: factor on its times of graphs.
        graphs: known times of single graphs, ms.
        slowdown: the factor on every time; may be changed. spend: takes seconds.
    """

    def __init__(
        self,
        bundle: Bundle,
        profile: Profile,
        costs: Costs,
        spend: Callable[[float], None],
        *,
        pace: float = 1.0,
        graphs: Mapping[tuple[int, int, bool], float] | None = None,
        slowdown: float = 1.0,
        rng: random.Random,
    ) -> None:
        self._bundle = bundle
        self._profile = profile
        self._costs = costs
        self._spend = spend
        self._rng = rng
        self._pace = pace
        self._graphs = graphs or {}
        self._ratio = 1.0
        self.slowdown = slowdown

    def __call__(self, step: Step, began: float) -> None:
        if step.kind in ("preprocess", "decode"):  # what comes next is of another frame or batch
            self._ratio = self._rng.choice(self._costs.ratios)
        self._spend(self._expected_ms(step) * self.slowdown * self._ratio / 1000)

    def _expected_ms(self, step: Step) -> float:
        if step.kind == "graph":
            known = self._graphs.get((step.start, step.stop, step.exit)) if step.batch == 1 else None
            if known is not None:
                return known
            exits = {step.stop} if step.exit else set()
            return self._pace * self._profile.expected_ms([(step.start, step.stop)], exits, batch=step.batch)
        if step.kind == "preprocess":
            return self._costs.preprocess_ms
        encodes = step.kind == "encode"
        known = (self._costs.encode_ms if encodes else self._costs.decode_ms).get((step.start, step.codec))
        if known is None:
            elements = self._bundle.cut_points[step.start].elements
            encode_ms, decode_ms = CodecSetting.any_of(step.codec).kind.cost.ms(elements)
            known = self._pace * (encode_ms if encodes else decode_ms)
        return known * step.batch
