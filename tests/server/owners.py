"""Who asks a tail engine, in tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from spinn_server.work.request import Request
from spinn_stream.runtime import Answer
from spinn_stream.wire import RejectReason


class Told:
    """An owner of requests that keeps what it is told of them: of each, in the order of telling."""

    def __init__(self) -> None:
        self.answers: dict[Request, tuple[int, Answer]] = {}  # exit index, answer
        self.refusals: dict[Request, tuple[RejectReason, str]] = {}
        self._changed = asyncio.Event()

    def answered(self, request: Request, exit_index: int, found: Answer, *, shortened: bool) -> None:
        assert request not in self.answers and request not in self.refusals, "told twice"
        self.answers[request] = (exit_index, found)
        self._changed.set()

    def refused(self, request: Request, reason: RejectReason, detail: str) -> None:
        assert request not in self.answers and request not in self.refusals, "told twice"
        self.refusals[request] = (reason, detail)
        self._changed.set()

    @property
    def exits(self) -> dict[int, str]:
        """The exits that answered, by the requests' ids."""
        return {request.id: answer.exit for request, (_, answer) in self.answers.items()}

    @property
    def reasons(self) -> dict[int, str]:
        """Of the refusals, by the requests' ids."""
        return {request.id: reason for request, (reason, _) in self.refusals.items()}

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until it holds, which only what is told can change."""
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def settled(self, count: int) -> None:
        """Until it has been told of this many requests."""
        await self.until(lambda: len(self.answers) + len(self.refusals) >= count)
