"""`spinn profile`: what it prints, draws and keeps."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from spinn_stream.bundle import Bundle
from spinn_stream.cli.profile import profile
from spinn_stream.errors import ConfigError
from spinn_stream.profile import Profile
from spinn_stream.runtime import open_engine, stored_profile

from ...bundles import SMALL
from ...processes import said, spinn

SEVENTEEN = ",".join(str(n) for n in range(1, 18))  # more than a server tells its clients of
COMMON = ("profile", *SMALL, "--quick", "--batches", "1,2", "--threads", "2")  # nobody else's figures have two threads
TIMEOUT_S = 300


def test_the_profile_is_printed_drawn_and_kept(bundle: Bundle, tmp_path: Path) -> None:
    plot = tmp_path / "plot.png"
    done = spinn(*COMMON, "--runtime", "onnxruntime", "--json", "--plot", str(plot), timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.keys() == {"bundle", "runtime", "threads", "machine", "why", "profile"}
    assert told["bundle"] == bundle.hash and told["why"] == "asked for with --runtime onnxruntime"
    found = Profile.from_json(told["profile"])
    assert found.runtime == told["runtime"] and [b.batch for b in found.batches] == [1, 2]
    assert all(len(b.segments) == bundle.last for b in found.batches)
    assert plot.read_bytes().startswith(b"\x89PNG")

    measured: list[str] = []
    engine = open_engine(bundle, found.runtime, threads=2)
    assert stored_profile(bundle, engine, threads=2, batches=(1, 2), say=measured.append) == found
    assert not measured


def test_the_table_has_every_segment_and_exit_in_its_place(
    bundle: Bundle, made: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spinn_stream.cli.profile.stored_profile", lambda *_, **__: made)
    done = said(*COMMON, "--batches", "1", "--runtime", "onnxruntime")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("made: asked for with --runtime onnxruntime")
    rows = [line.strip("│ ").split("│")[0].strip() for line in done.stdout.splitlines() if line.startswith("│")]
    expected = []
    for i, cut in enumerate(bundle.cut_points[1:], start=1):
        expected += [cut.name, f"exit {cut.name}"] if i in bundle.exit_at and i < bundle.last else [cut.name]
    assert rows == [*expected, "a cut", "preprocess", "one graph", "total"]


def test_without_a_runtime_the_engine_is_chosen_and_it_is_said_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spinn_stream.runtime.choice.installed", lambda: ["onnxruntime"])
    done = said(*COMMON, "--batches", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["runtime"] == "onnxruntime" and found["why"].startswith("onnxruntime is the fastest here for a batch")


@pytest.mark.parametrize("batches", ["", "0,1", "2,1", "1,1", "1,x", "1,257", "-1", "1.5", "99999999999", SEVENTEEN])
def test_batch_sizes_that_are_none_are_refused(batches: str) -> None:
    with pytest.raises(ConfigError, match="expected rising numbers from 1 to 256"):
        profile(batches=batches)


def test_a_plot_that_cannot_be_drawn_is_refused_before_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no folder /no/such"):
        profile(plot=Path("/no/such/plot.png"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'spinn-stream\[train\]'"):
        profile(plot=Path("plot.png"))
