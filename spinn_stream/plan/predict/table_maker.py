"""Sets up the plan table of a bundle, from its tables and two profiles. Formulas: docs/scheduler/prediction.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle, PayloadRow
from spinn_stream.codec import default_setting
from spinn_stream.codec.payload_tables import uncoded
from spinn_stream.codec.settings import CodecSetting
from spinn_stream.profile import Profile, Timing

from .codec_costs import CodecCost, default_cost, guessed_bytes, losses, planned_settings
from .exit_shares import NO_REPEATS, RepeatRates, answering, exit_shares, planned_rows, shifted
from .mixture import QUANTILE, level_z, mixture_quantile, spread
from .plan_table import Floats, PlanTable, Ways

MESSAGE_BYTES = 49.0
"""Header of a request and its WebSocket frame. The believed capacity already allows for TCP and IP."""


def build_table(
    bundle: Bundle,
    device: Profile,
    server: Profile,
    encoding: Mapping[str, float] | None = None,
    shifts: Sequence[float] | None = None,
    repeats: RepeatRates = NO_REPEATS,
) -> PlanTable:
    """Every split x threshold of the bundle x planned setting; at the last split nothing is sent.

    Args:
        device, server: profiles of this bundle; plans use the batch of one.
        encoding: by codec, the device's time to encode over `default_cost`; 1 for a codec that is not in it.
        shifts: see `shifted`; None: exits answer as often as the bundle's tables say.
        repeats: an exit of all plans, at cut point 0, that costs no more than preparing the frame.

    Raises:
        ValueError: a profile that is not of this bundle.
    """
    for profile in (device, server):
        if len(profile.batches[0].segments) != bundle.last:
            got = len(profile.batches[0].segments)
            raise ValueError(f"a profile of {got} segments for a bundle of {bundle.last}; measure it anew")
    return TableMaker(bundle, device, server, encoding or {}, shifts, repeats).table()


class _Times:
    """Running sums over a profile's batch of one: medians, and variances from the 95th percentiles."""

    def __init__(self, bundle: Bundle, profile: Profile) -> None:
        row = profile.batches[0]
        scale = 1.0 / row.batch

        def both(timings: Sequence[Timing]) -> tuple[Floats, Floats]:
            medians = np.array([t.median_ms * scale for t in timings])
            return medians, np.array([spread(t.median_ms * scale, t.p95_ms * scale) ** 2 for t in timings])

        medians, variances = both(row.segments)
        self._to = np.concatenate([[0.0], np.cumsum(medians)])  # (cut points,)
        self._var_to = np.concatenate([[0.0], np.cumsum(variances)])
        heads = dict(zip(profile.exit_cuts, row.exits, strict=True))
        self._heads, self._var_heads = both([heads.get(e.cut, Timing(0.0, 0.0)) for e in bundle.exits])  # (E,)
        self._call = row.call_ms * scale
        self._cuts = np.array([e.cut for e in bundle.exits])
        self.preprocess = profile.preprocess.median_ms
        self.preprocess_var = spread(profile.preprocess.median_ms, profile.preprocess.p95_ms) ** 2

    def add_exit_at_input(self) -> None:
        """One that takes no time."""
        self._heads, self._var_heads, self._cuts = (np.concatenate([[0], a]) for a in
                                                    (self._heads, self._var_heads, self._cuts))  # fmt: skip

    def way(self, start: int, stop: int, evaluated: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """ms and ms^2 from one cut point to another, with a call for each graph.

        Args:
            evaluated: (T, E), the exits run on the way; at each a graph ends.

        Returns: (T,) each.
        """
        if start == stop:
            return np.zeros(len(evaluated)), np.zeros(len(evaluated))
        on_it = evaluated & (self._cuts > start) & (self._cuts <= stop)
        graphs = 1 + (on_it & (self._cuts < stop)).sum(1)
        ms = self._to[stop] - self._to[start] + on_it @ self._heads + graphs * self._call
        return ms, self._var_to[stop] - self._var_to[start] + on_it @ self._var_heads


@dataclass(frozen=True)
class _Tail:
    """The frames sent from one split, (T,) each: their share; the server's ms for them without decoding (mean and
    variance); the place of the 95 % quantile: z in standard deviations, and the tail's deviation in ms.

    weights: (E, T), share that each exit behind the split answers.
    """

    sent: Floats
    weights: Floats
    mean: Floats
    var: Floats
    z: Floats
    deviation: Floats


class TableMaker:
    """Goes through the splits and collects ways and plans."""

    def __init__(
        self,
        bundle: Bundle,
        device: Profile,
        server: Profile,
        encoding: Mapping[str, float],
        shifts: Sequence[float] | None,
        repeats: RepeatRates,
    ) -> None:
        self._bundle = bundle
        self._device, self._server = _Times(bundle, device), _Times(bundle, server)
        self._encoding = encoding
        self._uncoded = uncoded(bundle)
        rows = planned_rows(bundle)
        self._thresholds = tuple(threshold for threshold, _ in rows)
        self._accuracy = np.array([row.accuracy for _, row in rows])  # (T,)
        self._answers = needed = answering(rows)
        share = exit_shares(rows)
        self._share = share if shifts is None else shifted(share, shifts)
        every = np.array([threshold is None for threshold in self._thresholds])[:, None]
        self._on_device = needed | every  # a plan of no threshold has every exit run there (client's rule)
        self._cuts = np.array([e.cut for e in bundle.exits])
        whole = ~needed[:, :-1].any(1)
        self._reference = float(self._accuracy[whole][-1])
        self._exit_accuracy = self._fallbacks()
        self._exit_names = [e.name for e in bundle.exits]
        if repeats.share > 0:
            self._add_repeats(repeats)
        self._settings: list[CodecSetting] = []
        self._ways: dict[str, list[Floats]] = {}
        self._plans: dict[str, list[npt.NDArray[np.generic]]] = {}
        self._n_ways = 0

    def table(self) -> PlanTable:
        for split in range(self._bundle.last):
            encodes: dict[float, int] = {}  # ways of this split, by the time to encode behind them
            tail = self._tail(split)
            for setting, row in self._sendable(split):
                size = guessed_bytes(self._bundle, split, setting) if row is None else row.bytes_mean
                size_var = 0.0 if row is None else spread(row.bytes_mean, row.bytes_p95) ** 2
                cost = self._cost(split, setting)
                way = encodes.get(cost.encode_ms)
                if way is None:
                    way = encodes[cost.encode_ms] = self._add_ways(split, cost.encode_ms)
                self._add_plans(split, way, tail, setting, size, size_var, row, cost.decode_ms)
        last = self._bundle.last
        self._add_plans(last, self._add_ways(last, 0.0), self._tail(last), None, 0.0, 0.0, None, 0.0)
        at = int(np.flatnonzero(self._cuts)[0])  # the first exit that is a classifier
        first = np.zeros((1, len(self._cuts)), bool)
        first[0, at] = True
        rescue = self._device.way(0, int(self._cuts[at]), first)[0][0] + self._device.preprocess
        plans = {name: np.concatenate(parts) for name, parts in self._plans.items()}
        made = {name: np.concatenate(parts, -1) for name, parts in self._ways.items()}
        ways, plans["way"] = _merged(made, plans["way"])
        return PlanTable(
            ways=ways,
            thresholds=self._thresholds, settings=tuple(self._settings), last=last, reference=self._reference,
            rescue_ms=float(rescue), rescue_accuracy=float(self._exit_accuracy[at]),
            number=np.arange(len(plans["split"])), **plans,
        )  # fmt: skip

    def _add_repeats(self, repeats: RepeatRates) -> None:
        """The repeat exit comes first. It never answers what goes beyond it, so it is no fallback."""
        rows = len(self._share)
        self._share = np.hstack([np.full((rows, 1), repeats.share), (1 - repeats.share) * self._share])
        self._accuracy = self._accuracy - repeats.share * repeats.lost
        always = np.ones((rows, 1), bool)
        self._answers, self._on_device = np.hstack([always, self._answers]), np.hstack([always, self._on_device])
        self._cuts, self._exit_names = np.concatenate([[0], self._cuts]), ["repeat", *self._exit_names]
        self._exit_accuracy = np.concatenate([[-np.inf], self._exit_accuracy])
        self._device.add_exit_at_input()
        self._server.add_exit_at_input()

    def _fallbacks(self) -> Floats:
        """(E,), accuracy of a run that ends at each exit: the whole network's, less the exit's loss in the tables.

        Without tables: the lowest accuracy of any threshold.
        """
        base = self._uncoded
        final = self._bundle.exits[-1].name
        if final not in base:
            return np.full(len(self._cuts), self._accuracy.min())
        found = [base.get(e.name, 0.0) for e in self._bundle.exits]
        return np.clip(self._reference - (base[final] - np.array(found)), 0.0, 1.0)

    def _sendable(self, split: int) -> list[tuple[CodecSetting, PayloadRow | None]]:
        """Settings with their rows of the tables; None: there are no tables."""
        rows = planned_settings(self._bundle, split)
        if not rows:
            return [(default_setting(self._bundle, split), None)]
        return [(CodecSetting.parse(row.codec), row) for row in rows]

    def _cost(self, split: int, setting: CodecSetting) -> CodecCost:
        cost = default_cost(setting, self._bundle.cut_points[split].elements)
        return replace(cost, encode_ms=cost.encode_ms * self._encoding.get(setting.codec, 1.0))

    def _add_ways(self, split: int, encode_ms: float) -> int:
        """One for each threshold; gives the first one's index."""
        device, before = self._device, self._cuts <= split
        exits, rows = len(self._cuts), len(self._share)
        ends, variances = np.zeros((exits + 1, rows)), np.zeros((exits + 1, rows))
        weights = np.zeros((exits + 1, rows))
        fallback = np.full((exits, rows), -np.inf)
        for e in np.flatnonzero(before):
            ms, var = device.way(0, int(self._cuts[e]), self._on_device)
            here = self._on_device[:, e]
            ends[e] = np.where(here, device.preprocess + ms, ends[e - 1] if e else 0.0)
            variances[e] = np.where(here, device.preprocess_var + var, 0.0)
            weights[e] = self._share[:, e]
            fallback[e, here] = self._exit_accuracy[e]
        for e in np.flatnonzero(~before):  # rising all the way, for what is done by a deadline
            ends[e] = ends[e - 1] if e else 0.0
        ms, var = device.way(0, split, self._on_device)
        ends[-1], variances[-1] = device.preprocess + ms + encode_ms, device.preprocess_var + var
        local = weights[:-1].sum(0)
        weights[-1] = _rest(local) if split < self._bundle.last else 0.0
        quantile = mixture_quantile(
            ends[:-1], np.sqrt(variances[:-1]), weights[:-1], np.minimum(1.0, QUANTILE / np.maximum(local, 1e-9))
        )
        mean = (weights[:-1] * ends[:-1]).sum(0) / np.maximum(local, 1e-9)
        made = {
            "ends": ends, "weights": weights, "busy": (weights * ends).sum(0),
            "slowest": np.where(weights[:-1] > 0, ends[:-1], 0.0).max(0),
            "fallback": np.maximum.accumulate(fallback, axis=0),
            "local_mean": mean, "local_spread": quantile - mean, "head_var": variances[-1],
        }  # fmt: skip
        for name, values in made.items():
            self._ways.setdefault(name, []).append(values)
        self._n_ways += rows
        return self._n_ways - rows

    def _tail(self, split: int) -> _Tail:
        """The server's work on frames sent from a split, under each threshold."""
        behind = self._cuts > split
        share = np.where(behind, self._share, 0.0)  # (T, E)
        sent = _rest(self._share[:, ~behind].sum(1)) if split < self._bundle.last else np.zeros(len(share))
        total = np.maximum(share.sum(1), 1e-9)
        weights = (share / total[:, None]).T
        ends, variances = np.zeros_like(weights), np.zeros_like(weights)
        for e in np.flatnonzero(behind):
            ends[e], variances[e] = self._server.way(split, int(self._cuts[e]), self._answers)
        mean = (weights * ends).sum(0)
        level = np.maximum(0.0, QUANTILE - (1 - sent)) / np.maximum(sent, 1e-9)
        level = np.where(sent > 0, level, QUANTILE)
        quantile = mixture_quantile(ends, np.sqrt(variances), weights, np.clip(level, 0.001, 0.999))
        return _Tail(
            sent, weights, mean, (weights * (variances + (ends - mean) ** 2)).sum(0), level_z(level), quantile - mean
        )

    def _add_plans(
        self, split: int, way: int, tail: _Tail, setting: CodecSetting | None, size: float, size_var: float,
        row: PayloadRow | None, decode_ms: float,
    ) -> None:  # fmt: skip
        rows, sent = len(self._share), tail.sent
        server = decode_ms + tail.mean
        hurt = np.minimum(sent, self._lost(row, tail.weights))
        if setting is not None and setting not in self._settings:
            self._settings.append(setting)
        made: dict[str, npt.ArrayLike] = {
            "split": split, "threshold": np.arange(rows), "way": np.arange(way, way + rows),
            "setting": -1 if setting is None else self._settings.index(setting),
            "sent": sent, "size": 0.0 if setting is None else size + MESSAGE_BYTES, "size_var": size_var,
            "server": server, "server_cv2": tail.var / np.maximum(server, 1e-9) ** 2, "tail_var": tail.var,
            "on_device": sent <= 1 - QUANTILE, "zz": tail.z * np.abs(tail.z),
            "tail_dd": tail.deviation * np.abs(tail.deviation),
            "accuracy": self._accuracy - hurt, "server_cost": sent * server,
        }  # fmt: skip
        for name, values in made.items():
            self._plans.setdefault(name, []).append(np.broadcast_to(np.asarray(values), rows))

    def _lost(self, row: PayloadRow | None, weights: Floats) -> Floats:
        """(T,), accuracy that coding costs: as measured for each threshold, or else by the exits' losses.

        Args:
            weights: (E, T), which exit behind the split answers what is sent.
        """
        if row is None:
            return np.zeros(len(self._share))
        found = losses(self._uncoded, row)
        by_exit = weights.T @ np.array([found.get(name, 0.0) for name in self._exit_names])
        by_exit[: len(row.lost)] = np.maximum(row.lost, 0.0)  # the row of no threshold, if one was added, comes last
        return np.asarray(by_exit)


def _merged(ways: Mapping[str, Floats], way: npt.NDArray[np.generic]) -> tuple[Ways, npt.NDArray[np.intp]]:
    """The different ways, and the index of each plan's: thresholds that run the same exits on the device share one."""
    together = np.concatenate([np.atleast_2d(values) for values in ways.values()])
    _, first, which = np.unique(together, axis=1, return_index=True, return_inverse=True)
    return Ways(**{name: np.ascontiguousarray(values[..., first]) for name, values in ways.items()}), which.ravel()[way]


def _rest(share: Floats) -> Floats:
    """1 minus the sum, or 0 if that is only rounding."""
    return np.where(share < 1 - 1e-9, 1.0 - share, 0.0)
