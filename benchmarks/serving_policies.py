"""What is it worth that requests of different cut points share batches? In virtual time.

    python benchmarks/serving_policies.py [--json]

The server's own work scheduler decides, for requests that arrive at random at four cut points, in eight sessions, with
budgets of 150 ms. A step takes what the profile says, and 0.3 ms to hand it over; payloads are decoded beside it.
Nothing waits, so that no other process disturbs the figures. The profile is that of this machine for one request (the
bundle of 200 classes); how much cheaper each request of a larger batch is, is one of these:

    flat   every request costs the same, however many run together
    cpu    1.6 times as much alone as in a batch of 8 (what one core of this project's machines shows)
    gpu    nearly as much for one as for sixteen

For each policy and load (a share of what run-to-end answers of 64 requests that are always in flight): answers in time
a second, and how many requests go through a segment together.

Then, for the policy of segments and the prices of cpu: what the reserve for waits is worth (`BUSY_RESERVE`) if steps do
not take exactly what is expected, but that times a random factor (lognormal, of this standard deviation), and answers
are 3 ms on their way, on average.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from lite2_200 import LITE2_200
from rich.console import Console
from rich.table import Table

from spinn_server.work import scheduler as scheduling
from spinn_server.work.costs import Costs
from spinn_server.work.request import Request
from spinn_server.work.scheduler import BatchLimits, Policy, Scheduler, Step
from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.profile import BatchProfile, Profile, Timing
from spinn_stream.runtime import Answer, open_engine, stored_profile
from spinn_stream.wire import RejectReason

SPLITS = ("block3", "block6", "block9", "block11")
SESSIONS, IN_FLIGHT = 8, 64
BUDGET_S, LASTS_S = 0.15, 10.0
LOADS = (0.8, 1.0, 1.5, 3.0)
STEP_S = 0.0003
"""To hand a step to the engine, and its results back."""

RESERVES, SPREADS, AWAY_S = (1.2, 1.6, 2.0), (0.0, 0.1, 0.2, 0.4), 0.003

PRICES = {
    "flat": dict.fromkeys((1, 2, 4, 8, 16), 1.0),
    "cpu": {1: 1.6, 2: 1.25, 4: 1.05, 8: 1.0, 16: 1.0},
    "gpu": {n: (0.95 + 0.05 * n) / n for n in (1, 2, 4, 8, 16)},
}
"""By batch size: what each request costs, as a multiple of what one costs in the profile."""


class Client:
    """Hears of nothing: the loop below counts."""

    def answered(self, request: Request, exit_index: int, found: Answer, *, shortened: bool) -> None: ...

    def refused(self, request: Request, reason: RejectReason, detail: str) -> None: ...


def priced(profile: Profile, prices: dict[int, float]) -> Profile:
    """The profile of one request, and of larger batches by their prices."""
    one = profile.batches[0]

    def times(timings: Sequence[Timing], factor: float) -> tuple[Timing, ...]:
        return tuple(Timing(t.median_ms * factor, t.p95_ms * factor) for t in timings)

    rows = [
        BatchProfile(n, times(one.segments, n * price), times(one.exits, n * price), one.call_ms)
        for n, price in prices.items()
    ]
    return replace(profile, batches=tuple(rows))


@dataclass
class Played:
    """Requests answered in time and late, and refused; rows and steps: each counted once for each segment run."""

    good: int = 0
    late: int = 0
    refused: int = 0
    rows: int = 0
    steps: int = 0

    def row(self, seconds: float) -> dict[str, float]:
        return {
            "goodput": round(self.good / seconds, 1), "late": self.late, "refused": self.refused,
            "mean_batch": round(self.rows / self.steps, 2) if self.steps else 0.0,
        }  # fmt: skip


class Play:
    """One server, with requests that arrive.

    Args:
        spread: of the logarithm of steps' times. away_s: mean time that an answer is on its way.
    """

    def __init__(
        self, bundle: Bundle, profile: Profile, policy: Policy, seed: int = 1, *, spread: float = 0, away_s: float = 0
    ) -> None:
        self._spread, self._away_s = spread, away_s
        limits = BatchLimits(policy=policy)
        self._costs = Costs(bundle, profile, limits.max_batch_size)
        self._scheduler = Scheduler(limits, self._costs)
        self._splits = [bundle.split_index(name) for name in SPLITS]
        self._random = random.Random(seed)
        self._clients = [Client() for _ in range(SESSIONS)]
        self._count = 0
        self.played = Played()
        self.now = 0.0

    def open_loop(self, rate: float) -> None:
        """Arrivals at this rate, whatever becomes of them."""
        gaps = np.random.default_rng(2).exponential(1 / rate, int(rate * LASTS_S))
        arrivals = [float(at) for at in np.cumsum(gaps)]
        while arrivals or len(self._scheduler):
            while arrivals and arrivals[0] <= self.now:
                self._arrives(arrivals.pop(0), BUDGET_S)
            wake_at, _ = self._step()
            if wake_at is not None:
                self.now = max(self.now, min([wake_at, *arrivals[:1]]))

    def closed_loop(self) -> None:
        """As many as are always in flight, without hurry; the next one comes when one is answered."""
        waiting = [0.0] * IN_FLIGHT
        while self.now < LASTS_S:
            while waiting and waiting[0] <= self.now:
                self._arrives(heapq.heappop(waiting), 1e6)
            wake_at, answered = self._step()
            for _ in range(answered):
                heapq.heappush(waiting, self.now)
            if wake_at is not None:
                self.now = max(self.now, min([wake_at, *waiting[:1]]))

    def _arrives(self, at: float, budget_s: float) -> None:
        self._count += 1
        split, client = self._random.choice(self._splits), self._random.choice(self._clients)
        request = Request(client, self._count, split, "none", b"", {}, None, at, at + budget_s)
        refusal = self._scheduler.admit(request, self.now)
        self.played.refused += refusal is not None
        if request in self._scheduler:
            self._scheduler.decoded(request)

    def _step(self) -> tuple[float | None, int]:
        """When to ask again, if nothing ran, and how many were answered."""
        decision = self._scheduler.next(self.now, sources=SESSIONS)
        self.played.refused += len(decision.hopeless)
        if decision.step is None:
            return float("inf") if decision.wake_at is None else decision.wake_at, 0
        return None, self._ran(decision.step)

    def _ran(self, step: Step) -> int:
        length, rows = step.stop - step.start, len(step.batch)
        self.played.steps += length
        self.played.rows += length * rows
        factor = self._random.lognormvariate(0, self._spread)
        self.now += factor * self._costs.run(step.start, step.stop, rows) + STEP_S
        answered = self._scheduler.ran(step, [0.0] * rows if step.stop in self._costs.exits else None, self.now)
        away_s = [self._random.expovariate(1 / self._away_s) if self._away_s else 0.0 for _ in answered]
        in_time = sum(self.now + s <= request.expires for (request, _), s in zip(answered, away_s, strict=True))
        self.played.good += in_time
        self.played.late += len(answered) - in_time
        return len(answered)


def measure() -> dict[str, Any]:
    bundle = load_bundle(LITE2_200)
    engine = open_engine(bundle, "onnxruntime", threads=1)
    one = stored_profile(bundle, engine, threads=1)
    found: dict[str, Any] = {}
    for name, prices in PRICES.items():
        profile = priced(one, prices)
        full: dict[Policy, float] = {}
        for policy in Policy:
            play = Play(bundle, profile, policy)
            play.closed_loop()
            full[policy] = play.played.good / play.now
        rows: dict[str, Any] = {"closed_loop": {policy.value: round(each, 1) for policy, each in full.items()}}
        for load in LOADS:
            rows[f"{load:g}"] = {}
            for policy in Policy:
                play = Play(bundle, profile, policy)
                play.open_loop(load * full[Policy.RUN_TO_END])
                rows[f"{load:g}"][policy.value] = play.played.row(LASTS_S)
        enough = Costs(bundle, profile, BatchLimits().max_batch_size).enough(bundle.split_index(SPLITS[-1]))
        found[name] = {"enough": enough, **rows}
    return found


def measure_reserves() -> dict[str, Any]:
    """By reserve, spread and load."""
    bundle = load_bundle(LITE2_200)
    engine = open_engine(bundle, "onnxruntime", threads=1)
    profile = priced(stored_profile(bundle, engine, threads=1), PRICES["cpu"])
    play = Play(bundle, profile, Policy.SEGMENTS)
    play.closed_loop()
    full = play.played.good / play.now
    found: dict[str, Any] = {}
    for reserve in RESERVES:
        scheduling.BUSY_RESERVE = reserve
        for spread in SPREADS:
            rows: dict[str, Any] = {}
            found.setdefault(f"{reserve:g}", {})[f"{spread:g}"] = rows
            for load in LOADS:
                play = Play(bundle, profile, Policy.SEGMENTS, spread=spread, away_s=AWAY_S if spread else 0.0)
                play.open_loop(load * full)
                rows[f"{load:g}"] = play.played.row(LASTS_S)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    found, reserves = measure(), measure_reserves()
    if args.json:
        print(json.dumps({**found, "reserves": reserves}))
        return
    heads = [text for policy in Policy for text in (f"{policy.value}: in time a second", "mean batch")]
    table = Table("prices", "load", *heads)
    for name, rows in found.items():
        for load in LOADS:
            row = rows[f"{load:g}"]
            cells = [str(row[policy.value][key]) for policy in Policy for key in ("goodput", "mean_batch")]
            table.add_row(name, f"{load:g}", *cells)
    Console().print(table)
    loads = [text for load in LOADS for text in (f"load {load:g}: in time a second", "late")]
    table = Table("reserve", "spread of steps", *loads)
    for reserve, by_spread in reserves.items():
        for spread, row in by_spread.items():
            cells = [str(row[f"{load:g}"][key]) for load in LOADS for key in ("goodput", "late")]
            table.add_row(reserve, spread, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
