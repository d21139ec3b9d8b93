"""Runs of a replay in virtual time: the same specification and the same record as with real processes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from spinn_client.sources.base import pixels_of
from spinn_client.sources.registry import open_source
from spinn_client.steering.guide import Asked
from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.codec import CodecSetting, default_setting
from spinn_stream.errors import SourceError
from spinn_stream.frame import Pixels, crop
from spinn_stream.plan import Conditions, LinkBelief, Plan, Scheduler, build_table
from spinn_stream.runtime import Engine, open_engine, stored_profile
from spinn_stream.trace import Trace
from spinn_traces.readers import read_trace
from spinn_traces.replay.machine import cores_for_pinning, this_machine
from spinn_traces.replay.policy import parse_policy
from spinn_traces.replay.record import Finals, PlanUse, RunRecord, RunSpec, link_series

from .calibration import BATCHES, measure_apart
from .costs import Costs
from .memo import MemoEngine
from .side import Side
from .system import Outcome, System, play

LIVE_FPS = 30.0
"""Of a source without a rate of its own."""


def simulate(spec: RunSpec, *, progress: Callable[[float], None]) -> RunRecord:
    """One run in virtual time.

    Args:
        progress: told the part that is done, 0 to 1.

    Raises:
        SpinnError: the trace, the bundle or the source cannot be used.
    """
    trace = read_trace(Path(spec.trace.file), spec.trace.format).trace
    return _simulator(spec.bundle, spec.runtime).run(spec, trace, progress)


def forget() -> None:
    """Forget the machine's costs and the engine's results: the next run measures and computes anew."""
    _simulator.cache_clear()


@lru_cache(maxsize=1)
def _simulator(bundle: str, runtime: str) -> Simulator:
    model = load_bundle(Path(bundle))
    return Simulator(model, open_engine(model, runtime, threads=1))


class Simulator:
    """Runs of one bundle on this machine's profile. The next run reuses results of the one before.

    Args:
        engine: runs the network and has the profile.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self._bundle = bundle
        self._engine = MemoEngine(engine)
        self._plain = engine
        self._profile = stored_profile(bundle, engine, threads=1, batches=BATCHES)
        self._sources: dict[tuple[str, int], list[Pixels]] = {}
        self._costs: dict[tuple[str, Plan, float, float], Costs] = {}

    def run(self, spec: RunSpec, trace: Trace, progress: Callable[[float], None]) -> RunRecord:
        """Simulate it.

        Raises:
            SourceError: the source has no frame, or one that cannot be read.
        """
        rate, pictures, one_camera = self._pictures(spec.source, spec.fps, spec.duration_s)
        frames = max(1, round(spec.duration_s * rate))
        plan = parse_policy(spec.policy, self._bundle).plan
        costs = self._costs_of(spec, plan, rate)
        outcome = play(
            System(
                bundle=self._bundle,
                engine=self._engine,
                device=Side(self._profile, costs, costs.device_pace, costs.graph_ms, spec.device_slowdown),
                server=Side(self._profile, costs, costs.server_pace),
                plan=plan,
                trace=trace.filled(),
                trace_offset_s=spec.offset_s,
                frames=frames,
                fps=rate,
                deadline_ms=spec.deadline_ms,
                one_camera=one_camera,
                seed=spec.seed + spec.repeat,
            ),
            pictures,
            lambda done: progress(done / frames),
        )
        return self._record(spec, trace, outcome)

    def _record(self, spec: RunSpec, trace: Trace, outcome: Outcome) -> RunRecord:
        results = sorted(outcome.results, key=lambda pair: pair[1].frame)
        finals = Finals(
            frame=tuple(r.frame for _, r in results),
            captured_s=tuple(round(max(0.0, at - r.age_ms / 1000), 5) for at, r in results),
            age_ms=tuple(round(r.age_ms, 2) for _, r in results),
            label=tuple(r.label for _, r in results),
            confidence=tuple(None if r.confidence is None else round(r.confidence, 4) for _, r in results),
            exit=tuple(r.exit for _, r in results),
            where=tuple(r.where for _, r in results),
            reason=tuple(str(r.reason) for _, r in results),
            plan=tuple(r.plan for _, r in results),
            correct=(None,) * len(results),
        )
        return RunRecord(
            spec=spec,
            machine=this_machine(self._plain.name, None),
            finals=finals,
            captured=outcome.captured,
            dropped_by=dict(outcome.dropped),
            plans=tuple(self._use(at, plan, why) for at, plan, why in outcome.plans),
            bytes_up=outcome.bytes_up,
            bytes_down=outcome.bytes_down,
            server_compute_ms=outcome.server_ms,
            link=link_series(trace, spec.offset_s, spec.duration_s),
        )

    def _use(self, at: float, plan: Plan, why: str | None) -> PlanUse:
        setting = self._setting(plan)
        name, codec = self._bundle.cut_points[plan.split].name, None if setting is None else str(setting)
        return PlanUse(round(at, 5), plan.id, name, plan.confidence_threshold, codec, why)

    def _setting(self, plan: Plan) -> CodecSetting | None:
        return default_setting(self._bundle, plan.split, plan.codec) if plan.split < self._bundle.last else None

    def _pictures(self, source: str, fps: float | None, duration_s: float) -> tuple[float, list[Pixels], bool]:
        """The rate; the pictures to play, as the network sees them; whether they are a clip's."""
        opened = open_source(source)
        try:
            one_camera = opened.fps is not None
            fps = fps or opened.fps or LIVE_FPS
            frames = math.ceil(duration_s * fps)
            if (source, frames) not in self._sources:
                size = self._bundle.input.size
                pictures = [_small(picture, size) for picture in itertools.islice(pixels_of(opened), frames)]
                if not pictures:
                    raise SourceError(f"{source} has no frame that can be read")
                self._sources[source, frames] = pictures
        finally:
            opened.close()
        return fps, self._sources[source, frames], one_camera

    def _first_choice(self, asked: Asked, spec: RunSpec, fps: float) -> Plan:
        """The plan that a policy would begin with, while little is known about the link."""
        device = self._profile.slowed(spec.device_slowdown)
        table = build_table(self._bundle, device, self._profile)
        now = Conditions(LinkBelief(0.0).state(0.0), fps=fps, deadline_ms=spec.deadline_ms)
        return Scheduler(self._bundle, table, asked.sla, chooses=asked.policy).choose(now).plan

    def _costs_of(self, spec: RunSpec, plan: Plan | Asked, fps: float) -> Costs:
        measured = plan if isinstance(plan, Plan) else self._first_choice(plan, spec, fps)
        key = spec.source, measured, fps, spec.device_slowdown
        if key not in self._costs:
            cores = cores_for_pinning()
            self._costs[key] = measure_apart(
                spec.bundle,
                spec.runtime,
                spec.source,
                measured,
                fps,
                slowdown=spec.device_slowdown,
                core=None if cores is None else cores[0],
            )
        return self._costs[key]


def _small(picture: Pixels, size: int) -> Pixels:
    """The picture as the network sees it; cropping it again changes nothing."""
    return np.ascontiguousarray(crop(picture, size)[..., ::-1])
