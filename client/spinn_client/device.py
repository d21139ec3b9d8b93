"""The device's own part of the network: one thread that runs stages, tries exits and codes what is sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinn_stream.codec import encode_payload
from spinn_stream.errors import CodecError
from spinn_stream.frame import Pixels, crop, normalise
from spinn_stream.model.bundle import Bundle
from spinn_stream.plan import Plan
from spinn_stream.runtime import Answer, Engine, answers

OnExit = Callable[[Answer], None]
"""Called on the event loop with every local answer that was not confident enough."""

WARM_UP_RUNS = 3


@dataclass(frozen=True)
class HeadOutcome:
    """What the head made of a frame.

    answer: of an exit that was confident, or of the final exit; None: the tail is to be run.
    activation: at the plan's split, (1, C, H, W). payload: it, coded; None where there is an answer.
    """

    answer: Answer | None
    activation: npt.NDArray[np.float32]
    payload: bytes | None


class StageClock:
    """How long each stage takes on this device: a slowly forgotten maximum, since it guards deadlines."""

    def __init__(self) -> None:
        self._ms: dict[tuple[int, int], float] = {}

    def observe(self, start: int, stop: int, ms: float) -> None:
        self._ms[start, stop] = max(ms, 0.9 * self._ms.get((start, stop), 0.0))

    def expected_ms(self, pieces: list[tuple[int, int]]) -> float:
        return sum(self._ms.get(piece, 0.0) for piece in pieces)


class Device:
    """Runs heads and, when the server cannot, tails. One thing at a time, in the order asked.

    Args:
        every_exit: evaluate exits that cannot answer under the plan, too, since their answers are wanted.
    """

    def __init__(self, bundle: Bundle, engine: Engine, *, every_exit: bool = False) -> None:
        self._bundle = bundle
        self._engine = engine
        self._every_exit = every_exit
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="head")
        self.clock = StageClock()

    def prepare(self, plan: Plan) -> None:
        """Build and time every part that the plan, or the device alone, will need. Blocks."""
        picture = np.zeros((self._bundle.input.size, self._bundle.input.size, 3), np.uint8)
        last = self._bundle.last
        for _ in range(WARM_UP_RUNS + 1):  # the first run builds; it is forgotten below
            self.clock = StageClock()
            x = normalise(crop(picture, self._bundle.input.size), self._bundle.input)
            for start, stop in self._bundle.pieces(0, plan.split) + self._bundle.pieces(plan.split, last):
                self._timed(start, stop, x, exit=False)
                x, _ = self._timed(start, stop, x)

    def first_exit_ms(self, start: int) -> float:
        """How long the way from a cut point to the first exit behind it takes, by what was seen."""
        return self.clock.expected_ms(self._bundle.pieces(start, self._bundle.last)[:1])

    def head_ms(self, plan: Plan) -> float:
        """How long the plan's head takes without what comes before and after the network, by what was seen."""
        return self.clock.expected_ms(self._bundle.pieces(0, plan.split))

    async def head(self, frame: Pixels, plan: Plan, on_exit: OnExit) -> HeadOutcome:
        """Run a frame up to the plan's split, or to the first exit that is confident."""
        loop = asyncio.get_running_loop()

        def work() -> HeadOutcome:
            picture = crop(frame, self._bundle.input.size)
            x = normalise(picture, self._bundle.input)
            x, answer = self._stages(
                x,
                0,
                plan.split,
                plan,
                lambda a: loop.call_soon_threadsafe(on_exit, a),
                every_exit=self._every_exit or plan.confidence_threshold is None,
            )
            if answer is not None or plan.split == self._bundle.last:
                return HeadOutcome(answer, x, None)
            try:
                return HeadOutcome(None, x, encode_payload(plan.split, x, picture))
            except CodecError:  # values that cannot be sent: the device finishes alone
                return HeadOutcome(None, x, None)

        return await loop.run_in_executor(self._thread, work)

    async def complete(
        self,
        activation: npt.NDArray[np.float32],
        start: int,
        plan: Plan,
        stop_at: float,
        on_exit: OnExit,
        *,
        first_by: float | None = None,
        only_first_exit: bool = False,
    ) -> Answer | None:
        """Go on from a cut point without the server.

        Args:
            stop_at: time.monotonic() by which to be done; a stage that would end later is not begun.
            first_by: the same for the first stage, where any answer is better than none; None: `stop_at`.
            only_first_exit: go no further than the next exit, confident or not.

        Returns:
            The answer of a confident exit or of the final one; None where time ran out before.
        """
        loop = asyncio.get_running_loop()
        stop = self._bundle.pieces(start, self._bundle.last)[0][1] if only_first_exit else self._bundle.last

        def work() -> Answer | None:
            _, answer = self._stages(
                activation,
                start,
                stop,
                plan,
                lambda a: loop.call_soon_threadsafe(on_exit, a),
                every_exit=True,  # any may be the best answer there is when time runs out
                stop_at=stop_at,
                first_by=first_by,
            )
            return answer

        return await loop.run_in_executor(self._thread, work)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _stages(
        self,
        x: npt.NDArray[np.float32],
        start: int,
        stop: int,
        plan: Plan,
        on_exit: Callable[[Answer], object],
        *,
        every_exit: bool,
        stop_at: float | None = None,
        first_by: float | None = None,
    ) -> tuple[npt.NDArray[np.float32], Answer | None]:
        """Run stage after stage until an exit answers, the end is reached or time is up; see `complete`."""
        needed = self._bundle.needed(plan.confidence_threshold)
        for begin, end in self._bundle.pieces(start, stop):
            limit = first_by if begin == start and first_by is not None else stop_at
            if limit is not None and time.monotonic() + self.clock.expected_ms([(begin, end)]) / 1000 > limit:
                return x, None
            x, logits = self._timed(begin, end, x, exit=every_exit or end in needed)
            if logits is None:
                continue
            reached = self._bundle.exit_at[end]
            answer = answers(reached.name, logits, reached.temperature)[0]
            if end == self._bundle.last or (end in needed and answer.confidence >= needed[end]):
                return x, answer
            on_exit(answer)
        return x, None

    def _timed(
        self, start: int, stop: int, x: npt.NDArray[np.float32], *, exit: bool = True
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        began = time.monotonic()
        result = self._engine.run(start, stop, x, exit=exit)
        self.clock.observe(start, stop, (time.monotonic() - began) * 1000)
        return result
