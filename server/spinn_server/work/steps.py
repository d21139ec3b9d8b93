"""What is done in threads: payloads are decoded, pieces of the network run, graphs built."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from spinn_server.admin.metrics import Metrics
from spinn_stream.bundle import Bundle
from spinn_stream.codec import PayloadReceiver
from spinn_stream.codec.basis import basis_of
from spinn_stream.errors import EngineError
from spinn_stream.runtime import Answer, Engine, ExitOutput, answers, grouped
from spinn_stream.runtime.machine.host import Host, Step

from .graphs import Piece, TailPaths
from .request import Request

log = logging.getLogger(__name__)

T = TypeVar("T")
Floats = npt.NDArray[np.float32]


class Steps:
    """Owns the thread that runs the network and the one that builds graphs beside it.

    Args:
        batches: whether more than one request is ever run together.
    """

    def __init__(self, bundle: Bundle, engine: Engine, metrics: Metrics, host: Host, *, batches: bool) -> None:
        self._bundle = bundle
        self._engine = engine
        self._metrics = metrics
        self._host = host
        self._paths = TailPaths(bundle, engine, batches=batches)
        self._thread = host.worker("tail")
        self._builder = host.builder("build")
        self._building: asyncio.Task[None] | None = None

    def prepare(self, progress: Callable[[int, int], None]) -> None:
        """Build and run once every graph that any split needs. Blocks."""
        for split in range(1, self._bundle.last):
            if self._bundle.has_basis(split):
                basis_of(self._bundle, split)
        for piece in self._paths.prepare(progress):
            self._run_empty(piece)

    def way(self, split: int, exits: Collection[int]) -> list[Piece]:
        """The pieces from a split to the end, with an end after each of these exits at least."""
        return self._paths.pieces(split, exits)

    async def decode(
        self, split: int, requests: Sequence[Request], receivers: Sequence[PayloadReceiver]
    ) -> list[Floats | Exception]:
        """For each request its activation, (1, C, H, W) float32, or what is wrong with its payload."""

        def decode_all() -> list[Floats | Exception]:
            began = self._host.clock()
            found: list[Floats | Exception] = []
            for request, receiver in zip(requests, receivers, strict=True):
                try:
                    found.append(receiver.decode(request.id, split, request.codec, request.payload))
                except Exception as error:  # whatever it is, it is this request's alone
                    found.append(error)
            codec = requests[0].codec if requests else ""
            self._host.pace(Step("decode", split, batch=len(requests), codec=codec), began)
            return found

        return await _in(self._thread, decode_all)

    async def run(self, piece: Piece, x: Floats, requests: Sequence[Request]) -> tuple[Floats, list[Answer]]:
        """A batch through one piece: activations at its end, and the answers of the exit there, one for each request.

        Raises whatever the engine raises.
        """

        def run_piece() -> tuple[Floats, list[Answer]]:
            start, stop = piece
            began = self._host.clock()
            y, output = self._engine.run(start, stop, x)
            self._host.pace(Step("graph", start, stop, exit=True, batch=len(x)), began)
            assert output is not None  # every piece ends at an exit
            reached = self._bundle.exit_at[stop]
            found = answers(reached.name, output, reached.temperature)
            for n, request in enumerate(requests):
                if request.group_of is not None:
                    own = ExitOutput(output.logits[n : n + 1])
                    found[n] = grouped(reached.name, own, reached.temperature, request.group_of)[0]
            return y, found

        return await _in(self._thread, run_piece)

    async def check(self, split: int) -> None:
        """Run the tail of a split once with nothing in it. Raises whatever the engine raises."""
        for piece in self._bundle.pieces(split, self._bundle.last):
            await _in(self._thread, partial(self._run_empty, piece))

    def build_what_is_wanted(self) -> None:
        """Begin to build the fused graph that is wanted most, unless one is being built."""
        piece = self._paths.to_build()
        if piece is not None and (self._building is None or self._building.done()):
            self._building = asyncio.create_task(self._build(piece), name="build")

    async def close(self) -> None:
        """Begin nothing more. A thread that is inside the engine is not waited for."""
        if self._building is not None:
            self._building.cancel()
            await asyncio.wait([self._building])
        for thread in (self._thread, self._builder):
            thread.shutdown(wait=False, cancel_futures=True)

    async def _build(self, piece: Piece) -> None:
        """One fused graph, built beside the work; its first run, which is slow, is not a client's."""
        try:
            await _in(self._builder, partial(self._paths.build, piece))
            await _in(self._thread, partial(self._run_empty, piece))
        except Exception as error:  # the basic graphs do as well
            known = isinstance(error, EngineError)
            log.warning("no fused graph from cut point %d to %d: %s", *piece, error, exc_info=not known)
            self._paths.refused(piece)
        else:
            self._metrics.fused.set(self._paths.built(piece))

    def _run_empty(self, piece: Piece) -> None:
        start, stop = piece
        self._engine.run(start, stop, np.zeros((1, *self._bundle.cut_points[start].shape), np.float32))


async def _in(thread: Executor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(thread, work)
