"""Faults while frames wait for the answer of one that is with the server: the contract stays as it is. In virtual time.

The scene gets lighter and darker by 1 of 255 a frame. So an answer is repeated for about three frames, and the next one
after a frame that is sent looks like that, and like none that is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from spinn_client import Result
from spinn_stream.bundle import Bundle
from spinn_stream.frame import Pixels
from spinn_stream.runtime import Engine
from spinn_stream.wire import Reject, decode, encode
from spinn_stream.wire import Result as ServerResult
from spinn_traces.simulator import MemoEngine

from .matrix import MOST_NO_ANSWER, Matrix
from .world import Case, Fault, World, nothing, play

SWING = 60
"""Frames until the light is as it was."""

CUT = 20
"""Frames between two cuts."""


@pytest.fixture(scope="module")
def memo(engine: Engine) -> MemoEngine:
    return MemoEngine(engine)


@pytest.fixture
def case(matrix: Matrix) -> Case:
    return Case(matrix.plan("block3"), repeat=True, audit_rate=0.0, frames=240)


@pytest.fixture(scope="module")
def drift(photographs: list[Pixels]) -> list[Pixels]:
    return [shaded(photographs[0], abs(n - SWING // 2)) for n in range(SWING)]


def shaded(picture: Pixels, by: int) -> Pixels:
    return (picture.astype(np.int16) - by).clip(0, 255).astype(np.uint8)


def waited(world: World) -> list[Result]:
    """Results of frames that waited: each came with the answer that it repeats, which came from the server."""
    by_frame = {r.frame: (at, r) for at, r in world.finals}
    found = []
    for at, result in world.finals:
        if result.repeats is not None:
            answered_at, answered = by_frame[result.repeats]
            if answered_at == at and answered.where == "server":
                found.append(result)
    return found


def kept(world: World) -> None:
    """The contract: one final a frame, in time, and hardly any without an answer."""
    assert (world.missed, world.duplicates) == (0, 0)
    assert world.no_answer <= MOST_NO_ANSWER * world.taken
    assert world.captured == world.taken + sum(world.dropped.values())


def every_second(change: Callable[[World, ServerResult], Awaitable[list[bytes]]]) -> Fault:
    """Something else is sent instead of every second result, from half a second on for 5 s."""

    async def fault(world: World) -> None:
        results = 0

        async def tamper(data: bytes) -> Sequence[bytes]:
            nonlocal results
            message = decode(data)
            results += isinstance(message, ServerResult)
            return await change(world, message) if isinstance(message, ServerResult) and results % 2 else [data]

        await asyncio.sleep(0.5)
        world.servers[0].tamper = tamper
        await asyncio.sleep(5.0)
        world.servers[0].tamper = None

    return fault


async def refused(world: World, message: ServerResult) -> list[bytes]:
    return [encode(Reject(message.id, "internal", "of a test"))]


async def never(world: World, message: ServerResult) -> list[bytes]:
    return []


async def late(world: World, message: ServerResult) -> list[bytes]:
    await asyncio.sleep(0.2)
    return [encode(message)]


async def connection_lost(world: World, message: ServerResult) -> list[bytes]:
    world.servers[0].reset()
    return []


async def killed(world: World) -> None:
    await asyncio.sleep(2)
    await world.servers[0].kill()
    await asyncio.sleep(3)
    world.servers[0].restart()


async def silent(world: World) -> None:
    await asyncio.sleep(2)
    world.servers[0].impose(answers_stall=True)
    await asyncio.sleep(3)
    world.servers[0].impose()


FAULTS: dict[str, Fault] = {
    "none": nothing,
    "refused": every_second(refused),
    "never answered": every_second(never),
    "late": every_second(late),
    "the connection ends": every_second(connection_lost),
    "kill -9 and a restart": killed,
    "answers stall": silent,
}


@pytest.mark.parametrize("split", ["input", "block3"])
@pytest.mark.parametrize("fault", FAULTS)
def test_one_final_a_frame_in_time(
    matrix: Matrix, bundle: Bundle, memo: MemoEngine, case: Case, drift: list[Pixels], split: str, fault: str
) -> None:
    world = play(replace(case, plan=matrix.plan(split)), bundle, memo, drift, FAULTS[fault])
    kept(world)
    assert waited(world), "else this says nothing of frames that wait"


def test_a_tenth_of_the_frames_wait_and_are_answered_by_their_deadline(
    matrix: Matrix, bundle: Bundle, memo: MemoEngine, case: Case, drift: list[Pixels]
) -> None:
    """An answer holds for three frames of the drift, to either side: one of the seven waits."""
    world = play(case, bundle, memo, drift)
    assert len(waited(world)) >= world.taken / 10
    assert all(r.age_ms < case.deadline_ms and r.reason == "confident" for r in waited(world))


@pytest.mark.parametrize("fault", ["none", "refused", "the connection ends", "kill -9 and a restart"])
def test_audits_give_no_second_final_and_are_sent(
    matrix: Matrix, bundle: Bundle, memo: MemoEngine, case: Case, drift: list[Pixels], fault: str
) -> None:
    """Of repeats, those that waited among them."""
    never, half = (play(replace(case, audit_rate=rate), bundle, memo, drift, FAULTS[fault]) for rate in (0.0, 0.5))
    kept(half)
    assert waited(half)
    assert half.servers[0].compute_ms() > 1.5 * never.servers[0].compute_ms()


def test_who_waited_for_an_answer_that_was_nearly_another_one_has_one_of_its_own(
    matrix: Matrix, bundle: Bundle, memo: MemoEngine, case: Case, drift: list[Pixels]
) -> None:
    """Without a margin no change is small enough."""
    probability = 0.3

    async def torn(world: World, message: ServerResult) -> list[bytes]:
        (first, _), (second, _) = message.top[:2]
        return [encode(replace(message, top=((first, probability), (second, probability))))]

    world = play(case, bundle, memo, drift, every_second(torn))
    kept(world)
    told = {r.frame for _, r in world.finals if r.where == "server" and r.confidence == pytest.approx(probability)}
    assert len(told) > 5 and not told & {r.repeats for _, r in world.finals}


def test_no_frame_waits_for_one_of_another_scene(
    matrix: Matrix, bundle: Bundle, memo: MemoEngine, case: Case, photographs: list[Pixels]
) -> None:
    """A cut every 20 frames, to a picture that is darker each time it comes back, so none was seen before."""
    pictures = [
        shaded(photographs[(n // CUT) % len(photographs)], (n % CUT) // 2 + 10 * (n // (CUT * len(photographs))))
        for n in range(case.frames)
    ]
    world = play(case, bundle, memo, pictures)
    kept(world)
    assert waited(world)
    assert all(r.repeats // CUT == r.frame // CUT for _, r in world.finals if r.repeats is not None)
