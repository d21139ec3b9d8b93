"""Faults while answers are repeated and audited: the contract stays as it is. In virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from .matrix import Matrix
from .world import Case, Fault, World, nothing

AWAY_S = 3.0


@pytest.fixture
def case(matrix: Matrix) -> Case:
    """Four photographs in turn, so nearly every frame has been seen before; half of the repeats are sent as audits."""
    return Case(matrix.plan("block3"), repeat=True, frames=225)


async def killed(world: World) -> None:
    await asyncio.sleep(2)
    await world.servers[0].kill()
    await asyncio.sleep(AWAY_S)
    world.servers[0].restart()


async def silent(world: World) -> None:
    await asyncio.sleep(2)
    world.servers[0].impose(answers_stall=True)
    await asyncio.sleep(AWAY_S)
    world.servers[0].impose()


async def reset_again_and_again(world: World) -> None:
    for _ in itertools.repeat(None, 20):
        await asyncio.sleep(0.3)
        world.servers[0].reset()


async def far(world: World) -> None:
    await asyncio.sleep(2)
    world.servers[0].impose(up_mbps=0.3, rtt_ms=400.0)


FAULTS: dict[str, Fault] = {
    "none": nothing, "kill -9 and a restart": killed, "answers stall": silent, "resets": reset_again_and_again,
    "a slow and distant server": far,
}  # fmt: skip


def rows() -> Iterator[Any]:
    """Each fault with each rate of audits. With half of them audited, one run has what the other two have."""
    for fault, audit_rate in itertools.product(FAULTS, (0.5, 0.0, 1.0)):
        quick = audit_rate == 0.5 or fault == "none"
        yield pytest.param(fault, audit_rate, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("fault", "audit_rate"), list(rows()))
def test_one_final_a_frame_in_time_and_right(matrix: Matrix, case: Case, fault: str, audit_rate: float) -> None:
    world = matrix.judge(f"repeats: {fault}", replace(case, audit_rate=audit_rate), FAULTS[fault])
    repeated = [r for _, r in world.finals if r.repeats is not None]
    assert len(repeated) > world.taken / 2
    assert all(r.repeats is not None and r.repeats % 4 == r.frame % 4 for r in repeated), "of the same photograph"


def test_audits_go_the_way_of_the_plan(matrix: Matrix, case: Case) -> None:
    never, always = (matrix.play(replace(case, audit_rate=rate)) for rate in (0.0, 1.0))
    assert always.servers[0].compute_ms() > 10 * never.servers[0].compute_ms()


def test_a_slow_device_takes_every_frame_if_most_are_repeated(matrix: Matrix, case: Case) -> None:
    """Alone it takes 4 x 30 ms for a picture and drops most; repeats take 2 ms."""
    alone = replace(case, plan=matrix.plan("final"), links=(), audit_rate=0.0)
    without = matrix.play(replace(alone, repeat=False))
    assert without.taken < 0.5 * without.captured
    assert matrix.play(alone).taken > 0.9 * without.captured
