"""docs/extend.md: its examples are run as they stand, and do what the page says."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import spinn_client as spinn
from spinn_client.sinks import base
from spinn_client.sources.registry import KINDS
from spinn_stream.bundle import Bundle
from spinn_stream.codec import (
    CODECS,
    SUPPORTED,
    CodecSetting,
    PayloadReceiver,
    PayloadSender,
    default_setting,
    max_payload_bytes,
)
from spinn_stream.errors import CodecError
from spinn_stream.plan import POLICIES, Plan, build_table, policy
from spinn_stream.profile import Profile
from spinn_stream.runtime import Engine, open_engine, runtimes
from spinn_stream.runtime.engines.registry import ENGINES
from spinn_stream.train.pack.tables import settings_of

ROOT = Path(__file__).parent.parent.parent
ENGINE, REGISTRATION, CODEC, SOURCE, SOURCE_REGISTRATION, POLICY, SINK, SINK_REGISTRATION = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "extend.md").read_text(), re.M | re.S
)
NO_PICTURE = np.empty((0, 0, 3), np.uint8)


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """Whatever is registered is forgotten behind the test."""
    registries = (ENGINES, CODECS, SUPPORTED, POLICIES, KINDS, base._OPENERS)
    kept = [(registry, dict(registry)) for registry in registries]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)  # type: ignore[arg-type]


def test_an_engine_is_one_file_and_one_registration(
    bundle: Bundle, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_engine.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(tmp_path)
    exec(REGISTRATION, {})
    assert "reference" in runtimes()
    said: list[str] = []
    mine = open_engine(bundle, "reference", warn=said.append)
    start = bundle.last - 2
    x = np.random.default_rng(0).normal(size=(2, *bundle.cut_points[start].shape)).astype(np.float32)
    y, output = mine.run(start, bundle.last, x)
    expected, known = engine.run(start, bundle.last, x)
    assert mine.name == "reference" and not said
    assert np.allclose(y, expected, atol=1e-3) and output is not None and known is not None
    assert np.allclose(output.logits, known.logits, atol=1e-3)
    assert mine.ready(start, bundle.last)


def test_a_codec_is_one_file_and_one_registration(bundle: Bundle, profile: Profile) -> None:
    split = 9
    before = default_setting(bundle, split), default_setting(bundle, 0)
    exec(CODEC, {})
    setting = CodecSetting.parse("half")
    elements = bundle.cut_points[split].elements
    sender, receiver = PayloadSender(bundle), PayloadReceiver(bundle)
    for request in range(3):
        x = np.random.default_rng(request).normal(size=(1, *bundle.cut_points[split].shape)).astype(np.float32)
        payload = sender.encode(request, split, setting, x, NO_PICTURE)
        assert len(payload) == 2 * elements <= max_payload_bytes(bundle, split)
        assert np.allclose(receiver.decode(request, split, "half", payload), x, rtol=2**-10)
        sender.acknowledge(request)
    sender.reset()
    assert receiver.held_bytes == 0
    with pytest.raises(CodecError, match=f"got 3 bytes, expected {2 * elements}"):
        receiver.decode(3, split, "half", b"123")
    with pytest.raises(CodecError, match="half does not go with split 0, expected one of jpeg, png"):
        Plan(1, 0, None, setting)
    assert SUPPORTED["half"] == 1 and before == (default_setting(bundle, split), default_setting(bundle, 0))
    assert setting.kind.cost.ms(1_000_000)[0] == pytest.approx(0.005 + 1.0)
    assert setting in settings_of(bundle, split) and setting not in settings_of(bundle, 0)


def test_a_policy_is_one_entry(bundle: Bundle, profile: Profile) -> None:
    exec(POLICY, {})
    table = build_table(bundle, profile, profile)
    known = policy("activations").plans(bundle, table)
    assert known.any() and set(table.split[known]) == set(table.split) - {0}


def test_a_source_and_a_sink_are_one_file_and_one_registration_each(
    bundle: Bundle, profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise in, a table out: a frame for each line, in order."""
    (tmp_path / "my_source.py").write_text(SOURCE)
    (tmp_path / "my_sink.py").write_text(SINK)
    monkeypatch.syspath_prepend(tmp_path)
    exec(SOURCE_REGISTRATION, {})
    exec(SINK_REGISTRATION, {})

    async def main() -> list[spinn.Result]:
        sink = spinn.open_sink(f"table:{tmp_path / 'answers.tsv'}")
        device = spinn.DeviceConfig(bundle=bundle, runtime="onnxruntime")
        async with spinn.Stream("noise:4", device=device, deadline_ms=20_000, sinks=[sink]) as stream:
            return [result async for result in stream]

    results = asyncio.run(main())
    lines = [line.split("\t") for line in (tmp_path / "answers.tsv").read_text().splitlines()]
    assert [result.frame for result in results] == [0, 1, 2, 3]
    assert [(line[0], line[1]) for line in lines] == [(str(result.frame), result.label) for result in results]
    with pytest.raises(spinn.SourceError, match="got 'noise:much', expected noise:COUNT"):
        spinn.open_source("noise:much")
    with pytest.raises(spinn.ConfigError, match="there is no folder"):
        spinn.open_sink(f"table:{tmp_path / 'nowhere' / 'answers.tsv'}")


def test_nothing_in_the_core_asks_for_the_name_of_a_codec() -> None:
    """Neither `x == "jpeg"` nor `x == jpeg.NAME`: what is asked for is a property of the codec."""
    for path in (ROOT / "spinn_stream").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                for part in (node.left, *node.comparators):
                    text = ast.unparse(part)
                    assert not any(repr(name) in text for name in CODECS), f"{path}:{node.lineno}: {text}"
                    assert not re.search(r"\.NAME\b|\b(JPEG|PNG)\b", text), f"{path}:{node.lineno}: {text}"
