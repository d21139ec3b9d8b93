"""The device's own part of the network."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time

import numpy as np
import numpy.typing as npt
import pytest

from spinn_client.device.clock import StageClock
from spinn_client.device.device import PREPARED_FRAMES, Device
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting, PayloadSender, decode_payload
from spinn_stream.plan import Plan
from spinn_stream.profile import Profile, Timing
from spinn_stream.runtime import Answer, Engine, ExitOutput, open_engine
from spinn_stream.runtime.machine.host import Host, Step

Floats = npt.NDArray[np.float32]
SPLIT = 14  # behind the first exit
PLAN = Plan(1, SPLIT, None, CodecSetting("cnn-co", 8))
FAR = 1e9  # seconds: no hurry


@pytest.fixture
def device(bundle: Bundle, engine: Engine, profile: Profile) -> Device:
    return Device(bundle, engine, profile)


@pytest.fixture
def sparing(bundle: Bundle) -> Bundle:
    """A bundle of which every other early exit, from the second on, may answer if it is certain."""
    needed = tuple(1.0 if i % 2 else None for i in range(len(bundle.exits) - 1))
    row = dataclasses.replace(bundle.thresholds[0], threshold=0.9, needed=needed)
    return dataclasses.replace(bundle, thresholds=(row,))


def ignore(answer: Answer) -> None:
    """Local exits are of no interest here."""


def test_a_head_stops_at_the_first_confident_exit(
    device: Device, bundle: Bundle, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    outcome = asyncio.run(device.head(1, photographs[0], Plan(1, SPLIT, 0.0), ignore))
    assert outcome.answer is not None and outcome.answer.exit == bundle.exits[0].name and outcome.payload is None


def test_an_unsure_head_tells_every_exit_and_hands_over_what_the_server_needs(
    device: Device, bundle: Bundle, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    told: list[Answer] = []

    async def main() -> None:
        outcome = await device.head(1, photographs[0], PLAN, told.append, sender=PayloadSender(bundle))
        await asyncio.sleep(0)
        assert outcome.answer is None and outcome.payload is not None
        received = decode_payload(bundle, SPLIT, "cnn-co", outcome.payload)
        step = (outcome.activation.max() - outcome.activation.min()) / 255
        assert np.abs(received - outcome.activation).max() <= 0.51 * step
        answer = await device.complete(outcome.activation, SPLIT, Plan(1, SPLIT, None), FAR, told.append)
        assert answer is not None and answer.exit == "final"

    asyncio.run(main())
    assert [a.exit for a in told] == [e.name for e in bundle.exits[:-1]]


def test_nothing_is_begun_that_would_end_too_late(device: Device, bundle: Bundle) -> None:
    x = np.zeros((1, *bundle.cut_points[SPLIT].shape), np.float32)
    assert asyncio.run(device.complete(x, SPLIT, Plan(1, SPLIT, 0.0), time.monotonic() - 1, ignore)) is None


def test_a_rescue_goes_no_further_than_the_next_exit(device: Device, bundle: Bundle) -> None:
    told: list[Answer] = []
    x = np.zeros((1, *bundle.cut_points[0].shape), np.float32)

    async def main() -> None:
        assert await device.complete(x, 0, Plan(1, 0, None), FAR, told.append, only_first_exit=True) is None
        await asyncio.sleep(0)

    asyncio.run(main())
    assert [a.exit for a in told] == [bundle.exits[0].name]


def test_values_that_cannot_be_sent_are_finished_here(
    device: Device, bundle: Bundle, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    class Broken:
        """An engine whose activations are not numbers."""

        name = "broken"

        def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None: ...

        def ready(self, start: int, stop: int, *, exit: bool = True) -> bool:
            return True

        def drop(self, start: int, stop: int, *, exit: bool = True) -> None: ...

        def run(
            self, start: int, stop: int, x: npt.NDArray[np.float32], *, exit: bool = True
        ) -> tuple[npt.NDArray[np.float32], None]:
            return np.full((1, 80, 8, 8), np.nan, np.float32), None

    device._engine = Broken()
    outcome = asyncio.run(device.head(1, photographs[0], PLAN, ignore, sender=PayloadSender(bundle)))
    assert outcome.answer is None and outcome.payload is None


def test_the_stage_clock_remembers_the_slow_and_forgets_them_slowly(profile: Profile) -> None:
    clock = StageClock(profile)
    exit_cut = profile.exit_cuts[0]
    by_profile = profile.expected_ms([(0, exit_cut)], {exit_cut})
    assert clock.expected_ms([(0, exit_cut)], 0.0) == pytest.approx(by_profile)
    for ms in (10, 30, 10, 10):
        clock.observe(0, 5, ms)
    assert clock.expected_ms([(0, 5)], 0.6) == pytest.approx(30 * 0.9**2)
    clock.observe(5, 9, 1)
    assert clock.expected_ms([(0, 5), (5, 9)], 0.7) == pytest.approx(30 * 0.9**2 + 1)


def test_a_machine_that_slept_is_not_taken_for_a_slow_one_and_one_that_is_slow_is_known_soon(profile: Profile) -> None:
    """It slept for 3 s within a run of 10 ms; and from one run to the next everything takes ten times as long."""
    slept, slow = StageClock(profile), StageClock(profile)
    for ms in (10, 10, 3010):
        slept.observe(0, 5, ms)
    assert slept.expected_ms([(0, 5)], 3.1) <= 40
    for ms in (10, 10, 100, 100):
        slow.observe(0, 5, ms)
    assert slow.expected_ms([(0, 5)], 0.3) == pytest.approx(100)


def test_what_never_ran_is_expected_to_be_as_slow_as_what_did(profile: Profile) -> None:
    clock = StageClock(profile)
    idle = clock.expected_ms([(5, 9)], 0.0)
    for i in range(20):
        took = profile.expected_ms([(0, 5)]) + 1.0  # a millisecond besides the network
        clock.observe_job("head", [((0, 5), False)], 3 * took if i else took, i * 0.05)
    assert clock.load_factor(1.0) == pytest.approx(3)
    assert clock.expected_ms([(5, 9)], 1.0) == pytest.approx(3 * idle)


def test_a_plan_is_built_beside_the_frames_and_then_used_as_one_graph_between_exits(
    sparing: Bundle, engine: Engine, profile: Profile, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    class Recording:
        """The engine, and what was asked of it."""

        name = engine.name

        def __init__(self) -> None:
            self.ran: list[tuple[int, int, bool]] = []
            self.built: list[str] = []  # in which thread

        def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None:
            self.built.append(threading.current_thread().name)
            engine.prepare(start, stop, exit=exit)

        def ready(self, start: int, stop: int, *, exit: bool = True) -> bool:
            return engine.ready(start, stop, exit=exit)

        def drop(self, start: int, stop: int, *, exit: bool = True) -> None: ...

        def run(self, start: int, stop: int, x: Floats, *, exit: bool = True) -> tuple[Floats, ExitOutput | None]:
            self.ran.append((start, stop, exit))
            return engine.run(start, stop, x, exit=exit)

    recording = Recording()
    needed = sparing.needed(0.9)
    plan = Plan(2, max(needed) + 1, 0.9)

    async def main() -> None:
        device = Device(sparing, recording, profile)
        await device.head(1, np.zeros_like(photographs[0]), plan, ignore)
        assert recording.ran == [(a, b, b in sparing.exit_at) for a, b in every], "its own graphs are not there yet"
        await device.build(plan)
        recording.ran.clear()
        await device.head(1, np.zeros_like(photographs[0]), plan, ignore)
        device.close()

    every = sparing.pieces(0, plan.split)
    asyncio.run(main())
    assert recording.built and all(name.startswith("build") for name in recording.built)
    way = sparing.pieces(0, plan.split, needed)
    assert len(way) < len(every)
    assert recording.ran == [(a, b, b in needed) for a, b in way]


def test_a_plan_that_runs_in_graphs_of_another_one_runs_at_once(bundle: Bundle, profile: Profile) -> None:
    engine = open_engine(bundle, "onnxruntime", threads=1)
    device = Device(bundle, engine, profile)
    alone, certain = Plan(1, bundle.last, 0.5), Plan(2, bundle.last, 1.0)
    assert not device.runs(alone)
    device.prepare(alone)
    assert device.runs(alone) and device.runs(certain) and device.runs(Plan(3, 0, None))
    assert not device.runs(Plan(4, bundle.exits[0].cut + 1, 0.5)), "no graph ends there"
    device.close()


def test_a_run_that_was_disturbed_while_the_device_was_prepared_does_not_count(
    bundle: Bundle, engine: Engine, profile: Profile
) -> None:
    """The last one of three takes a minute."""
    now, runs = 0.0, 0

    def pace(step: Step, began: float) -> None:
        nonlocal now, runs
        now, runs = now + (60.0 if runs // graphs == 2 else 0.01), runs + 1

    device = Device(bundle, engine, profile, host=Host(clock=lambda: now, pace=pace))
    plan = Plan(1, bundle.last, 0.5)
    graphs = len(device._paths.graphs(plan))
    device.prepare(plan)
    assert runs == 3 * graphs and 0 < device.first_exit_ms(0) < 1000
    device.close()


def test_where_time_is_short_every_exit_is_evaluated(
    sparing: Bundle, engine: Engine, profile: Profile, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    told: list[Answer] = []
    device = Device(sparing, engine, profile)

    async def main(answer_by: float) -> list[str]:
        told.clear()
        plan = Plan(1, sparing.exits[0].cut + 1, 0.9)
        await device.head(1, photographs[0], plan, told.append, answer_by=answer_by)
        await asyncio.sleep(0)
        return [a.exit for a in told]

    device.prepare(Plan(1, sparing.exits[0].cut + 1, 0.9))
    assert asyncio.run(main(FAR)) == []
    assert asyncio.run(main(time.monotonic() - 1)) == [sparing.exits[0].name]


def test_after_some_frames_the_profile_has_what_preparing_the_source_s_own_takes(
    bundle: Bundle, engine: Engine, profile: Profile, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    wrong = dataclasses.replace(profile, preprocess=Timing(10_000.0, 10_000.0))
    device = Device(bundle, engine, wrong)

    async def frames(count: int) -> None:
        for _ in range(count):
            await device.head(1, photographs[0], Plan(1, bundle.exits[0].cut, 0.0), ignore)

    asyncio.run(frames(PREPARED_FRAMES - 1))
    assert device.profile is wrong
    asyncio.run(frames(1))
    learned = device.profile
    assert 0 < learned.preprocess.median_ms <= learned.preprocess.p95_ms < 10_000
    assert dataclasses.replace(learned, preprocess=wrong.preprocess) == wrong
    asyncio.run(frames(1))
    assert device.profile is learned


def test_small_jobs_of_no_graph_are_foreseen_as_they_are_predicted(
    bundle: Bundle, engine: Engine, profile: Profile, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    """What a picture takes to be sent, beyond preparing and encoding it, is overhead; a job with graphs has none.

    On a clock that nothing but work moves on.
    """
    seconds = {"preprocess": 0.002, "graph": 0.005, "encode": 0.003}
    now, done = 100.0, []

    def pace(step: Step, began: float) -> None:
        nonlocal now
        now += seconds[step.kind]
        done.append(step.kind)

    device = Device(bundle, engine, profile, host=Host(clock=lambda: now, pace=pace))

    async def main() -> None:
        sender, sent = PayloadSender(bundle), Plan(1, 0, None, CodecSetting("jpeg", 85))
        for request in range(PREPARED_FRAMES + 1):
            await device.head(request, photographs[0], sent, ignore, sender=sender)
            assert done[-2:] == ["preprocess", "encode"]
        assert device.head_foreseen_s == pytest.approx(0.002 + 0.003)
        done.clear()
        await device.head(PREPARED_FRAMES + 1, photographs[0], PLAN, ignore, sender=sender)
        assert done == ["preprocess", *["graph"] * len(bundle.pieces(0, SPLIT)), "encode"]
        assert device.head_foreseen_s == pytest.approx(sum(seconds[kind] for kind in done))

    asyncio.run(main())
    device.close()
