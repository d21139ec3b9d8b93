"""The work of threads: decoding payloads, running pieces of the network, building graphs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from spinn_server.admin.metrics import Metrics
from spinn_stream.bundle import Bundle
from spinn_stream.codec.basis import basis_of
from spinn_stream.errors import EngineError
from spinn_stream.runtime import Answer, Engine, ExitOutput, answers, grouped
from spinn_stream.runtime.machine.host import Host
from spinn_stream.runtime.machine.host import Step as Timed

from .graphs import Piece, Pieces
from .request import Request

log = logging.getLogger(__name__)

T = TypeVar("T")
Floats = npt.NDArray[np.float32]


class Receiver(Protocol):
    """The receiving end of one client's payloads, such as `spinn_stream.codec.PayloadReceiver`."""

    @property
    def held_bytes(self) -> int: ...

    def decode(self, request: int, split: int, codec: str, payload: bytes) -> Floats: ...


class Ran(NamedTuple):
    """The result of running a piece.

    y: activations at its end, (B, C, H, W), in the engine's own memory. found: the exit's answer for each request;
    None: there is no exit. seconds: time in its thread.
    """

    y: Floats
    found: list[Answer] | None
    seconds: float


class Steps:
    """Owns the thread that decodes, the one that runs the network, and the one that builds graphs beside them.

    Args:
        batches: whether more than one request is ever run together.
    """

    def __init__(self, bundle: Bundle, engine: Engine, metrics: Metrics, host: Host, *, batches: bool) -> None:
        self._bundle = bundle
        self._engine = engine
        self._fused = metrics.fused.labels(bundle.name)
        self._host = host
        self._pieces = Pieces(bundle, engine, batches=batches)
        self._decoder = host.worker("decode")
        self._thread = host.worker("tail")
        self._builder = host.builder("build")
        self._building: asyncio.Task[None] | None = None

    def prepare(self, progress: Callable[[int, int], None]) -> None:
        """Build and run once what any request needs. Blocks."""
        for split in range(1, self._bundle.last):
            if self._bundle.has_basis(split):
                basis_of(self._bundle, split)
        for piece in self._pieces.prepare(progress):
            self._run_empty(piece)

    def piece_end(self, start: int, wanted: int) -> int:
        """See `Pieces.end`."""
        return self._pieces.end(start, wanted)

    async def decode(self, requests: Sequence[Request], receivers: Sequence[Receiver]) -> list[Floats | Exception]:
        """For each request its activation, (1, C, H, W) float32, or the error of its payload."""

        def decode_all() -> list[Floats | Exception]:
            found: list[Floats | Exception] = []
            for request, receiver in zip(requests, receivers, strict=True):
                began = self._host.clock()
                try:
                    found.append(receiver.decode(request.id, request.split, request.codec, request.payload))
                except Exception as error:  # whatever it is, it is this request's alone
                    found.append(error)
                self._host.pace(Timed("decode", request.split, codec=request.codec), began)
            return found

        return await _in(self._decoder, decode_all)

    async def run(self, piece: Piece, requests: Sequence[Request]) -> Ran:
        """Run a piece for requests. Raises whatever the engine raises."""
        together = self._pieces.takes_batches(piece)

        def run_piece() -> Ran:
            began = self._host.clock()
            rows = [request.activation for request in requests if request.activation is not None]
            y, output = self._run_rows(piece, rows) if together or len(rows) == 1 else self._run_each(piece, rows)
            found = None if output is None else self._answers(piece[1], output, requests)
            return Ran(y, found, self._host.clock() - began)

        return await _in(self._thread, run_piece)

    async def check(self, start: int) -> None:
        """Run the rest of the network once on zeros. Raises whatever the engine raises."""
        for cut in range(start, self._bundle.last):
            await _in(self._thread, partial(self._run_empty, (cut, cut + 1)))

    def build_what_is_wanted(self) -> None:
        """Begin to build the most wanted piece, unless one is being built."""
        piece = self._pieces.to_build()
        if piece is not None and (self._building is None or self._building.done()):
            self._building = asyncio.create_task(self._build(piece), name="build")

    async def close(self) -> None:
        """Begin nothing more. A thread that is inside the engine is not waited for."""
        if self._building is not None:
            self._building.cancel()
            await asyncio.wait([self._building])
        for thread in (self._decoder, self._thread, self._builder):
            thread.shutdown(wait=False, cancel_futures=True)

    def _run_rows(self, piece: Piece, rows: Sequence[Floats]) -> tuple[Floats, ExitOutput | None]:
        """Activations of (1, C, H, W) together through a piece; the result is the engine's own memory."""
        began = self._host.clock()
        y, output = self._engine.run(*piece, np.concatenate(rows) if len(rows) > 1 else rows[0])
        self._host.pace(Timed("graph", *piece, exit=output is not None, batch=len(rows)), began)
        return y, output

    def _run_each(self, piece: Piece, rows: Sequence[Floats]) -> tuple[Floats, ExitOutput | None]:
        """One after the other through a piece whose graph takes one at a time."""
        ends, logits = [], []
        for row in rows:
            y, output = self._run_rows(piece, [row])
            ends.append(y.copy())  # the next run overwrites it
            if output is not None:
                logits.append(output.logits.copy())
        return np.concatenate(ends), ExitOutput(np.concatenate(logits)) if logits else None

    def _answers(self, cut: int, output: ExitOutput, requests: Sequence[Request]) -> list[Answer]:
        reached = self._bundle.exit_at[cut]
        found = answers(reached.name, output, reached.temperature)
        for n, request in enumerate(requests):
            if request.group_of is not None:
                own = ExitOutput(output.logits[n : n + 1])
                found[n] = grouped(reached.name, own, reached.temperature, request.group_of)[0]
        return found

    async def _build(self, piece: Piece) -> None:
        """Build a graph beside the work, and run it once, since the first run is slow."""
        try:
            await _in(self._builder, partial(self._pieces.build, piece))
            await _in(self._thread, partial(self._run_empty, piece))
        except Exception as error:  # segments do as well
            known = isinstance(error, EngineError)
            log.warning("no graph from cut point %d to %d: %s", *piece, error, exc_info=not known)
            self._pieces.refused(piece)
        else:
            self._fused.set(self._pieces.built(piece))

    def _run_empty(self, piece: Piece) -> None:
        start, stop = piece
        self._engine.run(start, stop, np.zeros((1, *self._bundle.cut_points[start].shape), np.float32))


async def _in(thread: Executor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(thread, work)
