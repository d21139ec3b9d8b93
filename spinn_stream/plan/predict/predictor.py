"""What every plan would do under the present conditions. Formulas and their limits: docs/scheduler/prediction.md.

A pipeline of three stages: the device's one thread, the link, the server. The device takes the newest frame when it is
free. Link and server have one waiting place each for this client. So no queue grows: frames that a stage cannot serve
are dropped at the source, and an answer waits for at most one service at each stage.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from spinn_stream.plan.sla.sla import METRICS

from .plan_table import QUANTILE, Z95, Floats, PlanTable, Ways
from .power import EnergyRates

OVERRUN, STAYS_BUSY = 0.1, 0.95
"""If a service is longer than a period by this share, the next frame always waits; and the largest probability to stay
busy. Service times vary, so a device that is only just too slow is idle at times."""

SERVICE_CV2 = 0.04
"""Squared coefficient of variation of a message's time on the link, and at the server: they vary by about a fifth."""

LEAST_LATE_SPREAD = 0.02
"""The share of late answers changes over at least this share of the deadline."""


@dataclass(frozen=True)
class LinkState:
    """The link to plan with: planning quantiles of the belief.

    up_mbps: 10^6 bits a second. rtt_ms: of an empty message; answers are hardly longer. jitter_ms: its standard
    deviation.
    """

    up_mbps: float
    rtt_ms: float
    jitter_ms: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.up_mbps <= 1e6 and 0 <= self.rtt_ms <= 1e6 and 0 <= self.jitter_ms <= 1e6):
            got = f"got {self.up_mbps} Mb/s, {self.rtt_ms} and {self.jitter_ms} ms"
            raise ValueError(f"{got}, expected more than 0 Mb/s, from 0 ms, and each up to 1e6")


@dataclass(frozen=True)
class Conditions:
    """All that changes while a system runs.

    link: None: no server can be reached. device_load, server_load: times of the network over the profiled ones.
    server_queue_ms: how long requests wait there. device_overhead_ms: the device's time for a frame beyond the profile,
    for threads and the event loop. fps: the source's rate. deadline_ms: age by which every frame is answered;
    None: answers may take any time. payload_factors: by codec, bytes of this camera's payloads over those of the
    tables; 1 for a codec that is not in it.
    """

    link: LinkState | None
    device_load: float = 1.0
    server_load: float = 1.0
    server_queue_ms: float = 0.0
    device_overhead_ms: float = 0.0
    fps: float = 30.0
    deadline_ms: float | None = None
    payload_factors: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        factors = (self.device_load, self.server_load, self.fps, *self.payload_factors.values())
        if not all(0 < f <= 1e6 for f in factors):
            raise ValueError(f"got {factors} for loads, fps and payload_factors, expected more than 0, up to 1e6")
        if not (0 <= self.server_queue_ms <= 1e7 and 0 <= self.device_overhead_ms <= 1e7):
            raise ValueError(f"got {self.server_queue_ms} and {self.device_overhead_ms} ms, expected 0 to 1e7")
        if self.deadline_ms is not None and not 0 < self.deadline_ms < math.inf:
            raise ValueError(f"deadline_ms is {self.deadline_ms}, expected more than 0")


@dataclass(frozen=True)
class Figures:
    """One plan's row of a prediction, in the units of `sla.METRICS`, and the bytes of a frame, early exits counted."""

    latency_ms: float
    latency_p95_ms: float
    throughput_fps: float
    accuracy: float
    accuracy_drop: float
    uplink: float
    server_cost: float
    device_energy: float
    bytes_up: float

    def as_json(self) -> dict[str, float]:
        return {name: round(value, 6) for name, value in vars(self).items()}


class Prediction:
    """Figures of every plan of a table, each worked out when it is first asked for.

    Args:
        rows: (P,) for each of `sla.METRICS`, or a function that gives it; never NaN.
    """

    def __init__(self, table: PlanTable, rows: Mapping[str, Floats | Callable[[], Floats]]) -> None:
        self.table = table
        self._rows = dict(rows)

    def of(self, metric: str) -> Floats:
        """(P,)"""
        row = self._rows[metric]
        if callable(row):
            row = self._rows[metric] = row()
        return row

    def at(self, metric: str, index: int) -> float:
        """Of the plan at this place."""
        return float(self.of(metric)[index])

    def figures(self, index: int) -> Figures:
        found = [self.at(name, index) for name in METRICS]
        found.append(self.at("uplink", index) / self.at("throughput_fps", index))
        return Figures(*found)


def predict(table: PlanTable, now: Conditions, rates: EnergyRates | None = None) -> Prediction:
    """Figures of all plans; without a link, of those that send nothing. rates: None: of one core of a small board."""
    link, rates = now.link, rates or EnergyRates()
    if link is None:
        table, link = table.take(table.split == table.last), LinkState(1.0, 0.0)
    t, ways, load = table, table.ways, now.device_load
    period, deadline = 1000.0 / now.fps, math.inf if now.deadline_ms is None else now.deadline_ms
    wait, interval = _device_stage(ways, load, now.device_overhead_ms, period)  # (W,) ms, ms between frames taken
    begun = wait + now.device_overhead_ms
    interval = interval[t.way]
    least_ms = (load * ways.ends[-1] + begun + link.rtt_ms)[t.way]  # of a frame sent that waits for nothing
    factors = np.array([*(now.payload_factors.get(s.codec, 1.0) for s in t.settings), 1.0])  # the last: no setting
    size = t.size * factors[t.setting]
    byte_ms = 8e-3 / link.up_mbps
    up_ms, server_ms = size * byte_ms, now.server_load * t.server
    rate = t.sent / interval  # messages a ms
    newest = np.where(t.sent < 1, math.inf, np.maximum(period / 2 - wait, 0.0)[t.way])
    cv = (1 - t.sent + SERVICE_CV2) / 2
    held = np.minimum(_queue_ms(rate, up_ms, cv), newest)
    queue = np.maximum(_queue_ms(rate, server_ms, cv), now.server_queue_ms)
    sent_ms = least_ms + held + up_ms + queue + server_ms
    taken_var = wait * wait / 3  # the age of a frame that is taken is uniform
    deviation = np.sqrt(
        (load**2 * ways.sent_var + taken_var)[t.way] + link.jitter_ms**2 + byte_ms**2 * t.size_var
        + now.server_load**2 * t.tail_var
    )  # fmt: skip
    p95_sent = np.maximum(sent_ms + t.z * deviation, least_ms)
    beyond = np.sqrt((load * (ways.late_ms - ways.local_ms)) ** 2 + Z95**2 * taken_var)
    p95_local = begun + load * ways.local_ms + beyond  # (W,)
    done = begun + load * ways.ends[:-1]  # (E, W)
    local_ms = (ways.weights[:-1] * np.minimum(done, deadline)).sum(0)
    accuracy = t.accuracy
    if now.deadline_ms is not None:
        spread = math.sqrt(12) * deviation + LEAST_LATE_SPREAD * deadline  # as if ages were uniform
        late = np.clip((sent_ms - deadline) / spread + 0.5, 0.0, 1.0) * (t.sent > 0)
        out_of_time = np.any((ways.weights[:-1] > 0) & (done > deadline), axis=0)  # (W,)
        late = np.maximum(late, out_of_time[t.way])
        rescue = t.rescue_accuracy if load * t.rescue_ms + now.device_overhead_ms <= deadline else 0.0
        instead = np.where(done <= deadline, ways.alone, rescue).max(0, initial=rescue)  # (W,)
        accuracy = accuracy - late * np.maximum(0.0, accuracy - instead[t.way])

    @functools.cache  # nothing here refers to the prediction: a cycle would keep all these arrays for a while
    def throughput() -> Floats:
        return np.asarray(1000.0 / _between_frames(t.sent, interval, np.maximum(up_ms, server_ms)))

    def energy() -> Floats:
        air = 8e-6 * rates.up_mj_per_mbit + byte_ms * rates.radio_mw * 1e-3  # mJ a byte
        busy = load * (ways.weights * ways.ends).sum(0) + now.device_overhead_ms
        return np.asarray(rates.compute_mw * 1e-3 * busy[t.way] + t.sent * size * air)

    return Prediction(t, {
        "latency_ms": local_ms[t.way] + t.sent * np.minimum(sent_ms, deadline),
        "latency_ms.p95": np.minimum(np.where(t.sent <= 1 - QUANTILE, p95_local[t.way], p95_sent), deadline),
        "throughput_fps": throughput,
        "accuracy": accuracy,
        "accuracy_drop": lambda: t.reference - accuracy,
        "uplink": lambda: t.sent * size * throughput(),
        "server_cost": lambda: t.sent * t.server,
        "device_energy": energy,
    })  # fmt: skip


def _device_stage(ways: Ways, load: float, besides: float, period: float) -> tuple[Floats, Floats]:
    """(mean age of a frame when it is taken, mean time between frames taken), (W,) ms each.

    Formulas: docs/scheduler/prediction.md.
    """
    y = ways.ends * (load / period) + besides / period  # services in periods
    from_idle = (ways.weights * np.clip((y - 1.0) / OVERRUN, 0.0, 1.0)).sum(0)
    least = np.minimum(y, 1.0)
    stays_busy = np.minimum((ways.weights * least).sum(0), STAYS_BUSY)
    busy = from_idle / (1.0 - stays_busy + from_idle)
    idle_cycle = (ways.weights * np.maximum(y, 1.0)).sum(0)
    saved = (1.0 - (ways.weights * least * least).sum(0)) / 2  # in a busy cycle: the next frame waits already
    return busy * (period / 2), np.maximum(idle_cycle - busy * saved, 1.0) * period


def _between_frames(sent: Floats, interval: Floats, behind: Floats) -> Floats:
    """Mean ms between frames taken. A frame that is sent waits on the device until the one before it has left.

    interval: (P,) ms that the device alone takes between frames. behind: (P,) ms of the slowest other stage.
    """
    whole = np.floor(behind / interval)  # frames that fit into a message's time; 0: the device is the slowest
    none_waits = (1.0 - sent) ** whole  # they are all answered on the device
    return np.asarray(sent * behind + none_waits * (interval * (sent * whole + 1) - sent * behind))


def _queue_ms(rate: Floats, service: Floats, cv: Floats) -> Floats:
    """Mean wait before a stage with one waiting place: Kingman 1961, capped at one service.

    rate: arrivals a ms. cv: half the sum of the squared coefficients of variation of arrivals and services.
    """
    load = np.minimum(rate * service, 0.999999)
    return np.asarray(service * np.minimum(1.0, cv * load / (1.0 - load)))
