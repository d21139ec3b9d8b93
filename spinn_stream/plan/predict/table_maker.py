"""Sets up the plan table of a bundle, from its tables and two profiles. Formulas: docs/scheduler/prediction.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle, PayloadRow
from spinn_stream.codec import default_setting
from spinn_stream.codec.settings import CodecSetting
from spinn_stream.profile import Profile, Timing

from .exits import CameraRates, Exits
from .plan_table import QUANTILE, Z95, Floats, PlanTable, Ways
from .planned_settings import planned_settings

MESSAGE_BYTES = 49.0
"""Header of a request and its WebSocket frame. The believed capacity already allows for TCP and IP."""


def build_table(
    bundle: Bundle,
    device: Profile,
    server: Profile,
    encoding: Mapping[str, float] | None = None,
    shifts: Sequence[float] | None = None,
    rates: CameraRates | None = None,
) -> PlanTable:
    """Every split x threshold of the bundle x planned setting; at the last split nothing is sent.

    Args:
        device, server: profiles of this bundle; plans use the batch of one.
        encoding: by codec, the device's time to encode over `CodingCost`'s; 1 for a codec that is not in it.
        shifts, rates: see `Exits`; the repeat exit is at cut point 0 and costs the frame's preparation.

    Raises:
        ValueError: a profile that is not of this bundle.
    """
    exits = Exits(bundle, shifts, rates)
    here, there = _Times(device, exits.cuts), _Times(server, exits.cuts)
    settings: list[CodecSetting] = []
    ways: list[Ways] = []
    plans: list[dict[str, npt.NDArray[np.generic]]] = []
    rows = len(exits.share)
    for split in range(bundle.last + 1):
        for setting, row in _sendable(bundle, split):
            encode_ms = decode_ms = size = 0.0
            if setting is not None:
                elements = bundle.cut_points[split].elements
                encode_ms, decode_ms = setting.kind.cost.ms(elements)
                encode_ms *= (encoding or {}).get(setting.codec, 1.0)
                guessed = setting.kind.guessed_bytes(elements, setting.quality)
                size = MESSAGE_BYTES + (guessed if row is None else row.bytes_mean)
                if setting not in settings:
                    settings.append(setting)
            ways.append(_ways(exits, here, split, encode_ms))
            made: dict[str, npt.ArrayLike] = {
                "split": split, "threshold": np.arange(rows), "setting": settings.index(setting) if setting else -1,
                "size": size, "size_var": 0.0 if row is None else _spread(row.bytes_mean, row.bytes_p95) ** 2,
                **_tail(exits, there, split, decode_ms, row),
            }  # fmt: skip
            plans.append({name: np.broadcast_to(np.asarray(values), rows) for name, values in made.items()})
    joined = {f.name: np.concatenate([getattr(way, f.name) for way in ways], -1) for f in fields(Ways)}
    together = np.concatenate([np.atleast_2d(values) for values in joined.values()])
    _, different, way = np.unique(together, axis=1, return_index=True, return_inverse=True)
    first = int(np.flatnonzero(exits.cuts)[0])  # the first exit that is a classifier
    alone = np.arange(len(exits.cuts))[None, :] == first
    return PlanTable(
        ways=Ways(**{name: np.ascontiguousarray(values[..., different]) for name, values in joined.items()}),
        thresholds=tuple(exits.thresholds), settings=tuple(settings), last=bundle.last, reference=exits.reference,
        rescue_ms=here.prepare + float(here.way(0, exits.cuts[first], alone)[0][0]),
        rescue_accuracy=float(exits.alone[first]), number=np.arange(rows * len(plans)), way=way.ravel(),
        **{name: np.concatenate([plan[name] for plan in plans]) for name in plans[0]},
    )  # fmt: skip


def _sendable(bundle: Bundle, split: int) -> Sequence[tuple[CodecSetting | None, PayloadRow | None]]:
    """Settings with their rows of the tables; no row: there are no tables; no setting: nothing is sent."""
    if split == bundle.last:
        return [(None, None)]
    rows = planned_settings(bundle, split)
    return [(CodecSetting.parse(row.codec), row) for row in rows] or [(default_setting(bundle, split), None)]


class _Times:
    """Running sums over a profile's batch of one: medians, and variances from the 95th percentiles.

    prepare, prepare_var: of a frame, ms and ms^2.
    """

    def __init__(self, profile: Profile, cuts: npt.NDArray[np.intp]) -> None:
        row, last = profile.batches[0], int(cuts[-1])  # where the final exit is
        if len(row.segments) != last:
            raise ValueError(f"a profile of {len(row.segments)} segments for a bundle of {last}; measure it anew")

        def both(timings: Sequence[Timing]) -> tuple[Floats, Floats]:
            medians = np.array([t.median_ms / row.batch for t in timings])
            return medians, np.array([_spread(t.median_ms / row.batch, t.p95_ms / row.batch) ** 2 for t in timings])

        self._to, self._var_to = (np.concatenate([[0.0], np.cumsum(a)]) for a in both(row.segments))  # (cut points,)
        heads = dict(zip(profile.exit_cuts, row.exits, strict=True))
        self._heads, self._var_heads = both([heads.get(cut, Timing(0.0, 0.0)) for cut in cuts])  # (E,)
        self._call, self._cuts = row.call_ms / row.batch, cuts
        self.prepare = profile.preprocess.median_ms
        self.prepare_var = _spread(profile.preprocess.median_ms, profile.preprocess.p95_ms) ** 2

    def way(self, start: int, stop: int, evaluated: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """ms and ms^2 from one cut point to another, (T,) each; 0 if that is not behind it. Each graph costs a call.

        Args:
            evaluated: (T, E), the exits run on the way; at each a graph ends.
        """
        if start >= stop:
            return np.zeros(len(evaluated)), np.zeros(len(evaluated))
        on_it = evaluated & (self._cuts > start) & (self._cuts <= stop)
        graphs = 1 + (on_it & (self._cuts < stop)).sum(1)
        ms = self._to[stop] - self._to[start] + on_it @ self._heads + graphs * self._call
        return ms, self._var_to[stop] - self._var_to[start] + on_it @ self._var_heads

    def to_exits(self, start: int, evaluated: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """The same to every exit, (E, T) each."""
        found = np.array([self.way(start, int(cut), evaluated) for cut in self._cuts])  # (E, 2, T)
        return found[:, 0], found[:, 1]


def _ways(exits: Exits, device: _Times, split: int, encode_ms: float) -> Ways:
    """One for each threshold."""
    before = (exits.cuts <= split)[:, None]
    weights = np.where(before, exits.share.T, 0.0)
    ends, variances = device.to_exits(0, exits.on_device)
    ms, var = device.way(0, split, exits.on_device)
    past = weights.cumsum(0)
    at = (past > QUANTILE - 1e-9).argmax(0), np.arange(len(ms))  # the exit that answers the frame of the quantile
    level = (QUANTILE - (past[at] - weights[at])) / np.maximum(weights[at], 1e-9)
    return Ways(
        ends=device.prepare + np.vstack([ends, ms + encode_ms]),
        weights=np.vstack([weights, _rest(past[-1])]),
        alone=np.where(before & exits.on_device.T, exits.alone[:, None], -np.inf),
        sent_var=device.prepare_var + var,
        local_ms=device.prepare + (weights * ends).sum(0) / np.maximum(past[-1], 1e-9),
        late_ms=device.prepare + ends[at] + _z(level) * np.sqrt(device.prepare_var + variances[at]),
    )  # fmt: skip


def _tail(
    exits: Exits, server: _Times, split: int, decode_ms: float, row: PayloadRow | None
) -> Mapping[str, npt.ArrayLike]:
    """The server's work on frames sent from a split, (T,) each: fields of `PlanTable`."""
    behind = (exits.cuts > split)[:, None]
    sent = _rest(np.where(behind, 0.0, exits.share.T).sum(0))
    weights = np.where(behind, exits.share.T, 0.0)
    weights = weights / np.maximum(weights.sum(0), 1e-9)
    ends, variances = server.to_exits(split, exits.answers)
    mean = (weights * ends).sum(0)
    return {
        "sent": sent, "server": decode_ms + mean, "tail_var": (weights * (variances + (ends - mean) ** 2)).sum(0),
        "z": _z((QUANTILE - (1 - sent)) / np.maximum(sent, 1e-9)),
        "accuracy": exits.accuracy - np.minimum(sent, exits.lost(row, weights)),
    }  # fmt: skip


def _rest(share: Floats) -> Floats:
    """1 minus the sum, or 0 if that is only rounding."""
    return np.where(share < 1 - 1e-9, 1.0 - share, 0.0)


def _z(level: npt.ArrayLike) -> Floats:
    """How many standard deviations above its mean a logistic distribution has this quantile; run times are about so."""
    u = np.clip(np.asarray(level, np.float64), 0.001, 0.999)
    return np.asarray(math.sqrt(3) / math.pi * np.log(u / (1 - u)))


def _spread(median: float, p95: float) -> float:
    """Standard deviation of a logistic distribution with these quantiles."""
    return max(0.0, p95 - median) / Z95
