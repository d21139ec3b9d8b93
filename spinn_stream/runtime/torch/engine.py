"""PyTorch as an engine: the same bundle, on a CPU or a GPU."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from spinn_stream.bundle import EXIT_PREFIX, Bundle
from spinn_stream.errors import EngineError
from spinn_stream.runtime.engines.base import Activation, ExitOutput
from spinn_stream.runtime.graph.carving import PieceKey, piece_key
from spinn_stream.runtime.graph.onnx_file import read_graph
from spinn_stream.runtime.machine.huge_pages import use_huge_pages

from .cuda_graphs import SIZES, CudaGraphs, FrozenPiece, Function, GraphMaker
from .graph import TorchGraph

log = logging.getLogger(__name__)


class TorchEngine:
    """See `Engine`. Parts are carved when first needed (or by `prepare`) and kept; they share their weights.

    On a GPU, prepared pieces are frozen as CUDA graphs. If that fails, or the graph's output differs, the piece runs as
    modules, with one warning.
    """

    name = "torch"

    def __init__(
        self, bundle: Bundle, *, threads: int = 1, device: str = "cpu", graphs: GraphMaker | None = None
    ) -> None:
        """
        Args:
            threads: of one run on the CPU; torch's own number is put back after each.
            device: as torch names it: cpu, cuda, cuda:1.
            graphs: freezes pieces; None: by CUDA on a GPU, and not at all elsewhere.

        Raises:
            BundleError: the graph is not one. EngineError: torch cannot run it, or has no such device.
        """
        self._bundle = bundle
        self._threads = threads
        try:
            self._device = torch.device(device)
            torch.empty(1, device=self._device)
        except (AssertionError, RuntimeError) as error:  # the first where torch was built without CUDA
            raise EngineError(f"torch has no device {device!r} here: {str(error).splitlines()[0]}") from error
        if self._device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False  # float32 sums in full, as on the other engines
        self._graph = TorchGraph(read_graph(bundle), device=self._device)
        self._maker = CudaGraphs(self._device) if graphs is None and self._device.type == "cuda" else graphs
        self._frozen: dict[PieceKey, FrozenPiece | None] = {}  # None: it cannot be
        self._running = threading.Lock()  # graphs that are checked must not run beside those that answer
        use_huge_pages()

    def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None:
        """Carve the piece and run it once: the first run on a GPU loads its kernels."""
        self.run(start, stop, np.zeros((1, *self._bundle.cut_points[start].shape), np.float32), exit=exit)
        if self._maker is not None:
            self._freeze(piece_key(self._bundle, start, stop, exit), SIZES if batches else SIZES[:1], self._maker)

    def ready(self, start: int, stop: int, *, exit: bool = True) -> bool:
        source, target = self._bundle.cut_points[start].name, self._bundle.cut_points[stop].name
        with_exit = piece_key(self._bundle, start, stop, exit)[2]
        return self._graph.has(source, target) and (not with_exit or self._graph.has(target, EXIT_PREFIX + target))

    def drop(self, start: int, stop: int, *, exit: bool = True) -> None:
        """Free the frozen graphs. The part itself stays, since it only refers to shared weights."""
        self._frozen.pop(piece_key(self._bundle, start, stop, exit), None)

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> tuple[Activation, ExitOutput | None]:
        if start == stop:
            raise EngineError(f"nothing to run from cut point {start} to itself")
        source = self._bundle.cut_points[start]
        if x.dtype != np.float32 or x.shape[1:] != source.shape:
            raise EngineError(
                f"{self.name}, cut point {source.name}: got {x.dtype} {x.shape}, expected float32 (B, *{source.shape})"
            )
        key = piece_key(self._bundle, start, stop, exit)
        frozen, function = self._frozen.get(key), self._function(key)
        try:
            with self._running, self._settings():
                fits = frozen is not None and len(x) <= frozen.largest
                found = frozen.run(x) if frozen is not None and fits else function(self._tensor(x))
                activation, *logits = [_array(y) for y in found]
        except Exception as error:  # torch raises RuntimeErrors and more of many kinds
            raise EngineError(f"{self.name}, cut points {start} to {stop}: {error}") from error
        if stop == self._bundle.last:
            return activation, ExitOutput(activation)  # the last activation is the final exit's logits
        return activation, ExitOutput(logits[0]) if logits else None

    def _function(self, key: PieceKey) -> Function:
        """The function that gives a piece's activation, and the exit's logits if there is one.

        Raises:
            EngineError: there is no such way.
        """
        source, target = self._bundle.cut_points[key[0]].name, self._bundle.cut_points[key[1]].name
        main = self._graph.carve(source, target)
        if not key[2]:
            return lambda x: (main(x),)
        head = self._graph.carve(target, EXIT_PREFIX + target)

        def both(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y = main(x)
            return y, head(y)

        return both

    def _freeze(self, key: PieceKey, sizes: tuple[int, ...], maker: GraphMaker) -> None:
        """Run a piece as graphs from now on, if possible."""
        known = self._frozen.get(key)
        if key in self._frozen and (known is None or known.largest >= max(sizes)):
            return
        try:
            with self._settings():
                piece = FrozenPiece(
                    self._function(key), self._bundle.cut_points[key[0]].shape, sizes, maker, self._device
                )
                with self._running:
                    piece.check()
        except Exception as error:  # of many kinds; the modules themselves ran
            self._frozen[key] = None
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            log.warning("%s, cut points %d to %d: run without a CUDA graph: %s", self.name, key[0], key[1], reason)
        else:
            self._frozen[key] = piece

    def _tensor(self, x: Activation) -> torch.Tensor:
        """On the device; an image in channels-last order, as the weights are."""
        tensor = torch.from_numpy(np.require(x, requirements=["C", "W"])).to(self._device)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """No gradients, and our number of threads."""
        before = torch.get_num_threads()
        if before != self._threads:
            torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                yield
        finally:
            if before != self._threads:
                torch.set_num_threads(before)


def _array(y: torch.Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = y.contiguous().cpu().numpy()
    return array


def open_engine(bundle: Bundle, *, threads: int) -> TorchEngine:
    """On a CUDA device, if torch sees one; see `EngineKind.opener`."""
    return TorchEngine(bundle, threads=threads, device="cuda" if torch.cuda.is_available() else "cpu")
