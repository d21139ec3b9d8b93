"""Pieces frozen as CUDA graphs: about two hundred launches by Python become one.

In a network of small layers, launching takes longer than the GPU's work, unless batches are large. After PyTorch's
manual ("CUDA Graphs"): a warm-up on a side stream, a capture on the same one, one pool of memory for all graphs, which
never run at once; and "thread_local" captures, as another thread runs the network meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from spinn_stream.errors import EngineError
from spinn_stream.runtime.engines.base import Activation

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Batch sizes that graphs are made for. A batch between two of them runs in the larger one. A batch larger than all
runs without a graph: it keeps the GPU busy for longer than launching takes."""

WARM_UP = 3
"""Runs before a capture: libraries choose their algorithms and take their memory."""

TOLERANCE = 1e-3
"""A graph is used if its output differs from the modules' by at most this share of the largest number."""

Function = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]


class Frozen(Protocol):
    """A captured function of one tensor: `replay` computes the outputs for the tensor's present values."""

    outputs: tuple[torch.Tensor, ...]

    def replay(self) -> None: ...


class GraphMaker(Protocol):
    """Captures functions of tensors that keep their place in memory."""

    def capture(self, function: Function, x: torch.Tensor) -> Frozen: ...


class CudaGraphs:
    """See `GraphMaker`. Of one device. Replays must not overlap: graphs share the memory between their layers."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, function: Function, x: torch.Tensor) -> Frozen:
        """Capture a function. Raises torch's errors if it cannot be captured."""
        with torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UP):
                    function(x)
            current.wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                outputs = function(x)
        return _CudaGraph(graph, outputs)


class _CudaGraph:
    def __init__(self, graph: torch.cuda.CUDAGraph, outputs: tuple[torch.Tensor, ...]) -> None:
        self._graph = graph
        self.outputs = outputs  # kept, so that no other graph takes their memory

    def replay(self) -> None:
        self._graph.replay()


class FrozenPiece:
    """One piece of a network for every batch size in `sizes`."""

    def __init__(
        self, function: Function, shape: Sequence[int], sizes: Sequence[int], maker: GraphMaker, device: torch.device
    ) -> None:
        """
        Args:
            shape: of the input without the batch.

        Raises:
            Whatever torch does where the function cannot be captured.
        """
        layout = torch.channels_last if len(shape) == 3 else torch.contiguous_format
        self._input = torch.zeros((max(sizes), *shape), device=device).contiguous(memory_format=layout)
        self._function = function
        self._frozen = {size: maker.capture(function, self._input[:size]) for size in sorted(sizes)}

    @property
    def largest(self) -> int:
        return max(self._frozen)

    def check(self) -> None:
        """Raises EngineError: a graph's output differs from the function's."""
        self._input.normal_()
        for size, frozen in self._frozen.items():
            frozen.replay()
            for got, expected in zip(frozen.outputs, self._function(self._input[:size]), strict=True):
                off, most = float((got - expected).abs().max()), float(expected.abs().max())
                if not off <= TOLERANCE * max(1.0, most):
                    raise EngineError(f"the graph for batches of {size} is off by {off:.3g} of {most:.3g}")

    def run(self, x: Activation) -> list[torch.Tensor]:
        """The outputs for a batch of up to `largest`; the next run overwrites them."""
        size = next(size for size in self._frozen if size >= len(x))
        self._input[: len(x)].copy_(torch.from_numpy(np.require(x, requirements=["C", "W"])))
        self._frozen[size].replay()
        return [y[: len(x)] for y in self._frozen[size].outputs]
