"""Prediction and choice for one plan at a time, in plain Python: docs/scheduler/prediction.md a second time.

Nothing of `spinn_stream.plan` is used but the data types, and which settings are planned with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from spinn_stream.bundle import Bundle, PayloadRow, ThresholdRow
from spinn_stream.codec import default_setting
from spinn_stream.codec.settings import CodecSetting
from spinn_stream.plan import Conditions, Sla
from spinn_stream.plan.predict.planned_settings import planned_settings
from spinn_stream.profile import Profile, Timing

Z95 = math.sqrt(3) / math.pi * math.log(0.95 / 0.05)
CODING = {
    "transform": (0.065, 19.7, 0.026, 31.9), "cnn-co": (0.013, 4.3, 0.007, 5.4),
    "jpeg": (0.0, 1.75, 0.0, 2.3), "png": (0.0, 10.9, 0.0, 6.6),
}  # fmt: skip


def clamp(x: float, low: float = 0.0, high: float = 1.0) -> float:
    return max(low, min(x, high))


def sd(timing: Timing) -> float:
    return (timing.p95_ms - timing.median_ms) / Z95


@dataclass
class One:
    """A plan to predict: threshold None is that of no exit where the bundle has no row for it."""

    split: int
    threshold: float | None
    row: ThresholdRow
    payload: PayloadRow | None  # None: nothing is sent, or the bundle has no tables
    setting: CodecSetting | None


def all_plans(bundle: Bundle) -> list[One]:
    rows: list[tuple[float | None, ThresholdRow]] = [(r.threshold, r) for r in bundle.thresholds]
    if not any(set(r.needed) == {None} for r in bundle.thresholds):
        early = len(bundle.exits) - 1
        accuracy = uncoded(bundle).get(bundle.exits[-1].name, max(r.accuracy for r in bundle.thresholds))
        rows.append((None, ThresholdRow(1.0, (None,) * early, accuracy, 1.0, (*(0.0,) * early, 1.0))))
    plans = []
    for split in range(bundle.last + 1):
        sendable: list[tuple[PayloadRow | None, CodecSetting | None]] = [(None, None)]
        if split < bundle.last:
            chosen = planned_settings(bundle, split)
            sendable = [(p, CodecSetting.parse(p.codec)) for p in chosen]
            sendable = sendable or [(None, default_setting(bundle, split))]
        plans += [One(split, t, row, payload, setting) for payload, setting in sendable for t, row in rows]
    return plans


def uncoded(bundle: Bundle) -> dict[str, float]:
    return next((dict(p.accuracy) for p in bundle.payloads if p.cut == 0 and p.codec == "png"), {})


def reference(bundle: Bundle) -> float:
    return [p.row.accuracy for p in all_plans(bundle) if set(p.row.needed) == {None}][-1]


def way(profile: Profile, start: int, stop: int, exits: list[int]) -> tuple[float, float]:
    """ms and variance, with a graph ending at each of these exits."""
    if start == stop:
        return 0.0, 0.0
    row = profile.batches[0]
    ms = sum(t.median_ms for t in row.segments[start:stop])
    var = sum(sd(t) ** 2 for t in row.segments[start:stop])
    graphs = 1
    for cut, timing in zip(profile.exit_cuts, row.exits, strict=True):
        if cut in exits and start < cut <= stop:
            ms, var = ms + timing.median_ms, var + sd(timing) ** 2
            graphs += cut < stop
    return ms + graphs * row.call_ms, var


def place(level: float) -> float:
    """Of a logistic distribution's quantile, in standard deviations from its mean."""
    level = clamp(level, 0.001, 0.999)
    return math.sqrt(3) / math.pi * math.log(level / (1 - level))


def waiting(rate: float, service: float, cv: float) -> float:
    rho = min(0.999999, rate * service)
    return service * min(1.0, cv * rho / (1 - rho))


class Scalar:
    """Predicts plans of a bundle, one at a time."""

    def __init__(self, bundle: Bundle, device: Profile, server: Profile) -> None:
        self.bundle, self.device, self.server = bundle, device, server
        self.plans = all_plans(bundle)
        self.reference = reference(bundle)
        self.uncoded = uncoded(bundle)

    def lowest_run(self, exit: int) -> float:
        """Accuracy of a run that ends at this exit."""
        final = self.bundle.exits[-1].name
        if final not in self.uncoded:
            return min(p.row.accuracy for p in self.plans)
        name = self.bundle.exits[exit].name
        return clamp(self.reference - (self.uncoded[final] - self.uncoded[name]))

    def predict(self, plan: One, now: Conditions) -> dict[str, float]:  # noqa: PLR0912, PLR0915
        b, exits = self.bundle, self.bundle.exits
        K, L, T = now.device_load, now.server_load, 1000 / now.fps
        evaluated = [e.cut for e, n in zip(exits[:-1], plan.row.needed, strict=True) if n is not None]
        here = [e.cut for e in exits] if plan.threshold is None else [*evaluated, b.last]
        shares, carried = [], 0.0
        for e, share in zip(exits, plan.row.share, strict=True):
            carried += share
            answers = e.cut in evaluated or e.cut == b.last
            shares.append(carried if answers else 0.0)
            carried = 0.0 if answers else carried
        shares = [w / sum(shares) for w in shares]
        local = [i for i, e in enumerate(exits) if e.cut <= plan.split]
        behind = [i for i, e in enumerate(exits) if e.cut > plan.split]
        p = sum(shares[i] for i in local)
        s = 1 - p if p < 1 - 1e-9 else 0.0
        encode = decode = size = size_sd = 0.0
        if plan.setting is not None:
            n = b.cut_points[plan.split].elements / 1e6
            a, each, c, each_back = CODING[plan.setting.codec]
            encode, decode = a + each * n, c + each_back * n
            if plan.payload is None:
                elements = b.cut_points[plan.split].elements
                size = plan.setting.kind.guessed_bytes(elements, plan.setting.quality)
            else:
                size, size_sd = plan.payload.bytes_mean, (plan.payload.bytes_p95 - plan.payload.bytes_mean) / Z95
            size = (size + 49) * now.payload_factors.get(plan.setting.codec, 1.0)
        prep, prep_var = self.device.preprocess.median_ms, sd(self.device.preprocess) ** 2
        ends = {i: way(self.device, 0, exits[i].cut, here) for i in local if exits[i].cut in here}
        A = {i: prep + ms for i, (ms, _) in ends.items()}
        varA = {i: prep_var + var for i, (_, var) in ends.items()}
        ms, var = way(self.device, 0, plan.split, here)
        A_s, var_s = prep + ms + encode, prep_var + var
        ways = [(shares[i], A[i]) for i in A] + ([(s, A_s)] if s else [])
        # waiting for the device
        o = now.device_overhead_ms
        y = [(w, (K * a + o) / T) for w, a in ways]
        from_idle = sum(w * clamp((x - 1) / 0.1) for w, x in y)
        stay = min(0.95, sum(w * min(x, 1) for w, x in y))
        busy = from_idle / (1 - stay + from_idle)
        fresh = sum(w * max(x, 1) for w, x in y)
        queued = sum(w * (x if x > 1 else (1 + x * x) / 2) for w, x in y)
        cycle = T * max(1.0, (1 - busy) * fresh + busy * queued)
        wait = busy * T / 2
        begun = wait + o
        mean = sum(shares[i] * (begun + K * A[i]) for i in A)
        figures = {"server_cost": 0.0}
        up, air, M, total_var, late = 0.0, 0.0, 0.0, 0.0, 0.0
        least, B = 0.0, 0.0
        if s:
            link = now.link
            assert link is not None
            up = 0.008 * size / link.up_mbps
            tails = [(shares[i] / s, *way(self.server, plan.split, exits[i].cut, [*evaluated, b.last])) for i in behind]
            tail = sum(w * t for w, t, _ in tails)
            tail_var = sum(w * (v + (t - tail) ** 2) for w, t, v in tails)
            B = decode + tail
            W_u = waiting(s / cycle, up, (p + 0.04) / 2)
            if s == 1:  # taken when the link has room: the newest frame is half a period old then
                W_u = min(W_u, max(0.0, T / 2 - wait))
            W_b = max(now.server_queue_ms, waiting(s / cycle, L * B, (p + 0.04) / 2))
            back = link.rtt_ms
            M = begun + K * A_s + W_u + up + W_b + L * B + back
            total_var = K**2 * var_s + wait**2 / 3 + link.jitter_ms**2 + (0.008 / link.up_mbps) ** 2 * size_sd**2
            total_var += L**2 * tail_var
            least = begun + K * A_s + back
            figures["server_cost"] = s * B
            air = size * (8e-6 * 283.17 + 0.008 / link.up_mbps * 132.86 / 1000)
        if s <= 0.05:
            before = 0.0
            for i in A:
                if before + shares[i] > 0.95 - 1e-9:
                    break
                before += shares[i]
            q = A[i] + place((0.95 - before) / shares[i]) * math.sqrt(varA[i])
            m = sum(shares[i] * A[i] for i in A) / p
            p95 = begun + K * m + math.sqrt((K * (q - m)) ** 2 + Z95**2 * wait**2 / 3)
        else:
            p95 = max(M + place((0.95 - p) / s) * math.sqrt(total_var), least)
        lost = 0.0
        if plan.payload is not None and s:
            for i in behind:
                name = exits[i].name
                if name in self.uncoded:
                    lost += shares[i] / s * max(0.0, self.uncoded[name] - plan.payload.accuracy[name])
            if plan.payload.lost and plan.threshold is not None:
                lost = max(0.0, plan.payload.lost[[r.threshold for r in b.thresholds].index(plan.threshold)])
        accuracy = plan.row.accuracy - min(s, lost)
        if now.deadline_ms is not None:
            D = now.deadline_ms
            late = clamp((M - D) / (math.sqrt(12 * total_var) + 0.02 * D) + 0.5) if s else 0.0
            mean = sum(shares[i] * min(D, begun + K * A[i]) for i in A)
            M, p95 = min(M, D), min(p95, D)
            answering = [i for i in A if shares[i] > 0]
            if answering and begun + K * max(A[i] for i in answering) > D:
                late = 1.0
            first = exits[0].cut
            rescue = prep + way(self.device, 0, first, [first])[0]
            worst = self.lowest_run(0) if K * rescue + o <= D else 0.0
            worst = max([worst] + [self.lowest_run(i) for i in A if begun + K * A[i] <= D])
            accuracy -= late * max(0.0, accuracy - worst)
        throughput = 1000 / cycle
        if s:
            V = max(up, L * B)
            k = math.floor(V / cycle)
            throughput = 1000 / s / (V + p**k * (cycle * (k + 1 / s) - V))
        return figures | {
            "latency_ms": mean + s * M,
            "latency_ms.p95": p95,
            "throughput_fps": throughput,
            "accuracy": accuracy,
            "accuracy_drop": self.reference - accuracy,
            "uplink": s * size * throughput,
            "device_energy": 0.925 * (K * sum(w * a for w, a in ways) + o) + s * air,
        }

    def usable(self, now: Conditions) -> list[int]:
        return [i for i, p in enumerate(self.plans) if now.link is not None or p.split == self.bundle.last]


def violation(sla: Sla, figures: dict[str, float]) -> float:
    total = 0.0
    for c in sla.constraints:
        off = figures[c.metric.name] - c.bound
        off = -off if c.metric.rises else off
        scale = {"accuracy": 0.1, "accuracy_drop": 0.1, "uplink": 1000.0}.get(c.metric.name, 1.0)
        total += max(0.0, off) / max(c.bound, scale)
    return total


def best(sla: Sla, found: dict[int, dict[str, float]]) -> list[int]:
    """The numbers of the plans that win: one, or several that are equal but for rounding."""
    broken = {i: violation(sla, f) for i, f in found.items()}
    least = min(broken.values())
    left = [i for i in found if broken[i] <= (1e-9 if least <= 1e-9 else least + 0.01)]
    for target in sla.targets[:-1]:
        name, rises = target.metric.name, target.metric.rises
        top = max(found[i][name] for i in left) if rises else min(found[i][name] for i in left)
        if target.tolerance is None:
            slack = 0.005 if name.startswith("accuracy") else 0.05 * top
        else:
            slack = target.tolerance if target.absolute else target.tolerance * top
        left = [i for i in left if (found[i][name] >= top - slack if rises else found[i][name] <= top + slack)]
    values = {i: found[i][sla.targets[-1].metric.name] for i in left}
    top = max(values.values()) if sla.targets[-1].metric.rises else min(values.values())
    return [i for i in left if math.isclose(values[i], top, rel_tol=1e-9, abs_tol=1e-12)]
