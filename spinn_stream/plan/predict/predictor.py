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
import numpy.typing as npt

from spinn_stream.plan.plan import Plan
from spinn_stream.plan.sla.sla import METRICS

from .mixture import Z95
from .plan_table import Floats, PlanTable
from .power import PowerMeter, PowerModel

OVERRUN = 0.1
"""If a service is longer than a period by this share, the next frame always waits."""

STAYS_BUSY = 0.95
"""Largest probability to stay busy: service times vary, so a device that is only just too slow is idle at times."""

SERVICE_CV2 = 0.04
"""Squared coefficient of variation of a message's time on the link: real links vary by about a fifth."""

LEAST_LATE_SPREAD = 0.02
"""The share of late answers changes over at least this share of the deadline."""

ANSWER_BYTES = 160.0
"""Of a result with its framing."""


@dataclass(frozen=True)
class LinkState:
    """The link to plan with: planning quantiles of the belief.

    up_mbps, down_mbps: 10^6 bits a second. rtt_ms: of an empty message. jitter_ms: its standard deviation.
    """

    up_mbps: float
    rtt_ms: float
    down_mbps: float = 100.0
    jitter_ms: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.up_mbps <= 1e6 and 0 < self.down_mbps <= 1e6):
            raise ValueError(f"got {self.up_mbps} and {self.down_mbps} Mb/s, expected more than 0, up to 1e6")
        if not (0 <= self.rtt_ms <= 1e6 and 0 <= self.jitter_ms <= 1e6):
            raise ValueError(f"got {self.rtt_ms} and {self.jitter_ms} ms, expected 0 to 1e6")


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
        for name in ("server_queue_ms", "device_overhead_ms"):
            if not 0 <= getattr(self, name) <= 1e7:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to 1e7")
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

    def figures(self, index: int) -> Figures:
        found = [float(self.of(name)[index]) for name in METRICS]
        found.append(float(self.of("uplink")[index] / self.of("throughput_fps")[index]))
        return Figures(*found)

    def plan(self, index: int, id: int = 0) -> Plan:
        return self.table.plan(index, id)


class Predictor:
    """Predicts every plan of a table at once, or some of them.

    Args:
        plans: only these of the table, by index or mask; None: all.
    """

    def __init__(
        self, table: PlanTable, power: PowerMeter | None = None, *, plans: npt.ArrayLike | None = None
    ) -> None:
        self.table = table if plans is None else table.take(plans)
        self.power: PowerMeter = power or PowerModel()
        t = self.table
        self._sent_ends = np.ascontiguousarray(t.ways.ends[-1])
        self._local_share = 1.0 - t.ways.weights[-1]  # (W,)
        self._local_sum = (t.ways.weights[:-1] * t.ways.ends[:-1]).sum(0)
        self._link_cv = (1 - t.sent + SERVICE_CV2) / 2
        self._server_cv = (1 - t.sent + t.server_cv2) / 2
        self._bytes_frame = t.sent * t.size
        self._sends_some = np.where(t.sent >= 1, 0.0, math.inf)  # inf: no bound but the formula's
        partly = np.flatnonzero((t.sent > 0) & (t.sent < 1))
        self._partly = slice(partly[0], partly[-1] + 1) if partly.size else slice(0)  # those that send some frames
        self._log_local = np.log(np.maximum(1.0 - t.sent[self._partly], 1e-300))
        self._half_late = np.where(t.sent > 0, 0.5, -math.inf)  # what is not sent never comes too late from the server
        self._local_spread2 = t.ways.local_spread**2
        none = np.full((1, len(self._sent_ends)), -np.inf)
        self._fallback = np.concatenate([none, t.ways.fallback]).ravel()  # by the number of exits done, then by way
        self._way_places = np.arange(len(self._sent_ends))
        self._longest = float(t.ways.ends.max(initial=0.0))
        self._only_local: Predictor | None = None

    def __len__(self) -> int:
        return len(self.table)

    def predict(self, now: Conditions) -> Prediction:
        """All plans; without a link, those that send nothing."""
        if now.link is None:
            return self._without_link(now)
        return self._prediction(now, now.link)

    def _without_link(self, now: Conditions) -> Prediction:
        if self._only_local is None:
            self._only_local = Predictor(self.table, self.power, plans=self.table.split == self.table.last)
        local = self._only_local
        return local._prediction(now, LinkState(1.0, 0.0))

    def _prediction(self, now: Conditions, link: LinkState) -> Prediction:
        t, load, deadline = self.table, now.device_load, now.deadline_ms
        besides, period = now.device_overhead_ms, 1000.0 / now.fps
        load2, server_load2 = load * load, now.server_load * now.server_load
        wait, interval = self._device_stage(load, besides, period)  # (W,) ms, ms between frames taken
        begun, wait2 = wait + besides, wait * wait
        fixed_ms = link.rtt_ms + ANSWER_BYTES * 8e-3 / link.down_mbps
        least_ms = self._by_plan(load * self._sent_ends + (begun + fixed_ms))  # of a frame sent that waits for nothing
        interval = self._by_plan(interval)
        size = self._size(now.payload_factors)
        bytes_ms = 8e-3 / link.up_mbps
        up_ms = size * bytes_ms
        server_ms = now.server_load * t.server
        rate = t.sent / interval  # messages a ms
        queue = _queue_ms(rate, server_ms, self._server_cv)
        next_frame = self._sends_some + self._by_plan(np.maximum(period / 2 - wait, 0.0))
        held = np.minimum(_queue_ms(rate, up_ms, self._link_cv), next_frame)
        sent_ms = least_ms + held + up_ms + np.maximum(queue, now.server_queue_ms) + server_ms
        scatter = load2 * t.ways.head_var + (wait2 / 3 + link.jitter_ms**2)
        var = self._by_plan(scatter) + t.size_var * (bytes_ms * bytes_ms)
        place = t.zz * var + server_load2 * t.tail_dd
        p95_sent = np.maximum(sent_ms + np.copysign(np.sqrt(np.abs(place)), place), least_ms)
        local_spread = np.sqrt(load2 * self._local_spread2 + (Z95 * Z95 / 3) * wait2)
        p95_local = begun + load * t.ways.local_mean + local_spread  # (W,)
        if deadline is None:
            local_ms = load * self._local_sum + self._local_share * begun
            accuracy = t.accuracy
        else:
            spread = np.sqrt(12 * var + (12 * server_load2) * t.tail_var) + LEAST_LATE_SPREAD * deadline
            late = np.minimum(np.maximum((sent_ms - deadline) / spread + self._half_late, 0.0), 1.0)
            local_ms, accuracy = self._late(begun, besides, load, deadline, late)
            sent_ms = np.minimum(sent_ms, deadline)
            p95_sent, p95_local = np.minimum(p95_sent, deadline), np.minimum(p95_local, deadline)
        bytes_frame = self._bytes_frame if size is t.size else t.sent * size
        rates = self.power.rates()

        @functools.cache  # nothing here refers to the prediction: a cycle would keep all these arrays for a while
        def throughput() -> Floats:
            return np.asarray(1000.0 / self._between_frames(interval, np.maximum(up_ms, server_ms)))

        def energy() -> Floats:
            air = 8e-6 * rates.up_mj_per_mbit + bytes_ms * rates.radio_mw * 1e-3  # mJ a byte
            device = self._by_plan(rates.compute_mw * 1e-3 * (load * t.ways.busy + besides))
            return np.asarray(device + bytes_frame * air)

        return Prediction(t, {
            "latency_ms": self._by_plan(local_ms) + t.sent * sent_ms,
            "latency_ms.p95": np.where(t.on_device, self._by_plan(p95_local), p95_sent),
            "throughput_fps": throughput,
            "accuracy": accuracy,
            "accuracy_drop": lambda: t.reference - accuracy,
            "uplink": lambda: bytes_frame * throughput(),
            "server_cost": t.server_cost,
            "device_energy": energy,
        })  # fmt: skip

    def _device_stage(self, load: float, besides: float, period: float) -> tuple[Floats, Floats]:
        """(mean age of a frame when it is taken, mean time between frames taken), (W,) ms each.

        Formulas: docs/scheduler/prediction.md.
        """
        if load * self._longest + besides <= period:  # every frame finds the device free
            nothing = np.zeros(len(self._sent_ends))
            return nothing, nothing + period
        y = self.table.ways.ends * (load / period) + besides / period  # services in periods
        weights = self.table.ways.weights
        from_idle = (weights * np.minimum(np.maximum((y - 1.0) * (1 / OVERRUN), 0.0), 1.0)).sum(0)
        least = np.minimum(y, 1.0)
        part = weights * least
        least_sum = part.sum(0)
        ends_early = 1.0 - np.minimum(least_sum, STAYS_BUSY)
        busy = from_idle / (ends_early + from_idle)
        idle_cycle = (weights * np.maximum(y, 1.0)).sum(0)
        saved = (1.0 - (part * least).sum(0)) / 2  # of a busy cycle, as the next frame waits for the device already
        cycle = np.maximum(idle_cycle - busy * saved, 1.0)
        return busy * (period / 2), cycle * period

    def _between_frames(self, interval: Floats, behind: Floats) -> Floats:
        """Mean ms between frames taken. A frame that is sent waits on the device until the one before it has left.

        Args:
            interval: (P,) ms that the device alone takes between frames. behind: (P,) ms of the slowest other stage.
        """
        found = np.maximum(interval, self.table.sent * behind)  # exact where all is sent, or nothing
        sent, frame, message = self.table.sent[self._partly], interval[self._partly], behind[self._partly]
        whole = np.floor(message / frame)  # frames that fit into a message's time; 0: the device is the slowest
        none_waits = np.exp(self._log_local * whole)  # they are all answered on the device; a power takes longer
        sending = sent * message
        found[self._partly] = sending + none_waits * (frame * (sent * whole + 1) - sending)
        return np.asarray(found)

    def _late(self, begun: Floats, besides: float, load: float, deadline: float, late: Floats) -> tuple[Floats, Floats]:
        """(share-weighted mean age of local answers (W,), accuracy (P,)), with a deadline."""
        t, ways = self.table, self.table.ways
        done = begun + load * ways.ends[:-1]  # (E, W)
        local_ms = (ways.weights[:-1] * np.minimum(done, deadline)).sum(0)
        place = (done <= deadline).sum(0) * len(begun) + self._way_places
        rescue = t.rescue_accuracy if load * t.rescue_ms + besides <= deadline else 0.0
        fallback = np.maximum(self._fallback.take(place), rescue)  # (W,)
        out_of_time = (begun + load * ways.slowest > deadline).astype(np.float64)
        share = np.maximum(self._by_plan(out_of_time), late)
        return local_ms, t.accuracy - share * np.maximum(0.0, t.accuracy - self._by_plan(fallback))

    def _size(self, factors: Mapping[str, float]) -> Floats:
        """(P,) bytes of one message."""
        t = self.table
        if not factors:
            return t.size
        of_settings = np.array([*(factors.get(s.codec, 1.0) for s in t.settings), 1.0])  # the last: nothing is sent
        return np.asarray(t.size * of_settings.take(t.setting, mode="wrap"))

    def _by_plan(self, of_ways: Floats) -> Floats:
        """(W,) to (P,): each plan's way."""
        return np.asarray(of_ways.take(self.table.way, mode="clip"))  # nothing is out of range; this mode is faster


def _queue_ms(rate: Floats, service: Floats, cv: Floats) -> Floats:
    """Mean wait before a stage with one waiting place: Kingman 1961, capped at one service.

    Args:
        rate: arrivals a ms. cv: half the sum of the squared coefficients of variation of arrivals and services.
    """
    load = np.minimum(rate * service, 0.999999)
    return np.asarray(service * np.minimum(1.0, cv * load / (1.0 - load)))
