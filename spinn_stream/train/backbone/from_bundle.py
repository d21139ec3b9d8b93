"""A bundle's network, to be trained further: `spinn train --backbone bundle:FOLDER`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper

from spinn_stream.bundle import DEFAULT_BUNDLE, MANIFEST, Bundle, load_bundle
from spinn_stream.errors import BundleError, ConfigError, DataError, EngineError
from spinn_stream.runtime.graph.onnx_file import read_graph
from spinn_stream.runtime.torch.graph import TorchGraph, stages_of
from spinn_stream.train.cut.tracing import FoundCut, PrunedCut

from .network import EarlyExitNetwork

FORM = "bundle:"
"""Prefix of a backbone that is a bundle: `bundle:FOLDER`, or `bundle:default` for the built-in one."""


def source_bundle(backbone: str) -> Bundle | None:
    """The bundle that `--backbone` names; None: it names something else.

    Raises:
        BundleError: see `load_bundle`.
    """
    if not backbone.startswith(FORM):
        return None
    folder = backbone.removeprefix(FORM)
    return load_bundle(DEFAULT_BUNDLE if folder == "default" else Path(folder))


def input_size(source: Bundle, asked: int | None) -> int:
    """Side of the bundle's input in pixels.

    Raises:
        ConfigError: another one was asked for.
    """
    size = source.input.size
    if asked not in (None, size):
        raise ConfigError(
            f"--image-size is {asked}, bundle {source.name} takes {size} pixels; "
            "leave it out, or train on other sizes on the way with --train-sizes"
        )
    return size


def check_classes(source: Bundle, classes: int) -> None:
    """Raises DataError unless the images have as many classes as the bundle."""
    if classes != len(source.labels):
        raise DataError(
            f"got images of {classes} classes, expected the {len(source.labels)} of bundle {source.name}; "
            "for other classes train a network by name"
        )


def differing_labels(source: Bundle, classes: Sequence[str]) -> str | None:
    """One line on the classes that have another name in the bundle; None: there are none."""
    pairs = [(ours, new) for ours, new in zip(source.labels, classes, strict=True) if ours != new]
    if not pairs:
        return None
    ours, new = pairs[0]
    order = ", the same ones in another order" if sorted(source.labels) == sorted(classes) else ""
    more = ", and so on" if len(pairs) > 1 else ""
    return f"{len(pairs)} of {len(classes)} classes get new names{order}: {new!r} for what was {ours!r}{more}"


@dataclass(frozen=True)
class Notes:
    """The notes for people in a manifest, which a bundle made of its weights keeps, too."""

    pruned: tuple[PrunedCut, ...]
    uncounted: tuple[str, ...]
    provenance: Any


def notes_of(source: Bundle) -> Notes:
    """The notes of a bundle. Raises BundleError: they are not as `export_draft` writes them."""
    path = source.graph_path.with_name(MANIFEST)
    try:
        manifest = json.loads(path.read_bytes())
        pruned = tuple(
            PrunedCut(str(p["name"]), tuple(int(n) for n in p["shape"]), int(p["macs"]), str(p["reason"]))
            for p in manifest.get("pruned", [])
        )
        uncounted = tuple(str(text) for text in manifest.get("uncounted", []))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: {type(error).__name__}: {error}") from error
    return Notes(pruned, uncounted, manifest.get("provenance"))


class BundleNetwork(EarlyExitNetwork):
    """A bundle's backbone and exits with their weights, every one of them to be trained.

    Its graph is kept, and exporting puts the weights back into it. Tracing the stages anew would fix the batch size in
    some computations, and would write some operators in a slower form.

    Raises:
        BundleError: the bundle's graph is not one. ConfigError: torch cannot run or train it.
    """

    is_classifier_new = False

    def __init__(self, bundle: Bundle) -> None:
        model = read_graph(bundle)
        try:
            graph = TorchGraph(model)
            stages, exits = stages_of(graph, bundle)
            weights = graph.trained()
        except EngineError as error:
            reason = str(error).partition("; try --runtime")[0]
            raise ConfigError(f"bundle {bundle.name} cannot be trained on: {reason}") from error
        cuts = [FoundCut(c.name, c.shape, c.macs) for c in bundle.cut_points]
        super().__init__(cuts, stages, {e.cut: exits[e.name] for e in bundle.exits[:-1]})
        self.bundle, self.origin = bundle, bundle.hash
        self._graph = graph
        self._unweighted = _without(model, weights.keys())

    @property
    def head_macs(self) -> tuple[int, ...]:
        """Multiply-adds of each head, shallow to deep, as the bundle has them."""
        return tuple(e.macs for e in self.bundle.exits[:-1])

    def to_onnx(self) -> onnx.ModelProto:
        """The bundle's graph with the weights as they are now, in float32."""
        model = onnx.ModelProto()
        model.CopyFrom(self._unweighted)
        weights = self._graph.trained().items()
        model.graph.initializer.extend(numpy_helper.from_array(value.numpy(), name) for name, value in weights)
        return model

    def check_sizes(self, sizes: Iterable[int]) -> None:
        """Raises ConfigError: it does not run on images of one of these sizes, in pixels."""
        for size in sizes:
            try:
                with torch.no_grad():
                    exits, final = self(torch.zeros(1, 3, size, size))
                fits = all(logits.shape == (1, len(self.bundle.labels)) for logits in [*exits, final])
            except (IndexError, RuntimeError, ValueError):
                fits = False
            if not fits:
                raise ConfigError(
                    f"bundle {self.bundle.name} does not run on images of {size} pixels; "
                    f"expected --train-sizes of {self.bundle.input.size} alone"
                )


def _without(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """The graph without these constants, and without nodes that only made them."""
    left = onnx.ModelProto()
    left.CopyFrom(model)
    gone = set(names)
    nodes = [node for node in model.graph.node if not gone.issuperset(node.output)]
    used = {name for node in nodes for name in node.input} - gone
    del left.graph.node[:], left.graph.initializer[:]
    left.graph.node.extend(nodes)
    left.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in used)
    return left
