"""Faults of the network, in virtual time: no frame goes without its answer, and the server is used again soon after."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from spinn_traces.shape.settings import Settings

from .matrix import MOST_RECOVERY_S, REPORT, Matrix
from .world import FPS, Case, World

SPLITS = ("input", "block3", "block13")
"""A frame, an activation before the first exit, and one behind it."""

AFTER_S = 1.5
"""Played after the time in which the server has to answer again, if no report asks for 15 s of every fault."""

WHOLE = REPORT in os.environ


@pytest.fixture(params=SPLITS)
def case(request: pytest.FixtureRequest, matrix: Matrix) -> Case:
    return Case(matrix.plan(request.param), frames=450)


def from_to(start_s: float, end_s: float, **changes: float | bool) -> Callable[[World], Awaitable[None]]:
    """A link that is like this for a while, and then as before."""

    async def fault(world: World) -> None:
        (server,) = world.servers
        before = {name: getattr(server.link, name) for name in changes}
        await asyncio.sleep(start_s)
        server.impose(**changes)
        await asyncio.sleep(end_s - start_s)
        server.impose(**before)

    return fault


def judge(
    matrix: Matrix, case: Case, what: str, fault: Callable[[World], Awaitable[None]], *, healthy_s: float
) -> None:
    """As `Matrix.judge`, which is told of the split, too."""
    enough = case if WHOLE else replace(case, frames=round(FPS * (healthy_s + MOST_RECOVERY_S + AFTER_S)))
    matrix.judge(name_of(case, what), enough, fault, healthy_s=healthy_s)


def name_of(case: Case, what: str) -> str:
    return f"{what}, split {case.plan.split if hasattr(case.plan, 'split') else 'decided'}"


def test_nothing_passes_for_a_second(matrix: Matrix, case: Case) -> None:
    judge(matrix, case, "down for a second", from_to(2, 3, stall=True), healthy_s=3.0)


def test_packets_vanish_without_a_reset(matrix: Matrix, case: Case) -> None:
    judge(matrix, case, "half-open for 6 s", from_to(2, 8, stall=True), healthy_s=8.0)


def test_only_answers_are_lost(matrix: Matrix, case: Case) -> None:
    async def fault(world: World) -> None:
        await asyncio.sleep(2)
        world.servers[0].impose(answers_stall=True)
        await asyncio.sleep(4)
        world.servers[0].impose()

    judge(matrix, case, "only answers lost for 4 s", fault, healthy_s=6.0)


def test_a_reset_in_mid_message(matrix: Matrix, case: Case) -> None:
    async def fault(world: World) -> None:
        for _ in range(5):
            await asyncio.sleep(1.7)
            world.servers[0].reset()

    judge(matrix, case, "reset every 1.7 s", fault, healthy_s=8.5)


def test_up_and_down_every_second(matrix: Matrix, case: Case) -> None:
    async def fault(world: World) -> None:
        for down in [True, False] * 5:
            await asyncio.sleep(1)
            world.servers[0].impose(stall=down)

    judge(matrix, case, "up and down every second", fault, healthy_s=10.0)


def test_a_link_that_becomes_a_hundred_times_slower(matrix: Matrix, case: Case) -> None:
    fault = from_to(2, 8, up_mbps=0.1, down_mbps=0.1)
    judge(matrix, case, "10 Mb/s, 100 kb/s and back", fault, healthy_s=8.0)


@pytest.mark.parametrize("rtt_ms", [20.0, 100.0, 300.0, 1000.0])
def test_a_far_server(matrix: Matrix, case: Case, rtt_ms: float) -> None:
    link = Settings(up_mbps=20.0, down_mbps=20.0, rtt_ms=rtt_ms, jitter_ms=rtt_ms / 2)
    far = Case(case.plan, frames=300 if WHOLE else 150, links=(link,))
    matrix.judge(name_of(case, f"round trips of {rtt_ms:g} ms and half of that in jitter"), far)


def test_an_outage_of_78_seconds(matrix: Matrix, case: Case) -> None:
    fps = FPS if WHOLE else 10.0
    long = Case(case.plan, frames=round(fps * 86), fps=fps)
    matrix.judge(name_of(case, "an outage of 78 s"), long, from_to(2, 80, stall=True), healthy_s=80.0)


def test_a_queue_of_5_seconds(matrix: Matrix, case: Case) -> None:
    """Somebody else's traffic, which is gone after a while."""
    fault = from_to(2, 6, rtt_ms=5000.0)
    judge(matrix, case, "a queue of 5 s", fault, healthy_s=6.0)
