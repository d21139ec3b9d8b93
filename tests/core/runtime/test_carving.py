"""Carving reads a graph without the package onnx, and gives what onnx would give."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from spinn_stream.bundle import Bundle
from spinn_stream.errors import BundleError, EngineError
from spinn_stream.runtime.graph import onnx_proto
from spinn_stream.runtime.graph.carving import Carver, PieceKey
from spinn_stream.runtime.graph.onnx_file import read_graph, read_light


def keys_of(carver: Carver, bundle: Bundle) -> list[PieceKey]:
    """From the first cut point to each, from each to the last, and between exits; with the exit and without it."""
    last, exits = bundle.last, [e.cut for e in bundle.exits]
    ways = [(0, cut) for cut in range(1, last + 1)] + [(cut, last) for cut in range(1, last)]
    ways += [(a, b) for a in exits for b in exits if a < b]
    return sorted({carver.key(start, stop, exit) for start, stop in ways for exit in (False, True)})


@pytest.fixture(scope="module")
def carver(bundle: Bundle) -> Carver:
    return Carver(bundle)


def described(name: str) -> Any:
    """The real message's descriptor."""
    return getattr(onnx, name).DESCRIPTOR


@pytest.mark.parametrize("name", onnx_proto.FIELDS)
def test_every_field_is_onnx_s_own(name: str) -> None:
    for field in onnx_proto.MESSAGES[name].DESCRIPTOR.fields:
        real = described(name).fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (real.number, real.type, real.is_repeated), field.name
        assert field.has_presence == real.has_presence
        for kind, real_kind in ((field.message_type, real.message_type), (field.enum_type, real.enum_type)):
            assert (kind and kind.full_name.removeprefix(onnx_proto.PACKAGE)) == (
                real_kind and real_kind.full_name.removeprefix("onnx")
            )


def test_every_enum_is_onnx_s_own() -> None:
    for path, values in onnx_proto.ENUMS.items():
        message, _, name = path.partition(".")
        assert values == {v.name: v.number for v in described(message).enum_types_by_name[name].values}
    assert TensorProto.EXTERNAL == onnx_proto.EXTERNAL


def test_nothing_is_lost_on_the_way_through(bundle: Bundle) -> None:
    data = read_light(bundle).SerializeToString()
    assert onnx.load_from_string(data) == onnx.load(str(bundle.graph_path)) == read_graph(bundle)


def test_pieces_are_what_onnx_carves(bundle: Bundle, carver: Carver) -> None:
    extractor = onnx.utils.Extractor(onnx.load(str(bundle.graph_path)))
    for key in keys_of(carver, bundle):
        piece = onnx.load_from_string(carver.carve(key))
        expected = extractor.extract_model([carver.source(key)], carver.targets(key))
        assert [n.name for n in piece.graph.node] == [n.name for n in expected.graph.node]
        assert [t.name for t in piece.graph.initializer] == [t.name for t in expected.graph.initializer]
        expected.graph.name = piece.graph.name
        expected.ClearField("producer_name")
        assert piece == expected, key


def test_a_piece_is_a_model_that_onnx_accepts(bundle: Bundle, carver: Carver) -> None:
    for stop in (bundle.exits[0].cut, bundle.last):
        onnx.checker.check_model(onnx.load_from_string(carver.carve(carver.key(2, stop, True))), full_check=True)


def test_several_threads_may_carve_at_once(bundle: Bundle, carver: Carver) -> None:
    keys = [carver.key(0, cut, True) for cut in range(1, bundle.last + 1)]
    alone = [carver.carve(key) for key in keys]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(carver.carve, keys)) == alone


GIVEN = numpy_helper.from_array(np.zeros(3, np.float32), "given")


def graph(*nodes: tuple[str, str], names: tuple[str, ...] = ("input", "stem", "block0")) -> onnx.ModelProto:
    """Nodes of one or two inputs that have the names of the small bundle's first cut points: "a b", "c"."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in names]
    made = [helper.make_node("Add" if " " in given else "Relu", given.split(), [out]) for given, out in nodes]
    return helper.make_model(helper.make_graph(made, "small", infos[:1], infos[1:], [GIVEN]))


def carver_of(model: onnx.ModelProto, folder: Path, bundle: Bundle) -> Carver:
    (folder / "small.onnx").write_bytes(model.SerializeToString())
    return Carver(replace(bundle, graph_path=folder / "small.onnx"))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (graph(("input", "stem"), ("stem input", "block0")), "block0 needs input, which stem does not give"),
        (graph(("input", "stem"), ("stem far", "near"), ("near", "block0")), "block0 needs far, which stem"),
        (graph(("input", "stem"), ("given", "block0")), "no way from stem to block0"),
        (graph(("input", "stem")), "block0 needs block0"),
        (graph(("input", "stem"), ("stem", "block0"), names=("input", "stem")), "no input, output .* tensor block0"),
        (graph(("input", "stem"), ("stem", "block0"), names=("input", "block0")), "no input, output .* tensor stem"),
    ],
)  # fmt: skip
def test_what_cannot_be_reached_is_named(model: onnx.ModelProto, said: str, tmp_path: Path, bundle: Bundle) -> None:
    with pytest.raises(EngineError, match=said):
        carver_of(model, tmp_path, bundle).carve((1, 2, False))


def test_a_piece_holds_the_weights_that_it_uses_alone(tmp_path: Path, bundle: Bundle) -> None:
    small = carver_of(graph(("input", "stem"), ("stem given", "block0")), tmp_path, bundle)
    pieces = [onnx.load_from_string(small.carve(key)).graph for key in ((0, 1, False), (1, 2, False))]
    assert [[t.name for t in piece.initializer] for piece in pieces] == [[], ["given"]]


@pytest.mark.parametrize(
    ("add", "said"),
    [
        (lambda m: m.graph.sparse_initializer.add(), "sparse weights"),
        (lambda m: m.graph.quantization_annotation.add(tensor_name="stem"), "quantization annotations"),
        (lambda m: m.functions.add(name="Relu", domain="ai.onnx"), "functions of its own"),
    ],
)
def test_what_pieces_do_not_carry_along_is_refused(
    add: Callable[[onnx.ModelProto], object], said: str, tmp_path: Path, bundle: Bundle
) -> None:
    model = graph(("input", "stem"), ("stem", "block0"))
    add(model)
    with pytest.raises(EngineError, match=said):
        carver_of(model, tmp_path, bundle)


@pytest.mark.parametrize("how", ["empty", "zeros", "text", "noise", "cut short"])
def test_bytes_that_are_no_graph_are_refused(how: str, tmp_path: Path, bundle: Bundle) -> None:
    data = {
        "empty": b"",
        "zeros": bytes(1000),
        "text": b"<!DOCTYPE html>",
        "noise": random.Random(1).randbytes(100_000),
        "cut short": bundle.graph_path.read_bytes()[:1_000_000],
    }[how]
    (tmp_path / "graph.onnx").write_bytes(data)
    for read in (read_light, read_graph, Carver):
        with pytest.raises(BundleError, match="not an ONNX graph"):
            read(replace(bundle, graph_path=tmp_path / "graph.onnx"))


SMALL = graph(("input", "stem"), ("stem given", "block0")).SerializeToString()


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_graphs_raise_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, bundle: Bundle, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(SMALL)
    for place, byte in changes:
        data[place] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(data)
    with contextlib.suppress(BundleError, EngineError):
        Carver(replace(bundle, graph_path=path)).carve((0, 2, False))
