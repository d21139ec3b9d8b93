"""The fleets of `fleet.py`: ingresses, replicas and devices in virtual time, and who gets a request."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from spinn_server.admin.metrics import Metrics
from spinn_server.cluster.engine import RemoteEngine
from spinn_server.cluster.link import Link
from spinn_server.cluster.messages import Report
from spinn_server.cluster.replica import Replica
from spinn_server.work.costs import Costs as Expected
from spinn_server.work.request import Request
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.codec import cnn_co
from spinn_stream.profile import Profile
from spinn_stream.runtime import Answer, ExitOutput
from spinn_stream.wire import RejectReason
from spinn_traces.shape.flow import Direction
from spinn_traces.shape.link_model import LinkModel
from spinn_traces.shape.settings import Settings
from spinn_traces.simulator.costs import Costs
from spinn_traces.simulator.side import Side, host_of
from spinn_traces.simulator.virtual_loop import VirtualLoop, run_virtually
from spinn_traces.simulator.virtual_server import VirtualCarrier
from spinn_traces.simulator.virtual_socket import VirtualNetwork

SPLITS = ("block3", "block6", "block9", "block11")
CODEC = cnn_co.NAME  # any whose payloads are decoded at the replica
BUDGETS_MS = (100.0, 150.0)
RATE, BURST_RATE, BURST_S = 4.0, 20.0, 2.0
EACH_INGRESS = 4
HAND_OVER_MS = 0.15  # to a thread, and the same back: together what serving_policies.py takes
WARM_S, CAPACITY_S, IN_FLIGHT = 1.0, 5.0, 64
INGRESS_MS, REGION_MS = 0.5, 10.0
SECRET = "fleet"


class Stuck(RemoteEngine):
    """The replica that was dealt to the device."""

    def _choose(self, request: Request, usable: Sequence[Link]) -> Link:
        return sorted(usable, key=lambda link: link.address)[request.owner.number % len(usable)]


class Two(RemoteEngine):
    """The shorter line of two."""

    _rng = random.Random(0)

    def _choose(self, request: Request, usable: Sequence[Link]) -> Link:
        return min(self._rng.sample(usable, min(2, len(usable))), key=lambda link: link.line)


class Slack(RemoteEngine):
    """Where the request would be done first."""

    def __init__(self, bundle: Bundle, profile: Profile, *args: Any, **more: Any) -> None:
        super().__init__(bundle, profile, *args, **more)
        self._expected = Expected(bundle, profile, BatchLimits().max_batch_size)
        self._since: dict[Link, tuple[float, float]] = {}  # when it reported, and the work sent since, in seconds

    def _told(self, link: Link, report: Report) -> None:
        self._since[link] = self._now(), 0.0
        super()._told(link, report)

    def _wait_s(self, link: Link) -> float:
        at, sent = self._since.get(link, (0.0, 0.0))
        return max(0.0, link.report.delay_ms / 1000 - (self._now() - at)) + sent

    def _choose(self, request: Request, usable: Sequence[Link]) -> Link:
        own = self._expected.row(request.split, self._expected.last)
        link = min(usable, key=lambda link: self._wait_s(link) + own * link.report.factor)
        at, sent = self._since.get(link, (0.0, 0.0))
        self._since[link] = at, sent + own * link.report.factor
        return link


CHOICES: dict[str, type[RemoteEngine]] = {"stuck": Stuck, "shortest": RemoteEngine, "two": Two, "slack": Slack}


@dataclass(frozen=True)
class Fleet:
    """What is simulated. ingresses: None: one for EACH_INGRESS replicas. knows: replicas of each ingress; None: all.
    slow: each fourth replica takes twice as long, if it is 4; 0: none does. lasts_s: is counted, after WARM_S."""

    replicas: int
    load: float
    choice: str = "shortest"
    splits: tuple[str, ...] = SPLITS
    ingresses: int | None = None
    knows: int | None = None
    slow: int = 0
    ingress_ms: float = INGRESS_MS
    region_ms: float = REGION_MS
    lasts_s: float = 10.0
    seed: int = 1


class Blank:
    """An engine that computes nothing: the pace of its host takes the time."""

    name = "blank"

    def __init__(self, bundle: Bundle) -> None:
        most = BatchLimits().max_batch_size
        self._ends = [np.zeros((most, *cut.shape), np.float32) for cut in bundle.cut_points]
        self._exits = {exit.cut for exit in bundle.exits}
        self._logits = np.zeros((most, len(bundle.labels)), np.float32)
        self._ready: set[tuple[int, int, bool]] = set()

    def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None:
        self._ready.add((start, stop, exit))

    def ready(self, start: int, stop: int, *, exit: bool = True) -> bool:
        return (start, stop, exit) in self._ready

    def drop(self, start: int, stop: int, *, exit: bool = True) -> None:
        self._ready.discard((start, stop, exit))

    def run(self, start: int, stop: int, x: Any, *, exit: bool = True) -> tuple[Any, ExitOutput | None]:
        y = self._ends[stop][: len(x)]
        return y, ExitOutput(self._logits[: len(x)]) if exit and stop in self._exits else None


@cache
def _rows(bundle: Bundle) -> list[Any]:
    """Shared by all, which change nothing: thousands of clients would fill the memory."""
    return [np.zeros((1, *cut.shape), np.float32) for cut in bundle.cut_points]


class Zeros:
    """The end of a client's payloads, which are not decoded: the pace of the host takes the time."""

    held_bytes = 0

    def __init__(self, bundle: Bundle) -> None:
        self._rows = _rows(bundle)

    def decode(self, request: int, split: int, codec: str, payload: bytes) -> Any:
        return self._rows[split]


@dataclass
class Counted:
    """What came of requests, by their budget in ms. ms: times at the server of the answered ones."""

    sent: dict[float, int] = field(default_factory=lambda: dict.fromkeys(BUDGETS_MS, 0))
    in_time: dict[float, int] = field(default_factory=lambda: dict.fromkeys(BUDGETS_MS, 0))
    ms: list[float] = field(default_factory=list)


class Device:
    """Asks, and counts what becomes of it. number: in the order in which they were dealt out."""

    def __init__(self, number: int, fleet: Fleet, engine: RemoteEngine, counted: Counted) -> None:
        self.number, self._fleet, self._engine, self._counted = number, fleet, engine, counted
        self._budget_ms = BUDGETS_MS[number % 2]
        self._rng = random.Random(f"{fleet.seed}/{number}")
        self._splits = [engine.bundle.split_index(name) for name in fleet.splits]

    def times(self) -> Iterator[float]:
        """When it asks, in seconds. Bursts of BURST_S come as often as the mean rate allows."""
        bursts, period = self.number % 5 == 0, BURST_S * BURST_RATE / RATE
        begun = self._rng.uniform(0, period)  # before the beginning
        asking = 0.0  # time that it has spent in bursts
        while True:
            asking += self._rng.expovariate(BURST_RATE if bursts else RATE)
            whole, within = divmod(asking, BURST_S)
            at = whole * period + within - begun if bursts else asking
            if at >= 0:
                yield at

    async def run(self, loop: VirtualLoop) -> None:
        self._engine.join(self)
        zero = loop.time()
        self._counts_from = zero + WARM_S
        for id, at in enumerate(self.times()):
            if at > WARM_S + self._fleet.lasts_s:
                return
            await asyncio.sleep(zero + at - loop.time())
            now = loop.time()
            if now >= self._counts_from:
                self._counted.sent[self._budget_ms] += 1
            split = self._rng.choice(self._splits)
            expires = now + (self._budget_ms - self._fleet.region_ms) / 1000
            self._engine.submit(Request(self, id, split, CODEC, b"", {}, None, now, expires))

    def answered(self, request: Request, exit_index: int, found: Answer, *, shortened: bool) -> None:
        if request.arrived >= self._counts_from:
            now = asyncio.get_running_loop().time()
            self._counted.in_time[self._budget_ms] += now <= request.expires
            self._counted.ms.append((now - request.arrived) * 1000)

    def refused(self, request: Request, reason: RejectReason, detail: str) -> None: ...


class Patient:
    """Has IN_FLIGHT requests open all the time, without hurry."""

    number = 0

    def __init__(self, engine: RemoteEngine, splits: Sequence[str]) -> None:
        self._engine, self._ids, self._rng = engine, itertools.count(), random.Random(0)
        self._splits = [engine.bundle.split_index(name) for name in splits]
        self.done = 0

    def ask(self) -> None:
        now = asyncio.get_running_loop().time()
        split = self._rng.choice(self._splits)
        self._engine.submit(Request(self, next(self._ids), split, CODEC, b"", {}, None, now, now + 3600))

    def answered(self, request: Request, exit_index: int, found: Answer, *, shortened: bool) -> None:
        self.done += 1
        self.ask()

    def refused(self, request: Request, reason: RejectReason, detail: str) -> None: ...


@asynccontextmanager
async def running(
    loop: VirtualLoop, bundle: Bundle, profile: Profile, fleet: Fleet
) -> AsyncIterator[tuple[list[RemoteEngine], list[Metrics]]]:
    """Ingresses, and the figures of the replicas."""
    networks: dict[str, VirtualNetwork] = {}
    figures, tasks, directions = [], [], []
    slowest = [t.p95_ms / t.median_ms for t in profile.batches[0].segments if t.median_ms]
    usual = Costs(
        0.0, decode_ms={(cut, CODEC): 0.0 for cut in range(bundle.last)}, hand_over_ms=HAND_OVER_MS,
        ratios=(1.0,) * 19 + (float(np.median(slowest)),),
    )  # fmt: skip
    link = Settings().changed({"rtt_ms": fleet.ingress_ms}, has_trace=False)
    for number in range(fleet.replicas):
        side = Side(profile, usual, slowdown=2.0 if fleet.slow and number % fleet.slow == 0 else 1.0)
        host, metrics = host_of(loop, bundle, side, random.Random(f"{fleet.seed}/{number}")), Metrics()
        tail = TailEngine(bundle, Blank(bundle), BatchLimits(), metrics, profile, host=host, receiver=Zeros)
        tail.prepare(lambda done, total: None)
        replica = Replica(tail, metrics, SECRET, host=host)
        tasks.append(asyncio.create_task(replica.run()))
        ways = [
            Direction(LinkModel(link.conditions(name, None, 0.0), seed=fleet.seed, name=name), loop.clock)
            for name in ("up_mbps", "down_mbps")
        ]
        directions += ways
        networks[f"{number:04}"] = VirtualNetwork(*ways, _serving(replica, host.clock), hop_s=usual.hop_ms / 1000)
        figures.append(metrics)

    @asynccontextmanager
    async def connect(address: str) -> AsyncIterator[Any]:
        socket = await networks[address].dial(address, None, 0)
        try:
            yield socket
        finally:
            socket.abort()

    engines = []
    count = fleet.ingresses or max(1, fleet.replicas // EACH_INGRESS)
    for number in range(count):
        known = list(networks)
        if fleet.knows is not None:  # each replica has the same number of ingresses
            first = number * fleet.replicas // count
            known = [known[(first + n) % fleet.replicas] for n in range(fleet.knows)]

        async def find(known: list[str] = known) -> list[str]:
            return known

        host = host_of(loop, bundle, Side(profile, usual), random.Random(0))
        engine = CHOICES[fleet.choice](bundle, profile, Metrics(), find, SECRET, host=host, connect=connect)
        tasks.append(asyncio.create_task(engine.run()))
        engines.append(engine)
    while any(len(engine.replicas) < (fleet.knows or fleet.replicas) for engine in engines):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    try:
        yield engines, figures
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for network in networks.values():
            await network.close()
        for way in directions:
            way.close()


def _serving(replica: Replica, clock: Any) -> Any:
    return lambda socket: replica.serve(VirtualCarrier(socket, clock))


def capacity(bundle: Bundle, profile: Profile, splits: Sequence[str]) -> float:
    """Answers a second of one replica of IN_FLIGHT requests."""

    async def main() -> float:
        fleet = Fleet(1, 1.0, ingress_ms=0.0, splits=tuple(splits))
        async with running(loop, bundle, profile, fleet) as ((engine,), _):
            client = Patient(engine, splits)
            engine.join(client)
            for _ in range(IN_FLIGHT):
                client.ask()
            await asyncio.sleep(WARM_S)
            before = client.done
            await asyncio.sleep(CAPACITY_S)
            return (client.done - before) / CAPACITY_S

    loop = VirtualLoop()
    return run_virtually(loop, main())


def played(bundle: Bundle, profile: Profile, fleet: Fleet, each: float) -> dict[str, float]:
    """The figures of one simulation; see `fleet.py`. each: capacity of a replica, requests a second."""

    async def main() -> dict[str, float]:
        counted = Counted()
        async with running(loop, bundle, profile, fleet) as (engines, figures):
            engines_of = itertools.cycle(engines)
            fast = fleet.replicas - (len(range(0, fleet.replicas, fleet.slow)) / 2 if fleet.slow else 0)
            devices = [
                Device(number, fleet, next(engines_of), counted)
                for number in range(round(fleet.load * each * fast / RATE))
            ]
            await asyncio.gather(*(device.run(loop) for device in devices))
            await asyncio.sleep(max(BUDGETS_MS) / 1000)
        batches = [_sample(metrics, "spinn_batch_size") for metrics in figures]
        ms = counted.ms or [0.0]  # none is answered from a region that is too far away
        return {
            "devices": len(devices), "sent": sum(counted.sent.values()),
            "in_time": sum(counted.in_time.values()) / sum(counted.sent.values()),
            **{f"in_time_{budget:g}": counted.in_time[budget] / counted.sent[budget] for budget in BUDGETS_MS},
            "p50_ms": float(np.percentile(ms, 50)), "p99_ms": float(np.percentile(ms, 99)),
            "batch": sum(rows for rows, _ in batches) / max(1, sum(steps for _, steps in batches)),
        }  # fmt: skip

    loop = VirtualLoop()
    return run_virtually(loop, main())


def _sample(metrics: Metrics, name: str) -> tuple[float, float]:
    values = [metrics.registry.get_sample_value(f"{name}_{part}") or 0.0 for part in ("sum", "count")]
    return values[0], values[1]
