"""The ONNX graph of a bundle as torch modules, one for each pair of tensors that is asked for.

The operators are ours, since onnx2torch 1.5.15, its last version (August 2024), stops at weights that lie
behind a Cast, as a bundle's do, loads torchvision for two operators of detectors, and gives a whole graph only.

Nothing in the graph is executed as code: a node picks a function from `operators.OPERATORS` or is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import onnx
import torch
from torch import nn

from spinn_stream.bundle import EXIT_PREFIX, Bundle
from spinn_stream.errors import EngineError
from spinn_stream.runtime.graph.onnx_file import read_graph

from .layers import Function
from .node import Node, Weights, to_tensor
from .operators import OPERATORS

OPSETS = range(13, 19)
"""From 13 the operators have the form that `operators` reads; bundles are written with 17."""


@dataclass(frozen=True)
class Step:
    """One node, ready to run. inputs: names of tensors, "" for one that is left out."""

    name: str
    function: Function
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Part(nn.Module):
    """The way from one tensor of the graph to another: (B, ...) -> (B, ...).

    Convolutions and linear layers are the usual modules. Other parts of the same graph share them, so moving or
    training one changes all. Gradients flow to `parameters()` that ask for them. Batch norm is folded and dropout is
    gone, so train() and eval() change nothing.
    """

    def __init__(self, graph: TorchGraph, source: str, target: str, steps: Sequence[Step]) -> None:
        super().__init__()
        self.source, self.target = source, target
        self._steps = list(steps)
        used = dict.fromkeys(name for step in steps for name in step.inputs)
        self.layers = nn.ModuleList(dict.fromkeys(s.function for s in steps if isinstance(s.function, nn.Module)))
        self._names = [name for name in used if name in graph.parameters]
        self.loose = nn.ParameterList(graph.parameters[name] for name in self._names)
        self._statistics = {name: f"statistics{i}" for i, name in enumerate(n for n in used if n in graph.statistics)}
        for name, key in self._statistics.items():
            self.register_buffer(key, graph.statistics[name])
        self._fixed = {name: graph.fixed[name] for name in used if name in graph.fixed}
        last = {name: i for i, step in enumerate(steps) for name in (*step.inputs, *step.outputs)}
        self._done: list[list[str]] = [[] for _ in steps]  # tensors that no later step reads
        for name, i in last.items():
            if name not in ("", target):
                self._done[i].append(name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values: dict[str, torch.Tensor | None] = {"": None, **self._fixed, self.source: x}
        values.update(zip(self._names, self.loose, strict=True))
        values.update((name, getattr(self, key)) for name, key in self._statistics.items())
        for step, done in zip(self._steps, self._done, strict=True):
            found = step.function(*[values[name] for name in step.inputs])
            for name, value in zip(step.outputs, found if isinstance(found, tuple) else (found,), strict=True):
                if name:
                    values[name] = value
            for name in done:
                values.pop(name, None)
        result = values[self.target]
        assert result is not None  # `carve` saw to it that a step makes it
        return result


class _Weights(Weights):
    """Also knows which parameter each constant became."""

    def made_of(self, value: torch.Tensor) -> list[tuple[nn.Parameter, bool]]:
        """Parameters, each with whether it is the constant's transpose."""
        keys = [(id(value), turned) for turned in (False, True)]
        return [(self._known[key][1], key[1]) for key in keys if key in self._known]


class TorchGraph:
    """All nodes of a graph, its weights once, and every part carved so far.

    parameters: float32 weights outside of modules (a separate scale or bias), by name.
    statistics: of batch norm, never trained. fixed: single numbers and whole numbers, kept on the CPU.
    """

    def __init__(self, model: onnx.ModelProto, *, device: str | torch.device = "cpu") -> None:
        """Builds every node; the model is not needed afterwards.

        Raises:
            EngineError: an operator, an attribute or a form of input that is not known here.
        """
        opsets = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
        if not opsets or max(opsets) not in OPSETS:
            raise EngineError(f"ONNX operators of version {opsets}, expected {OPSETS.start} to {OPSETS[-1]}")
        graph, weights = model.graph, _Weights(torch.device(device))
        self.parameters: dict[str, nn.Parameter] = {}
        self.statistics: dict[str, torch.Tensor] = {}
        self.fixed: dict[str, torch.Tensor] = {}
        self._parts: dict[tuple[str, str], Part] = {}
        self._steps: list[Step] = []
        if graph.sparse_initializer:
            raise EngineError("sparse weights, expected dense ones")
        constants = {tensor.name: to_tensor(tensor) for tensor in graph.initializer}
        for proto in graph.node:
            node = Node.of(proto, constants, weights)
            step = _build(node)
            if all(name in constants for name in step.inputs if name):
                constants.update(zip(step.outputs, _fold(node, step, constants), strict=True))
            else:
                self._steps.append(step)
        self._maker = {name: i for i, step in enumerate(self._steps) for name in step.outputs if name}
        for name in {name for step in self._steps for name in step.inputs}:
            value = constants.get(name.removeprefix(FROZEN))
            if value is None:
                continue
            if value.dtype != torch.float32 or value.ndim == 0:
                self.fixed[name] = value
            elif name.startswith(FROZEN):
                self.statistics[name] = value.to(device)
            else:
                self.parameters[name] = weights.parameter(value)
        self._made_of = {name: made for name, value in constants.items() if (made := weights.made_of(value))}

    def trained(self) -> dict[str, torch.Tensor]:
        """The weights as they are now: name of a constant of the graph -> float32, on the CPU, shaped as there.

        Raises:
            EngineError: a constant with two uses that training would part: two parameters were made of it, or
                it is a statistic of batch norm as well.
        """
        values = {}
        for name, ((parameter, turned), *others) in self._made_of.items():
            if others or FROZEN + name in self.statistics:
                raise EngineError(f"constant {name} is stored once for two weights that training would part")
            value = parameter.detach().cpu()
            values[name] = (value.T if turned else value).contiguous()
        return values

    def has(self, source: str, target: str) -> bool:
        """Whether this way was carved before."""
        return (source, target) in self._parts

    def carve(self, source: str, target: str) -> Part:
        """The part that computes tensor `target` from tensor `source` alone; built once and kept.

        Raises:
            EngineError: no tensor of that name, or it needs something that `source` does not give.
        """
        if (source, target) not in self._parts:
            needed: set[int] = set()
            open_names, reached = [target], False
            while open_names:
                name = open_names.pop()
                if name == source:
                    reached = True
                elif name in self._maker:
                    if self._maker[name] not in needed:
                        needed.add(self._maker[name])
                        open_names += self._steps[self._maker[name]].inputs
                elif name and not any(name in known for known in (self.parameters, self.statistics, self.fixed)):
                    raise EngineError(f"{target} needs {name}, which {source} does not give")
            if not reached or source == target:
                raise EngineError(f"no way from {source} to {target} in the graph")
            steps = [self._steps[i] for i in sorted(needed)]
            self._parts[source, target] = Part(self, source, target, steps)
        return self._parts[source, target]


FROZEN = "frozen:"
"""Before the name of an input that is never trained, as its constant may be another node's weight too."""


def _build(node: Node) -> Step:
    if node.op not in OPERATORS:
        raise node.error("the operator is not known here")
    builder, most_inputs = OPERATORS[node.op]
    names = list(node.inputs)
    try:
        function = builder(node)
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise node.error(str(error)) from error
    node.check_all_was_read(most_inputs)
    for place in node.frozen:
        if node.is_constant(place):
            names[place] = FROZEN + names[place]
    left = tuple(name for place, name in enumerate(names) if place not in node.taken)
    outputs = node.outputs if node.op == "Split" else node.outputs[:1]
    return Step(node.name, function, left, tuple(outputs))


def _fold(node: Node, step: Step, constants: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The value of a node whose inputs are all constants."""
    try:
        with torch.no_grad():
            found = step.function(*[constants[name] if name else None for name in step.inputs])
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise node.error(str(error)) from error
    return found if isinstance(found, tuple) else (found,)


def bundle_stages(
    bundle: Bundle, *, device: str | torch.device = "cpu"
) -> tuple[list[nn.Module], dict[str, nn.Module]]:
    """A bundle's network as modules to train on, with gradients asked for.

    Batch norm was folded into the convolutions when the bundle was written, and weights were rounded to
    float16. A weight that the graph stores once and uses twice is one parameter.

    Returns:
        One module for each pair of neighbouring cut points, (B, *shape) -> (B, *next shape), the last one giving
        the logits of the final exit; and name of a cut point -> its exit, (B, *shape) -> (B, classes).

    Raises:
        BundleError: the graph is not one. EngineError: torch cannot run it.
    """
    return stages_of(TorchGraph(read_graph(bundle), device=device), bundle)


def stages_of(graph: TorchGraph, bundle: Bundle) -> tuple[list[nn.Module], dict[str, nn.Module]]:
    """`bundle_stages` of a graph that was read already.

    Raises:
        EngineError: the graph does not lead from each cut point to the next.
    """
    names = [cut.name for cut in bundle.cut_points]
    stages: list[nn.Module] = [graph.carve(a, b) for a, b in pairwise(names)]
    exits: dict[str, nn.Module] = {
        names[e.cut]: graph.carve(names[e.cut], EXIT_PREFIX + names[e.cut]) for e in bundle.exits[:-1]
    }
    for module in [*stages, *exits.values()]:
        module.requires_grad_(True)
    return stages, exits
