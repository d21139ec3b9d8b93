"""Faults of a server, in virtual time: what it does wrong never reaches a result, and the device answers instead."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Sequence
from dataclasses import replace

import pytest

from spinn_client import ServerBack, ServerLost
from spinn_stream.wire import Reject, Result, decode, encode

from .matrix import MOST_NO_ANSWER, REPORT, Matrix
from .world import DEADLINE_MS, Case, Tamper, World

SECONDS = 4.0
WHOLE = REPORT in os.environ
"""A report has 10 s of every fault; else half a second after the server has to answer again is enough."""


@pytest.fixture
def case(matrix: Matrix) -> Case:
    return Case(matrix.plan("block3"), frames=300 if WHOLE else 255)


def tampering(tamper: Tamper, start_s: float = 2.0, end_s: float = 2.0 + SECONDS) -> object:
    """A fault: its messages become something else for a while."""

    async def fault(world: World) -> None:
        await asyncio.sleep(start_s)
        world.servers[0].tamper = tamper
        await asyncio.sleep(end_s - start_s)
        world.servers[0].tamper = None

    return fault


def instead(change: object) -> Tamper:
    """Of each result: what `change` makes of it."""

    async def tamper(data: bytes) -> Sequence[bytes]:
        message = decode(data)
        return change(message) if isinstance(message, Result) else [data]  # type: ignore[operator]

    return tamper


def test_kill_9_and_a_restart(matrix: Matrix, case: Case) -> None:
    async def fault(world: World) -> None:
        await asyncio.sleep(2)
        await world.servers[0].kill()
        await asyncio.sleep(SECONDS)
        world.servers[0].restart()

    world = matrix.judge("kill -9 and a restart", case, fault, healthy_s=2 + SECONDS)
    assert [type(e) for e in world.events if isinstance(e, ServerBack | ServerLost)] == [
        ServerBack, ServerLost, ServerBack,
    ]  # fmt: skip


def test_another_bundle_behind_the_same_address_is_not_used(matrix: Matrix, case: Case) -> None:
    async def fault(world: World) -> None:
        (server,) = world.servers
        await asyncio.sleep(2)
        for bundle in (replace(matrix.bundle, hash="0" * 64), matrix.bundle):
            await server.kill()
            server.restart(bundle)
            dialled.append(server.dialled)
            await asyncio.sleep(SECONDS)

    dialled: list[int] = []
    world = matrix.judge("comes back with another bundle", case, fault, healthy_s=2 + SECONDS)
    assert not [at for at in world.by_server(after=2.0 + DEADLINE_MS / 1000) if at < 2 + SECONDS]
    assert dialled[1] > dialled[0], "it was looked at"


def test_a_server_that_accepts_and_closes_at_once_is_dialled_less_and_less(matrix: Matrix, case: Case) -> None:
    async def fault(world: World) -> None:
        await asyncio.sleep(2)
        world.servers[0].closes_at_once = True
        world.servers[0].reset()
        dialled = world.servers[0].dialled
        await asyncio.sleep(SECONDS)
        world.servers[0].closes_at_once = False
        tries.append(world.servers[0].dialled - dialled)

    tries: list[int] = []
    matrix.judge("accepts and closes at once", case, fault, healthy_s=2 + SECONDS)
    assert tries[0] <= 4 * SECONDS, "eleven a second before"


def test_a_request_that_is_never_answered_does_not_hold_up_the_others(matrix: Matrix, case: Case) -> None:
    swallowed: list[int] = []

    def one(message: Result) -> Sequence[bytes]:
        if message.id % 50 == 20:
            swallowed.append(message.id)
            return []
        return [encode(message)]

    world = matrix.judge("never answers one request in fifty", case, tampering(instead(one), 0.0, 10.0))
    assert len(swallowed) >= 3
    used = [at for at, r in world.finals if r.where == "server"]
    assert max(b - a for a, b in itertools.pairwise(used)) < 1.0, "it is used all the time"


def test_a_server_that_answers_pings_alone_is_left_and_tried_again(matrix: Matrix, case: Case) -> None:
    fault = tampering(instead(lambda message: []), 1.0, 6.0)
    world = matrix.judge(
        "answers pings and no requests", replace(case, frames=450 if WHOLE else 255), fault, healthy_s=6.0
    )
    assert any("has not answered" in e.why for e in world.events if isinstance(e, ServerLost))


def test_garbage_ends_the_connection(matrix: Matrix, case: Case) -> None:
    async def garbage(data: bytes) -> Sequence[bytes]:
        return [b"\xff" + data]

    matrix.judge("answers garbage", case, tampering(garbage), healthy_s=2 + SECONDS)


def test_wrong_ids_are_nobody_s(matrix: Matrix, case: Case) -> None:
    fault = tampering(instead(lambda message: [encode(replace(message, id=message.id + 1000))]))
    matrix.judge("answers with wrong ids", case, fault)


def test_a_class_that_the_bundle_lacks_ends_the_connection(matrix: Matrix, case: Case) -> None:
    fault = tampering(instead(lambda message: [encode(replace(message, top=((9999, 0.9),)))]))
    matrix.judge("names a class that there is not", case, fault, healthy_s=2 + SECONDS)


def test_duplicates_are_dropped(matrix: Matrix, case: Case) -> None:
    matrix.judge("answers each twice", case, tampering(instead(lambda message: [encode(message)] * 2), 0.0, 10.0))


def test_everything_is_refused(matrix: Matrix, case: Case) -> None:
    fault = tampering(instead(lambda message: [encode(Reject(message.id, "overloaded", "not today"))]))
    matrix.judge("refuses everything", case, fault, healthy_s=2 + SECONDS)


def test_references_are_forgotten(matrix: Matrix, case: Case) -> None:
    fault = tampering(instead(lambda message: [encode(Reject(message.id, "no_reference", "what?"))]))
    matrix.judge("forgets references", case, fault, healthy_s=2 + SECONDS)


def test_answers_come_ten_times_as_late(matrix: Matrix, case: Case) -> None:
    async def late(data: bytes) -> Sequence[bytes]:
        await asyncio.sleep(0.5)
        return [data]

    matrix.judge("answers ten times as late", case, tampering(late), healthy_s=2 + SECONDS)


@pytest.mark.parametrize("split", ["input", "block3", "block7", "block13", "block18"])
def test_a_server_that_is_three_times_overloaded(matrix: Matrix, split: str) -> None:
    """Segments take 4 ms there: a frame 100 ms, of which 30 come in a second."""
    case = Case(matrix.plan(split), server_slowdown=4.0)
    matrix.judge(f"overloaded three times, split {split}", case)


@pytest.mark.parametrize("slowdown", [2.0, 5.0])
def test_every_frame_as_fast_as_possible_with_a_fixed_plan(matrix: Matrix, slowdown: float) -> None:
    case = Case(matrix.plan("block3"), fps=None, device_slowdown=slowdown, server_slowdown=8.0, frames=200)
    world = matrix.play(case)
    assert (world.missed, world.duplicates) == (0, 0)
    assert world.no_answer <= MOST_NO_ANSWER * world.taken
