"""Both directions of a link: the task that reads, and the one that writes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def run_duplex(reading: Coroutine[Any, Any, None], writing: Coroutine[Any, Any, None]) -> None:
    """Run both until one of them ends; neither goes on afterwards. Raises what the first one raises that failed."""
    tasks = [asyncio.create_task(reading, name="reading"), asyncio.create_task(writing, name="writing")]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    errors = [task.exception() for task in tasks if not task.cancelled()]
    for error in errors:
        if error is not None:
            raise error
