"""Two servers, in virtual time: the second takes over, and the first gets the frames back when it is well."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from spinn_client import LinkConfig, ServerChanged
from spinn_client.link.supervisor import HEALTHY_S
from spinn_traces.shape.settings import Settings

from .matrix import MOST_RECOVERY_S, Matrix
from .world import DEADLINE_MS, Case, World, url_of

LINK = Settings(up_mbps=20.0, down_mbps=20.0, rtt_ms=30.0)
FIRST, SECOND = url_of(0), url_of(1)


def two(matrix: Matrix, *, warm: bool, frames: int = 300) -> Case:
    servers = (LinkConfig(FIRST), LinkConfig(SECOND, warm=warm))
    return Case(matrix.plan("block3"), frames=frames, links=(LINK, LINK), servers=servers)


async def first_stalls(world: World) -> None:
    await asyncio.sleep(2)
    world.servers[0].impose(stall=True)


@pytest.mark.parametrize(("warm", "most_s"), [(True, DEADLINE_MS / 1000 + 0.3), (False, 3.0)], ids=["warm", "cold"])
def test_a_spare_takes_over(matrix: Matrix, warm: bool, most_s: float) -> None:
    """The first frame without an answer was sent about when the link failed; its deadline is one later."""
    name = f"the first server is silent, with a {'warm' if warm else 'cold'} spare"
    world = matrix.judge(name, two(matrix, warm=warm), first_stalls, healthy_s=2.0 + DEADLINE_MS / 1000,
                         recovers_s=most_s, answered_by=SECOND)  # fmt: skip
    assert (world.servers[1].dialled, world.by_server(2.2, FIRST)) == (1, [])


def test_a_cold_spare_is_not_connected_while_the_first_server_is_well(matrix: Matrix) -> None:
    world = matrix.judge("two servers that are well", two(matrix, warm=False, frames=120))
    assert [server.dialled for server in world.servers] == [1, 0]


def test_frames_go_back_to_the_better_server_when_it_is_well(matrix: Matrix) -> None:
    async def fault(world: World) -> None:
        await first_stalls(world)
        await asyncio.sleep(3)
        world.servers[0].impose(stall=False)

    case = two(matrix, warm=False, frames=480)
    world = matrix.judge("the first server comes back", case, fault, healthy_s=5.0)
    back_s = world.recovery_s(5.0, FIRST)
    assert back_s is not None and HEALTHY_S <= back_s <= HEALTHY_S + MOST_RECOVERY_S, "the second one answers meanwhile"
    assert [(e.before, e.server) for e in world.events if isinstance(e, ServerChanged)] == [
        (FIRST, SECOND), (SECOND, FIRST),
    ]  # fmt: skip


def test_each_of_them_dies_in_turn(matrix: Matrix) -> None:
    async def fault(world: World) -> None:
        for server in (*world.servers, *world.servers):
            await asyncio.sleep(2)
            await server.kill()
            await asyncio.sleep(1)
            server.restart()

    case = two(matrix, warm=True, frames=480)
    world = matrix.judge("each of two servers dies in turn", case, fault, healthy_s=12.0)
    answered = Counter(r.server for _, r in world.finals if r.where == "server")
    assert answered[FIRST] > 30 and answered[SECOND] > 30


def test_no_more_frames_are_sent_than_are_asked_for(matrix: Matrix) -> None:
    case = two(matrix, warm=False)
    limited = replace(case, servers=tuple(replace(config, max_fps=5.0) for config in case.servers))
    world = matrix.judge("five frames a second at most", limited)
    assert 40 <= len(world.by_server()) <= 52, "in ten seconds"
