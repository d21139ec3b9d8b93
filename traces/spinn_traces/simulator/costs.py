"""What the steps of a simulated system take: by the profiles, and for what these do not have, as measured here."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from spinn_stream.codec import CodecSetting, PayloadReceiver, PayloadSender
from spinn_stream.frame import Pixels, crop, normalise
from spinn_stream.model.bundle import Bundle
from spinn_stream.plan import Profile
from spinn_stream.runtime import Engine
from spinn_stream.runtime.engine import Activation
from spinn_stream.runtime.host import Step
from spinn_stream.runtime.timing import StopRule, sample, summary

HAND_OVER_MS = 0.06
"""From the event loop to a thread, and back."""

HOP_MS = 0.25
"""From the arrival of a message's last byte at a process until its event loop has it."""

SAMPLES = 12
ROUNDS = 4
WARM_UP = 6
RULE = StopRule(budget_s=0.5)

P95_SIGMAS = 1.645
"""The 95th percentile of a normal distribution, in standard deviations."""

MOST_SPREAD = 0.2
"""A profile that was measured on a busy machine has no more than this."""


@dataclass(frozen=True)
class Costs:
    """Milliseconds that a profile does not have. All of them are of a machine at full speed.

    preprocess_ms: crop, resize, normalise and layout of the source's frames. encode_ms, decode_ms: of one payload at
    a cut point, with the setting that is used there. hand_over_ms, hop_ms: see the constants. spread: standard
    deviation of the logarithm of a step's time.
    """

    preprocess_ms: float
    encode_ms: Mapping[int, float] = field(default_factory=dict)
    decode_ms: Mapping[int, float] = field(default_factory=dict)
    hand_over_ms: float = HAND_OVER_MS
    hop_ms: float = HOP_MS
    spread: float = 0.0


def measure_costs(
    bundle: Bundle, engine: Engine, profile: Profile, pictures: Sequence[Pixels], settings: Mapping[int, CodecSetting]
) -> Costs:
    """What a profile does not have, on this machine, by medians.

    Args:
        profile: of the engine; how its times spread is taken for that of all.
        pictures: (H, W, 3) uint8 BGR, as the source has them; the first SAMPLES are used.
        settings: what is sent at which cut points.

    Raises:
        EngineError: the engine cannot run this bundle.
    """
    some = list(pictures[:SAMPLES])
    crops = [crop(picture, bundle.input.size) for picture in some]
    inputs = [normalise(picture, bundle.input) for picture in crops]
    prepared = sample([lambda: normalise(crop(some[0], bundle.input.size), bundle.input)], RULE)[0]
    encode_ms, decode_ms = {}, {}
    for cut, setting in settings.items():
        if cut >= bundle.last:
            continue
        activations = [x if cut == 0 else engine.run(0, cut, x, exit=False)[0].copy() for x in inputs]
        encode_ms[cut], decode_ms[cut] = _codec_ms(bundle, cut, setting, activations, crops)
    row = profile.batches[0]
    total, high = (sum(getattr(t, name) for t in row.segments) for name in ("median_ms", "p95_ms"))
    spread = math.log(max(1.0, high / total)) / P95_SIGMAS if total > 0 else 0.0
    return Costs(summary(prepared).median_ms, encode_ms, decode_ms, spread=min(spread, MOST_SPREAD))


def _codec_ms(
    bundle: Bundle, cut: int, setting: CodecSetting, activations: Sequence[Activation], crops: Sequence[Pixels]
) -> tuple[float, float]:
    """Of one payload, each referring to the one before where the codec does that."""
    sender, receiver = PayloadSender(bundle), PayloadReceiver(bundle)
    encoded, decoded = [], []
    for request in range(ROUNDS * len(activations)):
        x, picture = activations[request % len(activations)], crops[request % len(activations)]
        began = time.perf_counter()
        payload = sender.encode(request, cut, setting, x.copy(), picture)
        middle = time.perf_counter()
        receiver.decode(request, cut, setting.codec, payload)
        encoded.append((middle - began) * 1000)
        decoded.append((time.perf_counter() - middle) * 1000)
        sender.acknowledge(request)
    return summary(encoded[WARM_UP:]).median_ms, summary(decoded[WARM_UP:]).median_ms


class CostedPace:
    """As `Pace`: has each step take the virtual time that it would.

    Args:
        profile: of the engine at full speed. slowdown: everything takes so many times as long; may be changed.
        spend: takes seconds.
    """

    def __init__(
        self,
        profile: Profile,
        costs: Costs,
        spend: Callable[[float], None],
        *,
        slowdown: float = 1.0,
        rng: random.Random,
    ) -> None:
        self._profile = profile
        self._costs = costs
        self._spend = spend
        self._rng = rng
        self.slowdown = slowdown

    def __call__(self, step: Step, began: float) -> None:
        ms = self._expected_ms(step) * self.slowdown
        if self._costs.spread:
            ms *= math.exp(self._rng.gauss(0, self._costs.spread))
        self._spend(ms / 1000)

    def _expected_ms(self, step: Step) -> float:
        if step.kind == "graph":
            exits = {step.stop} if step.exit else set()
            return self._profile.expected_ms([(step.start, step.stop)], exits, batch=step.batch)
        if step.kind == "preprocess":
            return self._costs.preprocess_ms
        table = self._costs.encode_ms if step.kind == "encode" else self._costs.decode_ms
        return table.get(step.start, 0.0) * step.batch
