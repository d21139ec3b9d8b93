"""Measures the times that a simulation needs and no profile has, by a short run of the real client."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from spinn_client import DeviceConfig, FeedConfig, Result, Stream, open_source
from spinn_client.parts import Parts
from spinn_client.sources.base import pixels_of
from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.codec import CodecSetting, PayloadReceiver, PayloadSender, default_setting
from spinn_stream.errors import SourceError, SpinnError
from spinn_stream.frame import Pixels, crop, normalise
from spinn_stream.plan import Plan
from spinn_stream.profile import Profile
from spinn_stream.runtime import Engine, open_engine, stored_profile
from spinn_stream.runtime.machine.host import Host, Pace, Slowed, Step, full_speed

from .costs import Costs

BATCHES = (1, 2, 4, 8, 16)
"""Batch sizes of the profile, as `spinn serve` measures it."""

TIMEOUT_S = 300.0

SAMPLES = 12
"""Pictures that a server's costs are measured with, again and again."""

FRAMES, WARM_UP = 75, 15

MOST_BUSY = 0.6
"""Largest share of the time that the device works in the calibration, so that no frame waits for another."""

TOO_BUSY = 0.75
"""If the device worked for more than this share, the calibration is repeated at a lower rate."""

DEADLINE_MS = 60_000.0

MOST_RATIO = 3.0
"""A job that took more than this many medians was disturbed."""


class _StepTimes:
    """A pace that calls another one, and remembers the time of each step of each frame, in ms."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self.frames: list[dict[Step, float]] = []

    def __call__(self, step: Step, began: float) -> None:
        self._pace(step, began)
        if step.kind == "preprocess":
            self.frames.append({})
        if self.frames:
            self.frames[-1][step] = (time.monotonic() - began) * 1000

    def medians(self) -> dict[Step, float]:
        """Of each step, over the frames that had it."""
        times: dict[Step, list[float]] = {}
        for frame in self.frames[WARM_UP:] or self.frames:
            for step, ms in frame.items():
                times.setdefault(step, []).append(ms)
        return {step: float(np.median(found)) for step, found in times.items()}

    def worked_ms(self) -> float:
        """Median of all steps of a frame together."""
        return float(np.median([sum(frame.values()) for frame in self.frames[WARM_UP:] or self.frames]))

    def ratios(self) -> tuple[float, ...]:
        """Each frame's time over the sum of its steps' medians."""
        medians = self.medians()
        frames = [f for f in self.frames[WARM_UP:] or self.frames if f]
        found = (sum(frame.values()) / max(1e-6, sum(medians[step] for step in frame)) for frame in frames)
        return tuple(round(min(ratio, MOST_RATIO), 3) for ratio in found) or (1.0,)


def measure_costs(
    bundle: Bundle, engine: Engine, profile: Profile, source: str, plan: Plan, fps: float, *, slowdown: float = 1.0
) -> Costs:
    """The real client's pipeline on the source, without a server, for FRAMES frames; then a server's work. Medians.

    The client runs the plan's head and then the tail; payloads are coded afterwards. Frames come at the source's rate,
    or less often if the device cannot keep up. Not to be called while an event loop runs.

    Args:
        source: as `spinn run` takes it.
        slowdown: of the device. It slows disturbances, too; this is in the costs, which are divided by it.

    Raises:
        EngineError: the engine cannot run this bundle. SourceError: the source cannot be read.
    """
    sends = plan.split < bundle.last
    codec = default_setting(bundle, plan.split, plan.codec).codec if sends else ""
    pace = full_speed if slowdown == 1 else Slowed(slowdown)
    slowed = profile.slowed(slowdown)
    every = [*bundle.pieces(0, plan.split), *bundle.pieces(plan.split, bundle.last)]
    least_s = (slowed.expected_ms(every, bundle.exit_at) + slowed.preprocess.median_ms) / 1000
    ages, steps = _play(bundle, engine, slowed, source, plan, min(fps, MOST_BUSY / least_s), pace)
    took_s = steps.worked_ms() / 1000
    if took_s > TOO_BUSY * max(1 / fps, least_s / MOST_BUSY):  # slower than profiled: frames waited for each other
        ages, steps = _play(bundle, engine, slowed, source, plan, min(fps, MOST_BUSY / took_s), pace)
    medians = steps.medians()
    graphs = {step: ms / slowdown for step, ms in medians.items() if step.kind == "graph"}
    expected = sum(profile.expected_ms([(g.start, g.stop)], {g.stop} if g.exit else ()) for g in graphs)
    device_pace = sum(graphs.values()) / expected
    beside = float(np.median(ages)) - steps.worked_ms()
    served = _serve(bundle, engine, profile, _first(source), plan, fps) if sends else None
    coded = (plan.split, codec)
    return Costs(
        preprocess_ms=medians[Step("preprocess", 0)] / slowdown,
        encode_ms={} if served is None else {coded: served.encode_ms},
        decode_ms={} if served is None else {coded: served.decode_ms},
        graph_ms={(g.start, g.stop, g.exit): round(ms, 4) for g, ms in graphs.items()},
        device_pace=device_pace,
        server_pace=device_pace if served is None else served.tail_pace,
        hand_over_ms=max(0.0, beside / (4 if sends else 2)),
        ratios=steps.ratios(),
    )


def _first(source: str) -> list[Pixels]:
    """The first pictures of a source, (H, W, 3) uint8 BGR."""
    opened = open_source(source)
    try:
        pictures = list(itertools.islice(pixels_of(opened), SAMPLES))
    finally:
        opened.close()
    if not pictures:
        raise SourceError(f"{source} has no frame that can be read")
    return pictures


def _play(
    bundle: Bundle, engine: Engine, profile: Profile, source: str, plan: Plan, fps: float, pace: Pace
) -> tuple[list[float], _StepTimes]:
    """Ages of the answers in ms, and what was done for them."""
    steps = _StepTimes(pace)
    return uvloop.run(_played(bundle, engine, profile, source, plan, fps, steps)), steps


async def _played(
    bundle: Bundle, engine: Engine, profile: Profile, source: str, plan: Plan, fps: float, steps: _StepTimes
) -> list[float]:
    results: list[Result] = []
    stream = Stream(
        source,
        deadline_ms=DEADLINE_MS,
        plan=plan,
        feed=FeedConfig(fps=fps, loop=True, max_frames=FRAMES),
        device=DeviceConfig(bundle),
        on_result=results.append,
        parts=Parts(host=Host(pace=steps), engine=(engine, profile), began=steps.frames.clear),
    )
    async with stream:
        await stream.ended()
    if stream.error is not None:
        raise stream.error
    ages = [result.age_ms for result in results]
    return ages[WARM_UP:] or ages  # on a busy machine most frames may be dropped


@dataclass(frozen=True)
class _Served:
    """tail_pace: the tail's time over the profile's."""

    encode_ms: float
    decode_ms: float
    tail_pace: float


def _serve(
    bundle: Bundle, engine: Engine, profile: Profile, pictures: Sequence[Pixels], plan: Plan, fps: float
) -> _Served:
    """Coding, decoding and the tail, at the source's rate.

    Each payload refers to the one before, if the codec does that.
    """
    setting = default_setting(bundle, plan.split, plan.codec)
    sender, receiver = PayloadSender(bundle), PayloadReceiver(bundle)
    tail = bundle.pieces(plan.split, bundle.last, bundle.needed(plan.confidence_threshold))
    rows: list[tuple[float, float, float]] = []
    due = time.monotonic()
    for request in range(FRAMES):
        small = crop(pictures[request % len(pictures)], bundle.input.size)
        x = normalise(small, bundle.input)
        if plan.split:
            x = engine.run(0, plan.split, x, exit=False)[0].copy()
        began = time.perf_counter()
        payload = sender.encode(request, plan.split, setting, x, small)
        encoded = time.perf_counter() - began
        due += 1 / fps
        time.sleep(max(0.0, due - time.monotonic()))
        began = time.perf_counter()
        x = receiver.decode(request, plan.split, setting.codec, payload)
        middle = time.perf_counter()
        for start, stop in tail:
            x, _ = engine.run(start, stop, x)
        rows.append((encoded, middle - began, time.perf_counter() - middle))
        sender.acknowledge(request)
    encode, decode, tail_ms = (1000 * float(s) for s in np.median(np.array(rows[WARM_UP:]), axis=0))
    return _Served(encode, decode, tail_ms / profile.expected_ms(tail, {stop for _, stop in tail}))


def measure_apart(
    bundle: str, runtime: str, source: str, plan: Plan, fps: float, *, slowdown: float, core: int | None
) -> Costs:
    """`measure_costs` in a process of its own, on one core if that is given, like a client.

    Args:
        bundle: its folder.

    Raises:
        SpinnError: it failed, or took too long; says why.
    """
    asked = {
        "bundle": bundle, "runtime": runtime, "source": source, "fps": fps, "slowdown": slowdown,
        "plan": [plan.split, plan.confidence_threshold, None if plan.codec is None else str(plan.codec)],
    }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", __name__, json.dumps(asked)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})  # it has one thread yet; those to come inherit this
        try:
            said, errors = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise SpinnError(f"measuring this machine took more than {TIMEOUT_S:g} s") from None
    if process.returncode:
        why = errors.strip().splitlines()[-1:] or ["it said nothing"]
        raise SpinnError(f"measuring this machine failed: {why[0][:300]}")
    return Costs.from_json(json.loads(said))


def main(asked: dict[str, Any]) -> None:
    """Print the costs. asked: as `measure_apart` writes it."""
    model = load_bundle(Path(asked["bundle"]))
    engine = open_engine(model, asked["runtime"], threads=1)
    profile = stored_profile(model, engine, threads=1, batches=BATCHES)
    split, threshold, codec = asked["plan"]
    plan = Plan(1, split, threshold, None if codec is None else CodecSetting.parse(codec))
    costs = measure_costs(model, engine, profile, asked["source"], plan, asked["fps"], slowdown=asked["slowdown"])
    print(json.dumps(costs.as_json()))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
