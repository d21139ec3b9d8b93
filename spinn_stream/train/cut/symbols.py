"""Symbols that know their values: a network's code handles them while its pass is recorded.

They refuse to become a plain number or truth value that depends on the image or on the batch size; their messages are
here.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node, Proxy, Tracer

WRAP = "keep the value a tensor (torch.where, masks), or put the code into a function decorated with @torch.fx.wrap"
SIZES = "write it for any batch size, with -1 or x.size(0) for the batch axis"


class UntraceableError(Exception):
    """Code that cannot be recorded. why: what the code does; advice: what its author can do."""

    def __init__(self, why: str, advice: str) -> None:
        super().__init__(why)
        self.why, self.advice = why, advice


@dataclass
class Record:
    """What is known about a node.

    scope: path of the module whose code made it. kind: "tensor", "number", or "other" (tuples, sizes).
    derived: it gives or writes tensors that depend on what the input holds, not on parameters, constants and
    the batch size alone.
    pair: at a batch of one and of two, the shapes of a tensor or the numbers themselves.
    mutates, aliases: the arguments that it writes to, and those whose memory its result shares.
    """

    order: int
    scope: str
    kind: str
    derived: bool
    pair: tuple[Any, Any]
    floating: bool
    macs: int
    uncounted: frozenset[str]
    mutates: tuple[Node, ...]
    aliases: tuple[Node, ...]


class RecordingTracer(Tracer):
    """A tracer that keeps what each symbol stands for. records: by node."""

    records: dict[Node, Record]


class Value(Proxy):
    """A symbol together with what it stands for, at each of `recording.BATCHES`."""

    tracer: RecordingTracer

    def __init__(self, node: Node, recorder: RecordingTracer, pair: tuple[Any, Any]) -> None:
        super().__init__(node, recorder)
        self.pair = pair

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("pair", "node", "tracer"):
            raise AttributeError(name)
        if callable(getattr(self.pair[0], name)):  # a method; AttributeError is the network's own mistake
            return lambda *args, **kwargs: self.tracer.create_proxy("call_method", name, (self, *args), kwargs)
        return self.tracer.create_proxy("call_function", getattr, (self, name), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def _read(self, what: str) -> Any:
        """The value itself, if it depends neither on the image nor on the batch size."""
        record = self.tracer.records[self.node]
        name = operation(self.node)
        if record.kind == "number":
            raise UntraceableError(f"{what} the number that {name} gives, which depends on the batch size", SIZES)
        if record.derived:
            raise UntraceableError(f"{what} the values of the tensor that {name} gives", WRAP)
        return self.pair[0]

    def __bool__(self) -> bool:
        return bool(self._read("it branches (if, while, assert, and, or) on"))

    def __int__(self) -> int:
        return int(self._read("it turns into a plain int"))

    def __index__(self) -> int:
        return operator.index(self._read("it takes as a plain int"))

    def __float__(self) -> float:
        return float(self._read("it turns into a plain float"))

    def __array__(self, *_args: Any, **_kwargs: Any) -> Any:
        raise UntraceableError(f"it hands the tensor that {operation(self.node)} gives to NumPy", WRAP)

    def __len__(self) -> int:
        a, b = (len(value) for value in self.pair)
        if a != b:
            raise UntraceableError(f"it takes len() of the tensor that {operation(self.node)} gives", SIZES)
        return a

    def __iter__(self) -> Iterator[Any]:
        if self.tracer.records[self.node].kind != "tensor":
            raise TypeError(f"a number, that of {operation(self.node)}, is not iterable")
        a, b = (len(value) for value in self.pair)
        if a != b:
            raise UntraceableError(
                f"it iterates over the batch of the tensor that {operation(self.node)} gives",
                "work on the whole batch at once, or use x.unbind(1), x.chunk or x.split on another axis",
            )
        return (self.tracer.create_proxy("call_function", operator.getitem, (self, i), {}) for i in range(a))


def value_isinstance(x: Any, kinds: Any) -> bool:
    """`isinstance` for a network's code. (A false `__class__` would do in Python, but crashes PyTorch's C++.)"""
    return isinstance(x.pair[0] if type(x) is Value else x, kinds)


def value_len(x: Any) -> Any:
    """`len` for a network's code: that of a batch is a value, which the built-in one cannot return."""
    if type(x) is Value and isinstance(x.pair[0], torch.Tensor):
        return x.size(0)
    return len(x)


class Shape(tuple[Any, ...]):
    """A tensor's size: plain ints, and values where they follow the batch size."""

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return Shape(found) if isinstance(index, slice) else found

    def numel(self) -> Any:
        product: Any = 1
        for side in self:
            product = product * side
        return product


def operation(node: Node) -> str:
    """A node as its author knows it."""
    if node.op == "placeholder":
        return "the input"
    if node.op in ("call_module", "get_attr"):
        return str(node.target)
    return str(getattr(node.target, "__name__", node.target)).strip("_")


def leaves(a: Any) -> Iterator[Any]:
    if type(a) is Value:
        yield a
    elif isinstance(a, tuple | list):
        for item in a:
            yield from leaves(item)
    elif isinstance(a, dict):
        yield from leaves(list(a.values()))
    elif isinstance(a, slice):
        yield from leaves((a.start, a.stop, a.step))
    else:
        yield a


def tensors(a: Any) -> list[torch.Tensor]:
    return [t for t in leaves(a) if isinstance(t, torch.Tensor)]


def plain(a: Any, which: int) -> Any:
    """Arguments with every value replaced by what it stands for."""
    if type(a) is Value:
        return a.pair[which]
    if isinstance(a, tuple | list):
        items: Iterable[Any] = [plain(item, which) for item in a]
        if type(a) is Shape:
            return torch.Size(items)
        return type(a)(*items) if hasattr(a, "_fields") else type(a)(items)
    if isinstance(a, dict):
        return type(a)({k: plain(v, which) for k, v in a.items()})
    if isinstance(a, slice):
        return slice(*(plain(part, which) for part in (a.start, a.stop, a.step)))
    return a


def is_constant(pair: tuple[Any, Any]) -> bool:
    """Whether both are the same, and nothing that a graph would have to compute."""
    if any(not isinstance(v, bool | int | float | str | None | torch.dtype | torch.device) for v in leaves(pair[0])):
        return pair[0] is pair[1] and not tensors(pair[0])
    return bool(pair[0] == pair[1])
