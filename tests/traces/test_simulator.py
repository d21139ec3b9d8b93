"""The simulator: time is a number, and the system in it is the real one."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from spinn_client.steering.guide import Asked
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting
from spinn_stream.plan import DEFAULT_SLA, Plan, parse_sla, policy
from spinn_stream.profile import BatchProfile, Profile, Timing
from spinn_stream.runtime import Engine
from spinn_stream.trace import Trace
from spinn_traces.shape.flow import Direction
from spinn_traces.shape.link_model import Conditions, LinkModel, Steady
from spinn_traces.simulator import Costs, MemoEngine, Outcome, Side, System, calibration, measure_costs, play
from spinn_traces.simulator.virtual_loop import Stuck, VirtualLoop, VirtualThread, run_virtually
from spinn_traces.simulator.virtual_socket import VirtualNetwork, frame_bytes

SEGMENT_MS, EXIT_MS, CALL_MS = 1.0, 0.5, 0.25
COSTS = Costs(preprocess_ms=2.0, hand_over_ms=0.0, hop_ms=0.0)


def flat_profile(bundle: Bundle) -> Profile:
    """Every segment takes the same, whatever the batch."""
    cuts = tuple(e.cut for e in bundle.exits[:-1])
    rows = tuple(
        BatchProfile(
            batch, (Timing(SEGMENT_MS, SEGMENT_MS),) * bundle.last, (Timing(EXIT_MS, EXIT_MS),) * len(cuts), CALL_MS
        )
        for batch in (1, 16)
    )
    return Profile("numbers", cuts, rows, Timing(0, 0))


@pytest.fixture(scope="module")
def memo(engine: Engine) -> MemoEngine:
    return MemoEngine(engine)


@pytest.fixture(scope="module")
def system(bundle: Bundle, memo: MemoEngine) -> System:
    side = Side(flat_profile(bundle), COSTS)
    return System(bundle, memo, side, side, Plan(1, bundle.split_index("block7"), None), frames=40)


def link(up_mbps: float, rtt_ms: float) -> Trace:
    return Trace(
        np.zeros(1), 1000.0, *(np.array([v]) for v in (up_mbps, 100.0, rtt_ms)), measured=frozenset(["up_mbps"])
    ).filled()


def ages(outcome: Outcome) -> list[float]:
    return [result.age_ms for _, result in outcome.results]


def where(outcome: Outcome) -> Counter[Any]:
    return Counter(result.where for _, result in outcome.results)


# the loop


def test_sleeping_takes_no_time_and_keeps_the_order() -> None:
    loop = VirtualLoop()
    seen: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((name, loop.time()))

    async def main() -> None:
        await asyncio.gather(sleeper("long", 3600.0), sleeper("short", 0.001), sleeper("day", 86400.0))

    run_virtually(loop, main())
    assert [name for name, _ in seen] == ["short", "long", "day"]
    assert [at for _, at in seen] == pytest.approx([0.001, 3600, 86400])


def test_no_timer_is_early_not_even_by_the_last_digit() -> None:
    """Whoever finds that it is not time yet asks again, and has others do something meanwhile: time has to go on."""
    loop = VirtualLoop()
    looks: list[float] = []

    async def other(something: asyncio.Event) -> None:
        while True:
            await something.wait()
            something.clear()

    async def main() -> None:
        await asyncio.sleep(6.3)
        due, done, something = loop.time(), loop.create_future(), asyncio.Event()
        for _ in range(3):
            due = math.nextafter(due, math.inf)
        beside = asyncio.create_task(other(something))

        def look() -> None:
            looks.append(loop.time() - due)
            something.set()
            if loop.time() < due and len(looks) < 100:
                loop.call_at(due, look)
            else:
                done.set_result(None)

        loop.call_at(due, look)
        await done
        beside.cancel()

    run_virtually(loop, main())
    assert looks == [0.0]


def test_who_waits_for_nobody_is_told() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck):
        run_virtually(VirtualLoop(), main())


def test_a_thread_does_one_job_after_the_other_in_the_time_they_spend() -> None:
    loop = VirtualLoop()
    told: list[tuple[float, float]] = []

    def work(seconds: float) -> float:
        loop.spend(seconds / 2)
        loop.call_soon_threadsafe(lambda: told.append((seconds, loop.time())))
        loop.spend(seconds / 2)
        return loop.clock()

    async def main() -> list[float]:
        thread = VirtualThread(loop, hand_over_s=1.0)
        jobs = [loop.run_in_executor(thread, partial(work, s)) for s in (10.0, 20.0)]
        await asyncio.sleep(3)
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(thread, lambda: 1 / 0)
        return [*await asyncio.gather(*jobs), loop.time()]

    assert run_virtually(loop, main()) == [11.0, 33.0, 36.0]
    assert told == [(10.0, 6.0), (20.0, 23.0)]


# the link


@pytest.mark.parametrize(("size", "mbps"), [(1000, 1.0), (70_000, 8.0), (100, 0.1)])
def test_a_message_takes_what_its_bytes_and_the_way_take(size: int, mbps: float) -> None:
    loop = VirtualLoop()

    async def main() -> float:
        up, down = (
            Direction(LinkModel(Conditions(mbps=Steady(limit), rtt_ms=Steady(40.0))), loop.clock)
            for limit in (mbps, None)
        )
        arrived: asyncio.Future[float] = loop.create_future()

        async def serve(websocket: Any) -> None:
            assert await websocket.recv() == b"x" * size
            arrived.set_result(loop.time())

        network = VirtualNetwork(up, down, serve, hop_s=0.0)
        websocket = await network.dial("ws://x", None, 0)
        began = loop.time()
        await websocket.send(b"x" * size)
        took = await arrived - began
        assert await (await websocket.ping()) == pytest.approx(0.04, abs=0.003)
        await network.close()
        return took

    expected = 0.020 + frame_bytes(size, masked=True) * 8e-6 / mbps
    assert run_virtually(loop, main()) == pytest.approx(expected, abs=0.002), "timers count in whole ms"


def test_messages_that_arrive_at_one_time_are_read_in_order() -> None:
    loop = VirtualLoop()

    async def main() -> list[bytes]:
        up, down = (Direction(LinkModel(Conditions(mbps=Steady(None), rtt_ms=Steady(0.0))), loop.clock) for _ in "ud")
        heard: list[bytes] = []

        async def serve(websocket: Any) -> None:
            async for data in websocket:
                heard.append(data)

        network = VirtualNetwork(up, down, serve, hop_s=0.001)
        websocket = await network.dial("ws://x", None, 0)
        for number in range(50):
            await websocket.send(bytes([number]))
        await asyncio.sleep(1.0)
        await network.close()
        return heard

    assert run_virtually(loop, main()) == [bytes([number]) for number in range(50)]


# the system


def test_the_same_twice(system: System, photographs: list[npt.NDArray[np.uint8]]) -> None:
    noisy = replace(
        system,
        trace=link(2.0, 30.0),
        device=replace(system.device, costs=replace(COSTS, ratios=(0.9, 1.0, 1.3))),
        seed=3,
    )
    first, second, other = (play(s, photographs) for s in (noisy, noisy, replace(noisy, seed=4)))
    assert first == second and ages(first) != ages(other)


def test_the_device_alone_takes_what_its_profile_says(
    system: System, bundle: Bundle, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    alone = replace(system, server=None, plan=Plan(1, bundle.last, None))
    outcome = play(alone, photographs)
    graphs = len(bundle.exits)
    expected = 2.0 + bundle.last * SEGMENT_MS + (graphs - 1) * EXIT_MS + graphs * CALL_MS
    assert ages(outcome) == pytest.approx([expected] * 40, abs=1e-6)
    slowed = play(replace(alone, device=replace(alone.device, slowdown=3.0), fps=5.0), photographs)
    assert ages(slowed) == pytest.approx([3 * expected] * 40, abs=1e-6)


def test_an_overloaded_device_drops_the_older_frame(
    system: System, bundle: Bundle, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    alone = replace(system, server=None, plan=Plan(1, bundle.last, None), fps=60.0, frames=240)
    outcome = play(alone, photographs)
    assert outcome.captured == 240 == outcome.taken + sum(outcome.dropped.values())
    assert outcome.dropped["superseded"] > 60
    assert max(ages(outcome)) < 2 * 33 + 17, "one is worked on and one waits"


def test_the_server_finishes_what_was_sent(
    system: System, bundle: Bundle, engine: Engine, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    outcome = play(replace(system, trace=link(5.0, 50.0)), photographs)
    assert where(outcome)["server"] >= 35 and where(outcome).keys() <= {"server", "device"}
    whole = play(replace(system, server=None, plan=Plan(1, bundle.last, None)), photographs)
    labels = [{result.frame: result.label for _, result in o.results} for o in (outcome, whole)]
    assert labels[0].items() <= labels[1].items()
    first = next(result.age_ms for _, result in outcome.results if result.where == "server")
    served = 2 * (bundle.last * SEGMENT_MS + len(bundle.exits) * (EXIT_MS + CALL_MS))
    assert 50 + 2 + bundle.last * SEGMENT_MS <= first <= 50 + 2 + served + 20


def test_frames_of_one_camera_are_repeated_and_photographs_are_not(
    system: System, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    """Four photographs in turn: as those of a camera, each but the first four has been seen before."""
    asked = replace(system, plan=Asked.of("spinn", DEFAULT_SLA), trace=link(20.0, 20.0), fps=10.0, audit_rate=0.0)
    films, pictures = play(replace(asked, one_camera=True), photographs), play(asked, photographs)
    repeats = {result.frame: result.repeats for _, result in films.results if result.repeats is not None}
    assert len(repeats) >= 30 and all(frame % 4 == of % 4 for frame, of in repeats.items())
    assert all(result.repeats is None for _, result in pictures.results)
    assert play(replace(asked, repeat=True, audit_rate=1.0), photographs).audits >= 30


@pytest.mark.parametrize("split", ["block7", "input"])
def test_a_dead_link_is_left_and_found_again(
    system: System, bundle: Bundle, photographs: list[npt.NDArray[np.uint8]], split: str
) -> None:
    """Twelve seconds without a bit: the connection is given up, frames are answered alone, and a new one is made.

    If frames are sent whole, no exit has run when one is sent: the device begins a run of its own in time.
    """
    times = np.array([0.0, 3.0, 15.0])
    trace = Trace(times, 40.0, np.array([5.0, 0.0, 5.0]), np.array([5.0, 0.0, 5.0])).filled()
    plan = Plan(1, bundle.split_index(split), None)
    outcome = play(replace(system, plan=plan, trace=trace, frames=600), photographs)
    assert all(result.label for _, result in outcome.results)
    assert outcome.captured == outcome.taken == len(outcome.results) == 600
    assert {result.frame for _, result in outcome.results} == set(range(600))
    assert max(ages(outcome)) <= 150 + 20
    by_second = [Counter(r.where for at, r in outcome.results if second <= at < second + 1) for second in range(20)]
    assert min(by_second[1]["server"], by_second[18]["server"]) >= 29
    assert by_second[8] == by_second[12] == {"device": 30}
    reasons = Counter(r.reason for _, r in outcome.results)
    assert reasons["disconnected"] > 100


def test_an_overloaded_server_answers_at_an_earlier_exit_only_if_that_is_allowed(
    system: System, bundle: Bundle, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    """The server needs 15 x 12 ms from block7 to the end, which is too long, and 4 x 12 ms to the next exit."""
    far = replace(
        system, plan=Plan(1, bundle.split_index("block7"), None, CodecSetting("cnn-co", 8)), fps=5.0, frames=20,
        device=replace(system.device, slowdown=2.0), server=replace(system.device, slowdown=12.0),
    )  # fmt: skip
    refused, shortened = (
        [(r.where, r.reason, r.exit) for _, r in play(replace(far, may_shorten=may), photographs).results]
        for may in (False, True)
    )
    assert set(refused) == {("device", "rejected", "final"), ("device", "final_exit", "final")}  # not asked every time
    assert shortened == [("server", "shortened", bundle.exits[0].name)] * 20


def decided(
    system: System, trace: Trace, photographs: list[npt.NDArray[np.uint8]], seconds: float, fps: float = 30.0
) -> Outcome:
    """With a device at a third of the server's speed, under the default agreement."""
    asked = Asked(policy("spinn"), parse_sla(DEFAULT_SLA))
    slow = replace(system.device, slowdown=3.0)
    return play(
        replace(system, plan=asked, device=slow, trace=trace, frames=round(fps * seconds), fps=fps), photographs
    )


def test_the_scheduler_follows_the_link(
    system: System, bundle: Bundle, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    times = np.array([0.0, 7.0, 14.0, 21.0, 28.0])
    up = np.array([20.0, 0.3, 20.0, 20.0, 20.0])
    rtt = np.array([20.0, 20.0, 20.0, 400.0, 20.0])
    outcome = decided(system, Trace(times, 35.0, up, np.full(5, 50.0), rtt).filled(), photographs, 35)
    assert len(outcome.results) == outcome.taken and max(ages(outcome)) <= 150 + 20
    changes = [(at, plan.split == bundle.last) for at, plan, _ in outcome.plans]
    for begin, local, within in ((7.0, True, 2.0), (14.0, False, 3.0), (21.0, True, 2.0), (28.0, False, 3.0)):
        after = [(at, alone) for at, alone in changes if begin <= at < begin + 7]
        assert 1 <= len(after) <= 2 and after[0][0] - begin <= within, (begin, changes)
        assert after[-1][1] == local, (begin, changes)
    assert all(why for _, _, why in outcome.plans)


def test_a_link_that_wavers_changes_no_plans(system: System, photographs: list[npt.NDArray[np.uint8]]) -> None:
    rng = np.random.default_rng(0)
    steps = 80
    up, rtt = (middle * np.exp(0.2 * rng.standard_normal(steps)) for middle in (10.0, 30.0))
    trace = Trace(np.arange(steps) / 2, steps / 2, up, np.full(steps, 50.0), rtt).filled()
    outcome = decided(system, trace, photographs, 40, fps=15.0)
    assert len([at for at, _, _ in outcome.plans if at > 5]) <= 1
    assert where(outcome)["server"] > 0.8 * outcome.taken


def test_frames_wait_for_a_link_that_is_too_slow_and_not_behind_each_other(
    system: System, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    """Pictures of 3 kB and more, 30 a second, on 0.5 Mb/s: each takes 50 ms and more."""
    asked = Asked(policy("server-only"), parse_sla("minimize latency_ms"))
    outcome = play(
        replace(system, plan=asked, trace=link(0.5, 20.0), frames=300, deadline_ms=2000.0), photographs
    )  # fmt: skip
    served = [(at, result) for at, result in outcome.results if result.where == "server" and at > 3]
    service_ms = 8e-3 * outcome.bytes_up / where(outcome)["server"] / 0.5
    assert service_ms > 45 and len(served) > 0.8 * 7 * 1000 / service_ms
    ages_ms = [result.age_ms for _, result in served]
    assert np.percentile(ages_ms, 90) < 3 * service_ms, "16 requests on the way would be 16 services"


def test_a_link_too_slow_for_the_frames_is_not_buried_under_them(
    system: System, bundle: Bundle, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    """0.6 Mb/s carries a payload of 5.6 kB in 75 ms, thirteen a second of thirty: some answers come in time.

    They would not if all frames were sent: sixteen in flight take 1.2 s.
    """
    plan = Plan(1, bundle.split_index("block7"), None, CodecSetting("cnn-co", 8))
    outcome = play(replace(system, plan=plan, trace=link(0.6, 10.0), frames=150), photographs)
    assert outcome.captured == outcome.taken == len(outcome.results) == 150
    assert max(ages(outcome)) <= 150 + 20 and all(result.label for _, result in outcome.results)
    assert where(outcome)["server"] >= 20
    assert outcome.bytes_up > 5_000 * where(outcome)["server"]


def test_while_all_is_answered_here_the_link_is_probed(
    system: System, bundle: Bundle, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    asked = Asked(policy("device-only"), parse_sla(DEFAULT_SLA))
    outcome = play(replace(system, plan=asked, trace=link(8.0, 30.0), frames=300), photographs)
    assert where(outcome) == {"device": 300} and outcome.late == 0
    assert 4 * 500 < outcome.bytes_up < 60_000, "a probe every two seconds, of at most 20 kB"


def test_costs_are_measured(bundle: Bundle, engine: Engine, profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "FRAMES", 30)  # so that it takes a second
    monkeypatch.setattr(calibration, "WARM_UP", 6)
    cut = bundle.split_index("block7")
    for plan in (Plan(1, cut, None, CodecSetting.parse("transform:6")), Plan(1, bundle.last, 0.5)):
        costs = measure_costs(bundle, engine, profile, "demo", plan, 60.0)
        for values in (costs.encode_ms, costs.decode_ms):
            assert {at for at, _ in values} == {plan.split} - {bundle.last}
            assert all(0.01 < ms < 100 for ms in values.values())
        assert 0.01 < costs.preprocess_ms < 100 and all(0 < ratio <= 3 for ratio in costs.ratios)
        assert 0.2 < costs.device_pace < 20 and 0.2 < costs.server_pace < 20
        assert Costs.from_json(json.loads(json.dumps(costs.as_json()))) == costs
