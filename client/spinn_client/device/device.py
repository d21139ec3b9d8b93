"""The device's own part of the network: one thread that runs stages, tries exits and codes what is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting, PayloadSender, encode_payload
from spinn_stream.errors import CodecError
from spinn_stream.frame import Pixels, crop, normalise
from spinn_stream.plan import Plan
from spinn_stream.profile import Profile
from spinn_stream.runtime import Answer, Engine, ExitOutput, answers, grouped
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host, Step
from spinn_stream.runtime.measure.timing import summary

from .clock import Graph, StageClock
from .encoding_times import EncodingTimes
from .paths import HeadPaths

T = TypeVar("T")

OnExit = Callable[[Answer], None]
"""Called on the event loop with every local answer that was not confident enough."""

WARM_UP_RUNS = 3

PREPARED_FRAMES = 40
"""After this number of frames, the profile has the time to prepare the source's own frames, whatever their size."""

NO_PICTURE = np.empty((0, 0, 3), np.uint8)
NO_ACTIVATION = np.empty(0, np.float32)


@dataclass(frozen=True)
class HeadOutcome:
    """The result of a frame's head.

    answer: of a confident exit, or of the final exit; None: the tail must be run.
    activation: at the plan's split, (1, C, H, W). payload: the coded activation; None if there is an answer. probe: the
    coded frame, if that was asked for and there is an answer. repeated: the network was not run.
    """

    answer: Answer | None
    activation: npt.NDArray[np.float32]
    payload: bytes | None
    probe: bytes | None = None
    repeated: bool = False


class Device:
    """Runs heads and, when the server cannot, tails. One thing at a time, in the order asked.

    A head runs in as few graphs as its plan's exits allow, see `HeadPaths`. A tail on the device stops at every exit,
    since any exit may be the best answer when time runs out.

    Args:
        profile: of the engine on this host, and of preparing frames of another size.
        every_exit: evaluate all exits, those that cannot answer under the plan, too, since their answers are wanted.
        group_of: for each class the index of its group, if answers are to be about groups.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        profile: Profile,
        *,
        every_exit: bool = False,
        group_of: Sequence[int] | None = None,
        host: Host = THIS_MACHINE,
    ) -> None:
        self._bundle = bundle
        self._engine = engine
        self.profile = profile
        self._group_of = None if group_of is None else np.asarray(group_of, np.intp)
        self._host = host
        self._now = host.clock
        self._thread = host.worker("head")
        self._builder = host.builder("build")
        self._paths = HeadPaths(bundle, engine, every_exit=every_exit)
        self._prepared_ms: list[float] = []  # of the first frames
        self.encoding = EncodingTimes(bundle)
        self._jobs = 0  # given to the thread and not done
        self.clock = StageClock(profile)
        self.head_foreseen_s = 0.0  # what a prediction has of the last head: all of it, where graphs tell the load

    def prepare(self, plan: Plan) -> None:
        """Build and time every graph that the plan, or the device alone, will need. Blocks."""
        self._paths.build(plan)
        self._paths.built(plan)
        if 0 < plan.split < self._bundle.last and plan.codec is not None:  # the codec's tables, too
            x = np.zeros((1, *self._bundle.cut_points[plan.split].shape), np.float32)
            encode_payload(self._bundle, plan.split, plan.codec, x, NO_PICTURE)
        graphs = list(self._paths.graphs(plan))
        took: dict[Graph, list[float]] = {graph: [] for graph in graphs}
        for _ in range(WARM_UP_RUNS):
            for graph in graphs:
                (start, stop), exit = graph
                x = np.zeros((1, *self._bundle.cut_points[start].shape), np.float32)
                took[graph].append(self._run(start, stop, x, exit=exit)[1])
        self.clock = StageClock(self.profile)
        for ((start, stop), _), times in took.items():
            self.clock.observe(start, stop, min(times))  # the first run is slow, and one may have been disturbed

    async def build(self, plan: Plan) -> None:
        """Build a plan's graphs while frames run under another plan, or under this one if it `runs`.

        Raises:
            EngineError: no engine can build it.
        """
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._builder, self._paths.build, plan)
        for (start, stop), exit in self._paths.graphs(plan):
            # The first run of a graph is slow; one by one, between frames.
            x = np.zeros((1, *self._bundle.cut_points[start].shape), np.float32)
            await loop.run_in_executor(self._thread, partial(self._engine.run, start, stop, x, exit=exit))
        self._paths.built(plan)

    @property
    def encoding_factors(self) -> Mapping[str, float]:
        """By codec: encoding time here over that by its constants. It is another object whenever a codec joins."""
        return self.encoding.factors

    def load_of_prediction(self, now: float) -> float:
        """See `StageClock`."""
        return self.clock.load_of_prediction(now)

    def load_factor(self, now: float) -> float:
        """See `StageClock`."""
        return self.clock.load_factor(now)

    def runs(self, plan: Plan) -> bool:
        """Whether the plan can be used at once; until `build` is done, its head stops at every exit."""
        return self._paths.runs(plan)

    def first_exit_ms(self, start: int) -> float:
        """Time from a cut point to the first exit behind it, as observed."""
        return self.clock.expected_ms(self._bundle.pieces(start, self._bundle.last)[:1], self._now())

    def head_ms(self, plan: Plan) -> float:
        """Time of the plan's head, as observed, without the work before and after the network."""
        pieces = self._bundle.pieces(0, plan.split, self._paths.evaluated(plan))
        return self.clock.expected_ms(pieces, self._now())

    async def head(
        self,
        request: int,
        frame: Pixels,
        plan: Plan,
        on_exit: OnExit,
        *,
        sender: PayloadSender | None = None,
        answer_by: float | None = None,
        probe: CodecSetting | None = None,
        repeats: Callable[[Pixels], bool] | None = None,
        audit: Callable[[Answer], bool] | None = None,
    ) -> HeadOutcome:
        """Run a frame up to the plan's split, or to the first confident exit.

        Args:
            request: what the payload is sent as; ids rise.
            sender: codes the payload, for its own connection; None: nothing is to be sent.
            answer_by: the host's time by which some exit should answer. If the plan's first exit would be later, every
                exit is evaluated.
            probe: how to code the frame itself, too, if nothing else of it is sent.
            repeats: asked in the thread, with the prepared picture, whether the frame needs no answer of the network.
            audit: asked in the thread, when an early exit is confident, whether the frame goes on all the same.
        """
        loop = asyncio.get_running_loop()
        setting = plan.codec

        def work(ran: list[Graph]) -> HeadOutcome:
            began = self._now()
            picture = crop(frame, self._bundle.input.size)
            if repeats is not None and repeats(picture):
                self._host.pace(Step("preprocess", 0), began)
                coded = None if probe is None else self._probe(probe, picture)
                return HeadOutcome(None, NO_ACTIVATION, None, coded, repeated=True)
            x = normalise(picture, self._bundle.input)
            self._host.pace(Step("preprocess", 0), began)
            self._learn_preparation((self._now() - began) * 1000)
            evaluated = self._paths.evaluated(plan)
            first = self._bundle.pieces(0, plan.split, evaluated)[:1]
            now = self._now()
            if answer_by is not None and now + self.clock.expected_ms(first, now) / 1000 > answer_by:
                evaluated = self._bundle.exit_at.keys()
            began = self._now()
            x, answer = self._stages(
                x, 0, plan.split, plan, lambda a: loop.call_soon_threadsafe(on_exit, a), evaluated, ran, audit=audit
            )
            graphs_ms = (self._now() - began) * 1000
            if answer is not None or plan.split == self._bundle.last:
                return HeadOutcome(answer, x, None, None if probe is None else self._probe(probe, picture))
            began = self._now()
            x = x.copy()  # it may be the engine's memory, which the next frame overwrites
            if sender is None or setting is None:
                return HeadOutcome(None, x, None)
            try:
                payload = sender.encode(request, plan.split, setting, x, picture)
            except CodecError:  # values that cannot be sent: the device finishes alone
                payload = None
            self._host.pace(Step("encode", plan.split, codec=setting.codec), began)
            if payload is not None:
                expected = self.profile.expected_ms([p for p, _ in ran], {p[1] for p, exit in ran if exit})
                load = graphs_ms / expected if expected > 0 else self.clock.usual_load  # that of this very moment
                self.encoding.learn(setting, plan.split, (self._now() - began) * 1000, load=load)
            return HeadOutcome(None, x, payload)

        def besides_ms(outcome: HeadOutcome) -> float | None:
            sent = None if outcome.payload is None else setting
            encode_ms = 0.0 if sent is None else self.encoding.expected_ms(sent, plan.split)
            return None if encode_ms is None else self.profile.preprocess.median_ms + encode_ms

        began = self._now()
        outcome: HeadOutcome | None = None
        try:
            outcome = await self._job("head", work, besides_ms)
            return outcome
        finally:
            now = self._now()
            self.head_foreseen_s = now - began
            if plan.split == 0 and outcome is not None and (foreseen := besides_ms(outcome)) is not None:
                self.head_foreseen_s = self.clock.load_of_prediction(now) * foreseen / 1000

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
        go_on: Callable[[bool, float], bool] = lambda first, until: True,
    ) -> Answer | None:
        """Go on from a cut point without the server.

        Args:
            stop_at: the host's time by which to be done; a stage that would end later is not begun.
            first_by: the same for the first stage, since any answer is better than none; None: `stop_at`.
            only_first_exit: go no further than the next exit, confident or not.
            go_on: asked in the thread before each stage, whether it is still wanted. first: nothing has run yet.
                until: when the stage will end.

        Returns:
            The answer of a confident exit or of the final one; None: time ran out before.
        """
        loop = asyncio.get_running_loop()
        stop = self._bundle.pieces(start, self._bundle.last)[0][1] if only_first_exit else self._bundle.last

        def work(ran: list[Graph]) -> Answer | None:
            _, answer = self._stages(
                activation,
                start,
                stop,
                plan,
                lambda a: loop.call_soon_threadsafe(on_exit, a),
                self._bundle.exit_at.keys(),
                ran,
                stop_at=stop_at,
                first_by=first_by,
                go_on=go_on,
            )
            return answer

        return await self._job("complete", work)

    async def _job(
        self, kind: str, work: Callable[[list[Graph]], T], besides_ms: Callable[[T], float | None] | None = None
    ) -> T:
        """Run it in the thread, and tell the clock how long it took, without waiting for other jobs.

        besides_ms: predicted time of all but the graphs; None: such jobs are not predicted, or not yet.
        """
        ran: list[Graph] = []
        began = [self._now()]
        alone, self._jobs = self._jobs == 0, self._jobs + 1

        def timed() -> T:
            if not alone:
                began[0] = self._now()
            return work(ran)

        try:
            result = await asyncio.get_running_loop().run_in_executor(self._thread, timed)
        finally:
            self._jobs -= 1
        now = self._now()
        if ran:  # what coding alone takes says nothing of how loaded the network's graphs find the processor
            besides = None if besides_ms is None else besides_ms(result)
            self.clock.observe_job(kind, ran, (now - began[0]) * 1000, now, besides_ms=besides)
        return result

    def close(self) -> None:
        """Begin nothing more. A running job goes on to its end, but nobody waits for it."""
        for thread in (self._thread, self._builder):
            thread.shutdown(wait=False, cancel_futures=True)

    def _stages(
        self,
        x: npt.NDArray[np.float32],
        start: int,
        stop: int,
        plan: Plan,
        on_exit: Callable[[Answer], object],
        evaluated: Collection[int],
        ran: list[Graph],
        *,
        stop_at: float | None = None,
        first_by: float | None = None,
        go_on: Callable[[bool, float], bool] = lambda first, until: True,
        audit: Callable[[Answer], bool] | None = None,
    ) -> tuple[npt.NDArray[np.float32], Answer | None]:
        """Run stage after stage until an exit answers, the end is reached or time is up; see `complete`.

        Args:
            evaluated: cut points of the exits to break at. ran: gets the graphs that were run. audit: see `head`.
        """
        needed = self._bundle.needed(plan.confidence_threshold)
        for begin, end in self._bundle.pieces(start, stop, evaluated):
            limit = first_by if begin == start and first_by is not None else stop_at
            now = self._now()
            until = now + self.clock.expected_ms([(begin, end)], now) / 1000
            if (limit is not None and until > limit) or not go_on(begin == start, until):
                return x, None
            with_exit = end in evaluated or end == self._bundle.last
            x, output = self._timed(begin, end, x, exit=with_exit)
            ran.append(((begin, end), with_exit))
            if output is None:
                continue
            reached = self._bundle.exit_at[end]
            if self._group_of is None:
                answer = answers(reached.name, output, reached.temperature)[0]
            else:
                answer = grouped(reached.name, output, reached.temperature, self._group_of)[0]
            if end == self._bundle.last:
                return x, answer
            if end in needed and answer.confidence >= needed[end]:
                if audit is None or not audit(answer):
                    return x, answer
                needed, audit = {}, None
                continue
            on_exit(answer)
        return x, None

    def _learn_preparation(self, ms: float) -> None:
        if len(self._prepared_ms) < PREPARED_FRAMES:
            self._prepared_ms.append(ms)
            if len(self._prepared_ms) == PREPARED_FRAMES:
                self.profile = replace(self.profile, preprocess=summary(self._prepared_ms))

    def _probe(self, setting: CodecSetting, picture: Pixels) -> bytes | None:
        began = self._now()
        try:
            payload = encode_payload(self._bundle, 0, setting, NO_ACTIVATION, picture)
        except CodecError:
            return None
        self._host.pace(Step("encode", 0, codec=setting.codec), began)
        self.encoding.learn(setting, 0, (self._now() - began) * 1000, load=self.clock.usual_load)
        return payload

    def _timed(
        self, start: int, stop: int, x: npt.NDArray[np.float32], *, exit: bool
    ) -> tuple[npt.NDArray[np.float32], ExitOutput | None]:
        result, ms = self._run(start, stop, x, exit=exit)
        self.clock.observe(start, stop, ms)
        return result

    def _run(
        self, start: int, stop: int, x: npt.NDArray[np.float32], *, exit: bool
    ) -> tuple[tuple[npt.NDArray[np.float32], ExitOutput | None], float]:
        """(the result, ms that it took)"""
        began = self._now()
        result = self._engine.run(start, stop, x, exit=exit)
        self._host.pace(Step("graph", start, stop, exit), began)
        return result, (self._now() - began) * 1000
