"""Finds cut points: places where one tensor crosses, the cost to get there, and the stages between."""

from __future__ import annotations

import operator
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torch.fx import Graph, GraphModule, Node

from spinn_stream.errors import ConfigError, TracingError

from .pruning import Candidate, prune
from .recording import BATCHES, Recorder
from .symbols import SIZES, WRAP, UntraceableError, Value

INPUT = "input"
MAX_NAME = 200  # characters, as in a bundle's manifest


@dataclass(frozen=True)
class FoundCut:
    """A cut point.

    name: of the outermost module that returns its tensor; else of the module whose code makes it and the operation.
    shape: without the batch axis. macs: multiply-adds from the input to here, as `counting` defines them.
    """

    name: str
    shape: tuple[int, ...]
    macs: int


@dataclass(frozen=True)
class PrunedCut:
    """A cut point that another one dominates. reason: which one and why, by the rules of `pruning.prune`."""

    name: str
    shape: tuple[int, ...]
    macs: int
    reason: str


@dataclass(frozen=True)
class Trace:
    """What was found in a network.

    cuts: the input first, named "input", the logits last. stages: stage ``i`` maps the tensor at cut point ``i``
    to the one at ``i + 1``, for any batch size; it holds the traced network's own modules and parameters, not
    copies. uncounted: "operator aten.x at layer4.1" for each whose multiply-adds are missing from the counts.
    """

    cuts: tuple[FoundCut, ...]
    pruned: tuple[PrunedCut, ...]
    stages: tuple[GraphModule, ...]
    uncounted: tuple[str, ...]


def trace_backbone(module: nn.Module, input_shape: tuple[int, int, int], *, keep: Sequence[str] = ()) -> Trace:
    """Find the cut points of a classifier and the stages between them.

    The network runs on random images in eval mode, and is unchanged afterwards. Parts for training only (auxiliary
    classifiers, stochastic depth) are not in the stages. Dropout and batch normalisation are, and follow
    ``stage.train()``. A region without a cut point is one stage.

    Args:
        module: maps images (B, C, H, W) to logits (B, classes); other arguments of its forward keep their defaults.
        input_shape: (C, H, W) of one image.
        keep: names of cut points that stay even if dominated.

    Raises:
        TracingError: it does not run on such images, does not return logits, or cannot be recorded.
        ConfigError: a name in `keep` is not one of its cut points.
    """
    module = getattr(module, "_orig_mod", module)  # what torch.compile was given
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ConfigError(f"input shape: got {input_shape}, expected (channels, height, width)")
    training = module.training
    with torch.inference_mode(False), _eval_mode(module):
        recorder, graph = _record(module, input_shape)
        nodes, candidates = _candidates(recorder, graph)
        names = [c.name for c in candidates]
        unknown = [name for name in keep if name not in names]
        if unknown:
            raise ConfigError(f"no cut points {', '.join(unknown)} to keep; known are {', '.join(names)}")
        reasons = prune(candidates, recorder.calls, keep)
        kept = [c for c in candidates if c.name not in reasons]
        stages = [_stage(recorder, nodes, start.order, stop.order) for start, stop in pairwise(kept)]
    for stage in stages:
        stage.training = training
    for thing in recorder.objects.values():
        if isinstance(thing, nn.Module):
            thing.train(training)
    return Trace(
        cuts=tuple(FoundCut(c.name, c.shape, c.macs) for c in kept),
        pruned=tuple(PrunedCut(c.name, c.shape, c.macs, reasons[c.name]) for c in candidates if c.name in reasons),
        stages=tuple(stages),
        uncounted=tuple(_uncounted(recorder, graph)),
    )


@contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; after it, every module has its mode and its plain attributes back."""
    before = [(m, m.training, dict(vars(m))) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for m, training, attributes in before:
            for name in vars(m).keys() - attributes.keys():
                del vars(m)[name]
            vars(m).update(attributes)
            m.training = training


def _record(module: nn.Module, input_shape: tuple[int, int, int]) -> tuple[Recorder, Graph]:
    """The graph of the network's pass, checked to compute what the network computes."""
    name = type(module).__name__
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((max(BATCHES), *input_shape), generator=generator).to(like.device, like.dtype)
    expected = _plain_pass(module, images)
    recorder = Recorder()
    try:
        graph = recorder.record(module, (images[: BATCHES[0]].clone(), images[: BATCHES[1]].clone()))
    except UntraceableError as error:
        raise TracingError(f"{name} cannot be cut{_place(error)}: {error.why}; {error.advice}") from error
    except Exception as error:
        raise TracingError(
            f"{name} cannot be cut{_place(error)}: torch.fx cannot record it ({type(error).__name__}: {error}); {WRAP}"
        ) from error
    output = recorder.output
    if type(output) is not Value or not recorder.records[output.node].derived:
        raise TracingError(f"{name} returns logits that do not depend on the image; return what is computed from it")
    one, two = output.pair
    if one.shape != (1, *two.shape[1:]):
        raise TracingError(f"{name} returns shape {tuple(one.shape)} for one image, expected (1, classes); {SIZES}")
    if not torch.allclose(two, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()), equal_nan=True):
        raise TracingError(
            f"{name} answers differently when it sees the same image again; make it deterministic in eval mode "
            "(F.dropout needs training=self.training)"
        )
    return recorder, graph


def _plain_pass(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The network's output for two images, checked to be that of a classifier."""
    name = type(module).__name__
    for batch in (images[:1], images):  # one first: an image that does not fit is no matter of batches
        try:
            with torch.no_grad():
                logits = module(batch.clone())
        except Exception as error:
            advice = "give the image size and channels that it is made for"
            if isinstance(error, TypeError) and "argument" in str(error):
                advice = "its forward must need nothing but a batch of images"
            given = f"one image of shape {tuple(images.shape[1:])}"
            if len(batch) > 1:
                given, advice = "a batch of two images, though it does on one", SIZES
            raise TracingError(f"{name} does not run on {given}{_place(error)}: {error}; {advice}") from error
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or len(logits) != len(images):
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise TracingError(
            f"{name} returns {got} for two images, expected one tensor of logits, (2, classes); keep the batch axis "
            "first, or wrap the network in a module whose forward returns just the logits"
        )
    return logits


def _place(error: BaseException) -> str:
    """ " at file:line (`code`)" of the innermost frame that is neither PyTorch's nor ours."""
    own = {str(Path(__file__).with_name(f"{name}.py")) for name in ("tracing", "recording", "symbols", "counting")}
    library = str(Path(torch.__file__).parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(library) and frame.filename not in own:
            return f" at {frame.filename}:{frame.lineno}" + (f" (`{frame.line}`)" if frame.line else "")
    return ""


def _candidates(recorder: Recorder, graph: Graph) -> tuple[list[Node], list[Candidate]]:
    """Nodes in order, and every place where one tensor crosses, the input and the logits included.

    A place is behind a node whose tensor is the only thing computed from the image that is still needed.
    Parameters, constants and sizes do not count: each stage has its own.
    """
    records = recorder.records
    nodes = [n for n in graph.nodes if n.op != "output"]
    flow = [n for n in nodes if records[n].derived]
    position = {n: i for i, n in enumerate(flow)}
    (output,) = next(n for n in graph.nodes if n.op == "output").all_input_nodes
    last_use = [max((position[u] for u in n.users if u in position), default=i) for i, n in enumerate(flow)]
    last_use[position[output]] = len(flow)
    closing = [0] * (len(flow) + 1)
    named = {call.end: call.path for call in recorder.calls}  # outer calls come later and win
    used = {INPUT}
    macs, uncounted = 0, 0
    alive = 0
    found: list[Candidate] = []
    for node in nodes:
        record = records[node]
        macs += record.macs
        uncounted += len(record.uncounted)
        if node not in position:
            continue
        i = position[node]
        closing[last_use[i]] += 1
        alive += 1 - closing[i]
        if node is output or (alive == 1 and last_use[i] > i and _crosses(recorder, node)):
            name = INPUT if i == 0 else _unique(named.get(record.order) or _functional_name(recorder, node), used)
            shape = tuple(int(side) for side in record.pair[0][1:])
            found.append(Candidate(name, shape, macs, uncounted, record.order))
        if node is output:
            break
    return nodes, found


def _crosses(recorder: Recorder, node: Node) -> bool:
    """Whether it is a tensor of real numbers with the batch axis first."""
    record = recorder.records[node]
    if record.kind != "tensor" or not record.floating:
        return False
    one, two = record.pair
    return len(one) > 1 and (one[0], two[0]) == BATCHES and one[1:] == two[1:] and one.numel() > 0


def _functional_name(recorder: Recorder, node: Node) -> str:
    operation = str(getattr(node.target, "__name__", node.target)).rpartition(".")[2].strip("_")
    if node.target in recorder.objects:
        operation = operation.partition("_")[0]
    scope = recorder.records[node].scope
    return f"{scope}.{operation}" if scope else operation


def _unique(name: str, used: set[str]) -> str:
    name = re.sub(r"[^A-Za-z0-9_.]", "_", name)[:MAX_NAME] or "_"
    i, free = 0, name
    while free in used:
        i += 1
        free = f"{name[: MAX_NAME - len(str(i)) - 1]}_{i}"
    used.add(free)
    return free


def _uncounted(recorder: Recorder, graph: Graph) -> Iterator[str]:
    texts: dict[str, None] = {}
    for record in (recorder.records[n] for n in graph.nodes if n.op != "output"):
        for name in sorted(record.uncounted):
            texts[f"operator {name} at {record.scope or type(recorder.root).__name__}"] = None
    yield from texts


def _stage(recorder: Recorder, nodes: Sequence[Node], start: int, stop: int) -> GraphModule:
    """The nodes behind one cut point up to another, both given by order, as a module of their own.

    Whatever else they use (parameters, constants, and what is computed from those and the batch size) is
    computed again inside.
    """
    records = recorder.records
    inside = [n for n in nodes if start < records[n].order <= stop and (records[n].derived or records[n].mutates)]
    cut = next(n for n in nodes if records[n].order == start)
    graph = Graph()
    entering = graph.placeholder("x")
    copies = {cut: graph.call_method("clone", (entering,)) if _is_written_to(recorder, inside, cut) else entering}

    def copy_of(node: Node) -> Node:
        if node not in copies:
            one, two = records[node].pair
            if records[node].kind == "number" and any(records[n].kind != "number" for n in node.all_input_nodes):
                size = graph.call_method("size", (entering, 0))  # a size that follows the batch: step * size + rest
                step, rest = two - one, 2 * one - two
                size = size if step == 1 else graph.call_function(operator.mul, (size, step))
                copies[node] = size if rest == 0 else graph.call_function(operator.add, (size, rest))
            else:
                assert node in inside or not records[node].derived, f"{node} crosses beside the cut"
                copies[node] = graph.node_copy(node, copy_of)
                copies[node].meta.clear()
        return copies[node]

    for node in inside:
        copy_of(node)
    graph.output(copies[inside[-1]])
    targets = {str(n.target) for n in graph.nodes if n.op in ("get_attr", "call_module")}
    return GraphModule({t: recorder.object(t) for t in targets}, graph, class_name="Stage")


def _is_written_to(recorder: Recorder, inside: Sequence[Node], cut: Node) -> bool:
    """Whether a node writes in place to the tensor that enters, or to a view of it."""
    same = {cut}
    for node in inside:
        record = recorder.records[node]
        if same & set(record.mutates):
            return True
        if same & set(record.aliases):
            same.add(node)
    return False
