"""PyTorch as an engine: the same bundle, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from ...errors import EngineError
from ...model.bundle import EXIT_PREFIX, Bundle
from ..engine import Activation, ExitOutput
from ..huge_pages import use_huge_pages
from ..onnx_file import read_graph
from .graph import TorchGraph


class TorchEngine:
    """See `Engine`. Parts are carved when first needed (or by `prepare`) and kept; they share their weights."""

    name = "torch"

    def __init__(self, bundle: Bundle, *, threads: int = 1, device: str = "cpu") -> None:
        """
        Args:
            threads: of one run on the CPU; torch's own number is put back after each.
            device: as torch names it: cpu, cuda, cuda:1.

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
        self._graph = TorchGraph(read_graph(bundle), device=self._device)
        use_huge_pages()

    def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None:
        """Carves and runs once: the first run on a GPU loads its kernels."""
        self.run(start, stop, np.zeros((1, *self._bundle.cut_points[start].shape), np.float32), exit=exit)

    def ready(self, start: int, stop: int, *, exit: bool = True) -> bool:
        source, target = self._bundle.cut_points[start].name, self._bundle.cut_points[stop].name
        with_exit = exit and stop in self._bundle.exit_at and stop != self._bundle.last
        return self._graph.has(source, target) and (not with_exit or self._graph.has(target, EXIT_PREFIX + target))

    def drop(self, start: int, stop: int, *, exit: bool = True) -> None:
        """Nothing is freed: parts share their weights, and a part is some references to them."""

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> tuple[Activation, ExitOutput | None]:
        if start == stop:
            raise EngineError(f"nothing to run from cut point {start} to itself")
        source, target = self._bundle.cut_points[start], self._bundle.cut_points[stop].name
        if x.dtype != np.float32 or x.shape[1:] != source.shape:
            raise EngineError(
                f"{self.name}, cut point {source.name}: got {x.dtype} {x.shape}, expected float32 (B, *{source.shape})"
            )
        with_exit = exit and stop in self._bundle.exit_at and stop != self._bundle.last
        main = self._graph.carve(source.name, target)
        head = self._graph.carve(target, EXIT_PREFIX + target) if with_exit else None
        try:
            with self._settings():
                y = main(self._tensor(x))
                output = None if head is None else ExitOutput(_array(head(y)))
                activation = _array(y)
        except Exception as error:  # torch raises RuntimeErrors and more of many kinds
            raise EngineError(f"{self.name}, cut points {start} to {stop}: {error}") from error
        if stop == self._bundle.last:
            return activation, ExitOutput(activation)  # the last activation is the final exit's logits
        return activation, output

    def _tensor(self, x: Activation) -> torch.Tensor:
        """On the device; an image in channels-last order, as the weights are."""
        tensor = torch.from_numpy(np.require(x, requirements=["C", "W"])).to(self._device)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """No gradients, our number of threads, and float32 sums in full, as on the other engines."""
        before = torch.get_num_threads()
        if before != self._threads:
            torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                yield
        finally:
            if before != self._threads:
                torch.set_num_threads(before)


def _array(y: torch.Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = y.contiguous().cpu().numpy()
    return array
