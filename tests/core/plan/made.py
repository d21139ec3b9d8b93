"""Small bundles, profiles, conditions and agreements made up at random, from a seed."""

from __future__ import annotations

import random
from pathlib import Path

from spinn_stream.bundle import Bundle, CutPoint, Exit, InputSpec, PayloadRow, ThresholdRow
from spinn_stream.plan import METRICS, Conditions, Constraint, LinkState, Sla, Target
from spinn_stream.profile import BatchProfile, Profile, Timing

SETTINGS = ("transform:4", "transform:6", "transform:8", "cnn-co:8", "cnn-co:4")
PICTURES = ("jpeg:30", "jpeg:80", "jpeg:95", "png")


def made_bundle(rng: random.Random) -> Bundle:
    last = rng.randint(3, 7)
    exit_cuts = sorted(rng.sample(range(1, last), rng.randint(1, min(3, last - 1))))
    names = [f"cut{i}" for i in range(last + 1)]
    cuts = tuple(
        CutPoint(names[i], (3, 32, 32) if i == 0 else (rng.randint(1, 64), 8, 8) if i < last else (10,), i * 1000)
        for i in range(last + 1)
    )
    exits = tuple(Exit(names[c], c, 10, 1.0) for c in [*exit_cuts, last])
    final = rng.uniform(0.6, 0.9)
    base = {e.name: final - 0.1 * (len(exits) - 1 - i) * rng.random() for i, e in enumerate(exits)}
    rows = []
    thresholds = sorted(rng.sample([round(0.1 * i, 1) for i in range(10)], rng.randint(1, 4)))
    for t in thresholds:
        needed = tuple(None if rng.random() < 0.3 else rng.random() for _ in exits[:-1])
        parts = [rng.random() ** 2 for _ in exits]
        share = tuple(p / sum(parts) for p in parts)
        rows.append(ThresholdRow(t, needed, final - 0.05 * rng.random(), 0.5, share))
    if rng.random() < 0.8:
        early = len(exits) - 1
        rows.append(ThresholdRow(1.0, (None,) * early, final, 1.0, (*(0.0,) * early, 1.0)))
    payloads, other = [], random.Random(final)  # of its own, so that it moves nothing else
    measured = other.random() < 0.7
    if rng.random() < 0.9:
        for cut in range(last):
            behind = [e for e in exits if e.cut > cut]
            for name in PICTURES if cut == 0 else SETTINGS:
                size = rng.uniform(50, 20_000)
                lost = 0.0 if name == "png" else rng.uniform(-0.01, 0.05)
                kept = {e.name: base[e.name] - lost * rng.uniform(0.5, 1.5) for e in behind}
                by_threshold = tuple(other.uniform(-0.005, 0.05) for _ in rows) if measured else ()
                payloads.append(PayloadRow(cut, name, size, size * rng.uniform(1, 1.5), kept, by_threshold))
    return Bundle(
        "made", "0" * 64, InputSpec(32, 0.0, 1.0), tuple("abcdefghij"), cuts, exits, 0.5, tuple(rows), tuple(payloads),
        Path("none"), Path("none"),
    )  # fmt: skip


def made_profile(rng: random.Random, bundle: Bundle) -> Profile:
    def timing(most: float) -> Timing:
        ms = rng.uniform(0.05, most)
        return Timing(ms, ms * rng.uniform(1.0, 1.6))

    row = BatchProfile(
        1,
        tuple(timing(6) for _ in range(bundle.last)),
        tuple(timing(2) for _ in bundle.exits[:-1]),
        rng.uniform(0, 0.3),
    )
    other = random.Random(row.call_ms)  # of its own, so that it moves nothing else
    more = [_together(row, batch, other.uniform(0.6, 1.2)) for batch in (2, 8) if other.random() < 0.5]
    return Profile("made", tuple(e.cut for e in bundle.exits[:-1]), (row, *more), timing(3))


def _together(one: BatchProfile, batch: int, share: float) -> BatchProfile:
    """The times of a batch whose frames take this share each of what one alone takes."""

    def times(timings: tuple[Timing, ...]) -> tuple[Timing, ...]:
        return tuple(Timing(t.median_ms * batch * share, t.p95_ms * batch * share) for t in timings)

    return BatchProfile(batch, times(one.segments), times(one.exits), one.call_ms)


def made_conditions(rng: random.Random) -> Conditions:
    up, rtt = 10 ** rng.uniform(-1.3, 2.5), rng.choice([0.0, rng.uniform(0.2, 400)])
    link = LinkState(up, rtt, rng.choice([0.0, rng.uniform(0, 30)]))
    other = random.Random(link.up_mbps)  # of its own, so that it moves nothing else
    return Conditions(
        None if rng.random() < 0.05 else link,
        device_load=10 ** rng.uniform(-0.3, 1.5),
        server_load=10 ** rng.uniform(-0.3, 1),
        server_queue_ms=rng.choice([0.0, rng.uniform(0, 80)]),
        device_overhead_ms=rng.choice([0.0, rng.uniform(0, 5)]),
        fps=rng.uniform(1, 90),
        deadline_ms=rng.choice([None, rng.uniform(5, 400)]),
        payload_factors=rng.choice([{}, {"transform": rng.uniform(0.1, 1.2)}])
        | other.choice([{}, {"jpeg": other.uniform(0.1, 3), "cnn-co": other.uniform(0.5, 2)}]),
    )


BOUNDS = {
    "latency_ms": (2, 300), "latency_ms.p95": (2, 400), "throughput_fps": (1, 80), "accuracy": (0.5, 0.9),
    "accuracy_drop": (0.0, 0.1), "uplink": (100, 400_000), "server_cost": (0.1, 20), "device_energy": (0.5, 100),
}  # fmt: skip


def made_sla(rng: random.Random) -> Sla:
    constraints = [
        Constraint(METRICS[name], rng.uniform(*BOUNDS[name])) for name in rng.sample(list(METRICS), rng.randint(0, 3))
    ]
    targets = []
    for name in rng.sample(list(METRICS), rng.randint(1, 3)):
        metric = METRICS[name]
        absolute = metric.absolute or rng.random() < 0.3
        low, high = (0.0, 0.02) if metric.absolute else (0.0, BOUNDS[name][1] / 10) if absolute else (0.0, 0.2)
        targets.append(Target(metric) if rng.random() < 0.5 else Target(metric, rng.uniform(low, high), absolute))
    return Sla(tuple(constraints), tuple(targets))
