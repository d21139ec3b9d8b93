"""What real runs give, however long they take: other tests may run beside these."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spinn_stream.model.bundle import Bundle

from ..processes import ServerProcess, run_client, server

PATIENT_MS = 10_000
"""A deadline that a busy machine keeps."""


@pytest.fixture(scope="module")
def serving() -> Iterator[ServerProcess]:
    with server() as running:
        yield running


@pytest.mark.parametrize("split", ["0", "stem", "block4", "block15"])
def test_every_kind_of_split_is_answered_by_the_server(serving: ServerProcess, tmp_path: Path, split: str) -> None:
    out = run_client(tmp_path, "--source", "demo", "--frames", "60", "--server", serving.address, "--split", split,
                     "--threshold", "none", "--deadline-ms", str(PATIENT_MS))  # fmt: skip
    out.check_contract(PATIENT_MS)
    assert out.summary["server"] == out.summary["taken"] >= 30
    assert {r["exit"] for r in out.finals} == {"final"}


def test_the_last_split_needs_no_server(tmp_path: Path) -> None:
    out = run_client(tmp_path, "--source", "demo", "--frames", "60", "--deadline-ms", str(PATIENT_MS))
    out.check_contract(PATIENT_MS)
    assert out.summary["device"] == out.summary["taken"] and out.summary["bytes_up"] == 0


def test_unpaced_takes_every_frame(serving: ServerProcess, tmp_path: Path) -> None:
    out = run_client(tmp_path, "--source", "demo", "--frames", "200", "--unpaced", "--server", serving.address,
                     "--split", "9", "--threshold", "none", "--deadline-ms", str(PATIENT_MS))  # fmt: skip
    out.check_contract(PATIENT_MS)
    assert out.summary["taken"] == 200 and out.summary["server"] == 200


def test_provisional_results_come_before_the_final_one(serving: ServerProcess, bundle: Bundle, tmp_path: Path) -> None:
    out = run_client(tmp_path, "--source", "demo", "--frames", "60", "--server", serving.address, "--split", "13",
                     "--threshold", "none", "--provisional", "--deadline-ms", str(PATIENT_MS))  # fmt: skip
    out.check_contract(PATIENT_MS)
    kinds: dict[int, list[str]] = {}
    for r in out.results:
        kinds.setdefault(r["frame"], []).append(r["kind"])
    on_the_way = sum(e.cut <= 13 for e in bundle.exits)
    assert on_the_way and all(k == ["provisional"] * on_the_way + ["final"] for k in kinds.values())
