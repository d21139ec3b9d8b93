"""A network's forward pass as a torch.fx graph, recorded while real numbers run beside the symbols.

Plain symbolic tracing knows no sizes: code that uses them fails, or leaves size arithmetic in the graph. Here every
symbol carries its values at a batch of one and at a batch of two. A number that is the same in both is a constant: the
network's own code gets a plain int and may loop, branch and divide by it. A number that differs follows the batch size
and stays a symbol. The contents of tensors are never used: a branch on them would freeze one image's decision into the
graph, so it is an error.
"""

from __future__ import annotations

import inspect
import operator
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import Node
from torch.utils.checkpoint import CheckpointFunction

from .counting import MultiplyAdds
from .symbols import (
    SIZES,
    WRAP,
    Record,
    RecordingTracer,
    Shape,
    UntraceableError,
    Value,
    is_constant,
    leaves,
    operation,
    plain,
    tensors,
    value_isinstance,
    value_len,
)

BATCHES = (1, 2)
"""One, because that is what a device runs; two, because it is another."""

_READERS = {"item", "tolist", "numpy", "equal", "allclose", "is_nonzero", "nonzero", "masked_select", "unique"}
_FACTORIES = ("zeros", "ones", "empty", "full", "rand", "randn", "arange", "linspace", "eye")
_DROPOUTS: dict[Any, Callable[[float], nn.Module]] = {
    F.dropout: nn.Dropout,
    F.dropout1d: nn.Dropout1d,
    F.dropout2d: nn.Dropout2d,
    F.dropout3d: nn.Dropout3d,
    F.alpha_dropout: nn.AlphaDropout,
    F.feature_alpha_dropout: nn.FeatureAlphaDropout,
}


@dataclass(frozen=True)
class Call:
    """One call of a module that returned a tensor: its path, its first node's order, and its returned node's."""

    path: str
    start: int
    end: int


class Recorder(RecordingTracer):
    """Records one module.

    records: by node. calls: of every module, inner before outer. objects: modules and tensors that the graph
    names but the recorded module does not hold.
    """

    proxy_buffer_attributes = True

    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(getattr(torch, name) for name in _FACTORIES))
        self._autowrap_search.append(torch)  # so that torch.zeros(x.size(0), 1) is recorded
        self.records: dict[Node, Record] = {}
        self.calls: list[Call] = []
        self.objects: dict[str, Any] = {}
        self.output: Value | None = None
        self._newest: dict[Node, Node] = {}
        self._functions: dict[Any, Callable[..., Any]] = {}
        self._running = False

    def record(self, module: nn.Module, inputs: tuple[torch.Tensor, torch.Tensor]) -> torch.fx.Graph:
        """The graph of the module's pass, dead nodes removed; fills the other attributes.

        Args:
            inputs: a batch of one and a batch of two.

        Raises:
            UntraceableError: the code cannot be recorded. Others: whatever the code raised.
        """
        self._inputs = inputs
        scripted = [f for space in _spaces(module) for f in space.values() if isinstance(f, torch.jit.ScriptFunction)]
        self._autowrap_function_ids.update(id(f) for f in scripted)  # they take no symbols: one call each
        fastpath = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # its one opaque operator would hide the multiply-adds
        try:
            with torch.no_grad(), self._recorded_autograd_functions(), _value_builtins(module):
                graph = self.trace(module)
        finally:
            torch.backends.mha.set_fastpath_enabled(fastpath)
        for node in reversed(list(graph.nodes)):
            if node.op != "output" and node not in self.records:
                raise UntraceableError(f"it passes a {operation(node)} to an operation", "pass tensors and numbers")
            if node.op not in ("placeholder", "output") and not node.users and not self.records[node].mutates:
                graph.erase_node(node)
        return graph

    def newest(self, node: Node) -> Node:
        """The node that stands for a tensor after it was last written to in place."""
        while node in self._newest:
            node = self._newest[node]
        return node

    # What torch.fx asks of a tracer

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        node = self.create_node("placeholder", "x", (), {})
        image = self._keep(node, self._inputs, (), 0, frozenset(), ())
        assert isinstance(self.root, nn.Module)

        def forward(x: Any) -> Any:  # the instance's own, and every other argument left at its default
            self.output = self.root.forward(x)
            return self.output

        return forward, [image]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """PyTorch's own layers, also through subclasses that inherit `forward`, and all that train and eval change."""
        if isinstance(m, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd | torch.jit.ScriptModule):
            return True
        if isinstance(m, nn.Sequential):
            return False
        return str(type(m).forward.__module__).startswith(("torch.nn.", "torch.ao.nn."))

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        assert self.submodule_paths is not None
        if self._running or m not in self.submodule_paths:  # a layer made on the spot, nn.Softmax(1)(x), has no path
            return forward(*args, **kwargs)
        start = len(self.records)
        result = super().call_module(m, forward, args, kwargs)
        if type(result) is Value:
            end = self.records[self.newest(result.node)].order
            if end >= start:  # else it returned what it was given
                self.calls.append(Call(self.submodule_paths[m], start, end))
        return result

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self._running:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_arg(self, a: Any) -> Any:
        if type(a) is Value:
            return self.newest(a.node)
        if type(a) is Shape:
            return super().create_arg(tuple(a))
        if type(a).__module__ == "numpy" and hasattr(a, "item"):  # as np.prod(x.shape[1:]) gives
            return a.item()
        if isinstance(a, torch.Tensor):
            held = ((n, t) for named in (self.root.named_parameters(), self.root.named_buffers()) for n, t in named)
            name = next((n for n, t in held if t is a), None)
            if name is None:
                name = self._name_object("constant", a)
            return self._held(name, a)
        if isinstance(a, nn.Module):
            return self._held((self.submodule_paths or {}).get(a) or self._name_object("module", a), a)
        return super().create_arg(a)

    def create_proxy(
        self,
        kind: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        type_expr: Any = None,
        proxy_factory_fn: Any = None,
    ) -> Any:
        kind, target, args, kwargs = self._adjusted(kind, target, args, kwargs)
        given = [v for v in leaves((args, kwargs)) if type(v) is Value]
        called = getattr(target, "__name__", target)
        reads = called in _READERS and (kind == "call_method" or target is getattr(torch, called, None))
        if reads and any(self.records[v.node].derived for v in given):
            raise UntraceableError(f"{called} reads the values of a tensor", WRAP)
        versions = [[t._version for t in tensors(v.pair[0])] for v in given]
        with MultiplyAdds() as count:
            first = self._run(kind, target, args, kwargs, 0)
        pair = (first, self._run(kind, target, args, kwargs, 1))
        mutated = [v for v, old in zip(given, versions, strict=True) if [t._version for t in tensors(v.pair[0])] != old]
        if not mutated and is_constant(pair):
            return _with_node(first, target, None)
        node = self.create_node(kind, target, self.create_arg(args), self.create_arg(kwargs), name, type_expr)
        result = self._keep(node, pair, tuple(given), count.macs, frozenset(count.uncounted), tuple(mutated))
        for v in mutated:
            if v.pair[0] is first:
                self._newest[self.newest(v.node)] = node
        return self._handed_out(result, target)

    # Making values

    def _adjusted(self, kind: str, target: Any, args: Any, kwargs: Any) -> tuple[str, Any, Any, Any]:
        """The same operation in a form that holds for every batch size and for training too."""
        if target in ("squeeze", torch.squeeze) and len(args) == 1 and not kwargs and type(args[0]) is Value:
            # without axes it would drop the batch axis at a batch of one, and only there
            sides = args[0].pair[1].shape
            return kind, target, (args[0], tuple(i for i, side in enumerate(sides) if side == 1)), kwargs
        if kind == "call_function" and target in _DROPOUTS and not kwargs.get("training", True):
            layer = _DROPOUTS[target](kwargs["p"]).eval()  # self.training is frozen in a graph; a module's is not
            return "call_module", self._name_object("dropout", layer), args, {}
        if isinstance(target, torch.jit.ScriptFunction):
            target = self._function(target, "__call__")
        return kind, target, args, kwargs

    def _function(self, thing: Any, method: str) -> Callable[..., Any]:
        """A plain function, always the same, for a callable that a graph's code cannot name."""

        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(thing, method)(*args, **kwargs)

        call.__name__, call.__module__ = thing.__name__, __name__
        return self._functions.setdefault(thing, call)

    def _held(self, name: str, thing: Any) -> Node:
        return self._keep(self.create_node("get_attr", name, (), {}), (thing, thing), (), 0, frozenset(), ()).node

    def _name_object(self, kind: str, thing: Any) -> str:
        for name, known in self.objects.items():
            if known is thing:
                return name
        name = f"{kind}_{len(self.objects)}"
        while hasattr(self.root, name):
            name += "_"
        self.objects[name] = thing
        return name

    def object(self, target: str) -> Any:
        """What a node of the graph names: a module or a tensor."""
        return self.objects[target] if target in self.objects else operator.attrgetter(target)(self.root)

    def _run(self, kind: str, target: Any, args: Any, kwargs: Any, which: int) -> Any:
        args, kwargs = plain(args, which), plain(kwargs, which)
        before, self._running = self._running, True
        try:
            if kind == "get_attr":
                return self.object(target)
            if kind == "call_method":
                return getattr(args[0], target)(*args[1:], **kwargs)
            function = self.object(target) if kind == "call_module" else target
            return function(*args, **kwargs)
        except Exception as error:
            if which == 0:
                raise
            why = f"{getattr(target, '__name__', target)} runs on a batch of one, but not on a batch of two ({error})"
            raise UntraceableError(why, SIZES) from error
        finally:
            self._running = before

    def _keep(
        self, node: Node, pair: Any, given: tuple[Value, ...], macs: int, uncounted: frozenset[str], mutated: Any
    ) -> Value:
        first = pair[0]
        number = isinstance(first, bool | int | float)
        inside = tensors(first)
        memory = {t.untyped_storage()._cdata for t in inside if t.layout == torch.strided}
        self.records[node] = Record(
            order=len(self.records),
            scope=self.scope.module_path,
            kind="tensor" if isinstance(first, torch.Tensor) else "number" if number else "other",
            derived=node.op == "placeholder"
            or (bool(inside or mutated) and any(self.records[v.node].derived for v in given)),
            pair=tuple(v.shape for v in pair) if isinstance(first, torch.Tensor) else pair if number else (None, None),
            floating=isinstance(first, torch.Tensor) and first.is_floating_point(),
            macs=macs,
            uncounted=uncounted,
            mutates=tuple(self.newest(v.node) for v in mutated),
            aliases=tuple(
                self.newest(v.node)
                for v in given
                if any(t.layout == torch.strided and t.untyped_storage()._cdata in memory for t in tensors(v.pair[0]))
            ),
        )
        return Value(node, self, pair)

    def _handed_out(self, value: Value, target: Any) -> Any:
        """What the network's code gets: tuples taken apart, sizes as tuples, the rest as it is."""
        first, second = value.pair
        if first is None or isinstance(first, torch.Tensor | int | float):
            return None if first is None else value
        if isinstance(first, tuple | list) and len(first) == len(second):
            items = [self.create_proxy("call_function", operator.getitem, (value, i), {}) for i in range(len(first))]
            if isinstance(first, torch.Size):
                return Shape(items)
            made = type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
            return _with_node(made, target, value.node)
        if isinstance(first, dict) and first.keys() == second.keys():
            return {k: self.create_proxy("call_function", operator.getitem, (value, k), {}) for k in first}
        raise UntraceableError(
            f"{operation(value.node)} gives a {type(first).__name__}, which is neither a tensor nor a number", WRAP
        )

    @contextmanager
    def _recorded_autograd_functions(self) -> Iterator[None]:
        """Inside, `apply` of a custom autograd function is recorded as one call."""
        original = torch.autograd.Function.__dict__["apply"]

        def apply(cls: type, *args: Any, **kwargs: Any) -> Any:
            if not any(type(v) is Value for v in leaves((args, kwargs))):
                return original.__func__(cls, *args, **kwargs)
            if cls is CheckpointFunction:
                return args[0](*args[2:])  # memory is saved while training, by other means if at all
            return self.create_proxy("call_function", self._function(cls, "apply"), args, kwargs)

        torch.autograd.Function.apply = classmethod(apply)  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            torch.autograd.Function.apply = original  # type: ignore[method-assign]


def _spaces(module: nn.Module) -> list[dict[str, Any]]:
    """The global names of every file that holds some of the network's own code."""
    classes = {cls for m in module.modules() for cls in type(m).__mro__ if "forward" in vars(cls)}
    spaces = [getattr(inspect.unwrap(vars(cls)["forward"]), "__globals__", {}) for cls in classes]
    return [space for space in spaces if str(space.get("__name__", "torch")).partition(".")[0] != "torch"]


@contextmanager
def _value_builtins(module: nn.Module) -> Iterator[None]:
    """Inside, the network's own code sees an `isinstance` and a `len` that know values."""
    replaced: list[tuple[dict[str, Any], str]] = []
    for space in _spaces(module):
        for name, function in (("isinstance", value_isinstance), ("len", value_len)):
            if name not in space:
                space[name] = function
                replaced.append((space, name))
    try:
        yield
    finally:
        for space, name in replaced:
            del space[name]


def _with_node(result: Any, target: Any, node: Node | None) -> Any:
    """torch.fx writes to the `node` of whatever a wrapped function returns, which plain values do not have."""
    home = str(getattr(target, "__module__", ""))
    if not (home == "math" or target is len or (isinstance(target, types.FunctionType) and home[:5] != "torch")):
        return result
    if type(result) not in (int, float, str, tuple, list):
        raise UntraceableError(f"the function {target.__name__} returns {result!r}", "let it return tensors")
    carrying = type(type(result).__name__, (type(result),), {})(result)
    carrying.node = node if node is not None else types.SimpleNamespace(meta={})
    return carrying
