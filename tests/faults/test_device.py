"""Faults of the device, in virtual time: it becomes slower while frames flow."""

from __future__ import annotations

import asyncio

import pytest

from .matrix import Matrix
from .world import Case, World


@pytest.mark.parametrize("split", ["input", "block3", "final"])
def test_the_processor_is_taken_away_for_a_while(matrix: Matrix, split: str) -> None:
    """Half of it: the first exit takes three quarters of the deadline then."""

    async def fault(world: World) -> None:
        await asyncio.sleep(3)
        world.device.slowdown *= 2
        await asyncio.sleep(4)
        world.device.slowdown /= 2

    case = Case(matrix.plan(split))
    matrix.judge(f"half of the processor is taken away, split {split}", case, fault, of_device=True)
