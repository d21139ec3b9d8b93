"""One node of an ONNX graph while it becomes torch.

What an operator does not ask for must not be there: an attribute that nobody read, an input that is
computed where only a constant will do, an output that is not made. Each gives an `EngineError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from spinn_stream.errors import EngineError

DTYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
    TensorProto.BOOL: torch.bool,
}


def to_tensor(proto: onnx.TensorProto) -> torch.Tensor:
    """The value of a constant, on the CPU.

    Raises:
        EngineError: it lies in another file, or has a type that is not in DTYPES.
    """
    if proto.data_location == TensorProto.EXTERNAL or proto.data_type not in DTYPES:
        kind = TensorProto.DataType.Name(proto.data_type)
        raise EngineError(f"constant {proto.name} of type {kind}: expected one of the usual types, in the graph itself")
    return torch.from_numpy(numpy_helper.to_array(proto).copy())


class Weights:
    """Tensors -> the parameters that stand for them: one and the same for each use of a tensor."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._known: dict[tuple[int, bool], tuple[torch.Tensor, nn.Parameter]] = {}

    def parameter(self, value: torch.Tensor, *, transposed: bool = False) -> nn.Parameter:
        """float32, without a gradient yet; of four axes: in channels-last order."""
        key = id(value), transposed
        if key not in self._known:  # the value is kept too, or its id could come back
            data = (value.T if transposed else value).to(self._device, torch.float32)
            order = torch.channels_last if data.ndim == 4 else torch.contiguous_format
            self._known[key] = value, nn.Parameter(data.contiguous(memory_format=order), requires_grad=False)
        return self._known[key][1]


@dataclass
class Node:
    """What a builder of `operators` reads from, and takes.

    inputs: names, "" where an optional one is left out. taken: places of inputs whose values the builder
    took, so that they are no inputs at run time. frozen: places of inputs that are never trained.
    """

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    constants: Mapping[str, torch.Tensor]
    weights: Weights
    taken: set[int] = field(default_factory=set)
    frozen: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, proto: onnx.NodeProto, constants: Mapping[str, torch.Tensor], weights: Weights) -> Node:
        name = proto.name or next(iter(proto.output), "")
        attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
        return cls(proto.op_type, name, list(proto.input), list(proto.output), attributes, constants, weights)

    def error(self, text: str) -> EngineError:
        return EngineError(f"torch cannot run {self.op} {self.name!r}: {text}; try --runtime onnxruntime")

    def attribute(self, name: str, default: Any) -> Any:
        value = self.attributes.pop(name, default)
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        return list(value) if isinstance(value, tuple) else value

    def expect(self, name: str, expected: Any) -> None:
        """An attribute that may be there, but with this value only."""
        value = self.attribute(name, expected)
        if value != expected:
            raise self.error(f"{name} is {value!r}, expected {expected!r}")

    def has(self, place: int) -> bool:
        return place < len(self.inputs) and self.inputs[place] != ""

    def is_constant(self, place: int) -> bool:
        return self.has(place) and self.inputs[place] in self.constants

    def constant(self, place: int) -> torch.Tensor | None:
        """Take an input that must be a constant; None: it is left out."""
        self.taken.add(place)
        if not self.has(place):
            return None
        if not self.is_constant(place):
            raise self.error(f"input {place} ({self.inputs[place]}) is computed, expected a constant")
        return self.constants[self.inputs[place]]

    def ints(self, place: int) -> list[int] | None:
        value = self.constant(place)
        return None if value is None else [int(n) for n in value.reshape(-1).tolist()]

    def number(self, place: int) -> float | None:
        value = self.constant(place)
        if value is not None and value.numel() != 1:
            raise self.error(f"input {place} has {value.numel()} values, expected one")
        return None if value is None else value.item()

    def weight(self, place: int, *, transposed: bool = False) -> nn.Parameter | None:
        value = self.constant(place)
        if value is not None and value.dtype != torch.float32:
            raise self.error(f"weights of type {value.dtype}, expected float32")
        return None if value is None else self.weights.parameter(value, transposed=transposed)

    def check_all_was_read(self, most_inputs: int | None) -> None:
        """Raises EngineError for attributes and inputs that the builder knows nothing of."""
        if self.attributes:
            raise self.error(f"attributes {', '.join(sorted(self.attributes))} are not known")
        if most_inputs is not None and len(self.inputs) > most_inputs:
            raise self.error(f"{len(self.inputs)} inputs, expected at most {most_inputs}")
        if self.op != "Split" and any(self.outputs[1:]):
            raise self.error(f"{len(self.outputs)} outputs, expected one")
