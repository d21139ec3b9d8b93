"""What real runs give, however long they take: other tests may run beside these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spinn_stream.bundle import Bundle

from ..bundles import DEFAULT
from ..processes import ClientProcess, ServerProcess, run_client, server

PATIENT_MS = 10_000
"""A deadline that a busy machine keeps."""


LINE = {"frame", "kind", "label", "confidence", "exit", "where", "reason", "age_ms", "plan", "at_s"}
SUMMARY = {"captured", "taken", "dropped", "final", "device", "server", "fallback", "late", "age_ms", "bytes_up",
           "bytes_down", "plans"}  # fmt: skip


def test_a_clip_is_answered_by_device_and_server(serving_default: ServerProcess, tmp_path: Path) -> None:
    """The main job: a clip in, an answer for every frame out, each where its plan says."""
    options = (*DEFAULT, "--source", "demo", "--unpaced", "--threshold", "0.5", "--deadline-ms", str(PATIENT_MS))
    split = run_client(tmp_path / "split", *options, "--server", serving_default.address, "--split", "13")
    split.check_contract(PATIENT_MS)
    assert all(r.keys() == LINE for r in split.results) and split.summary.keys() >= SUMMARY
    assert split.summary["taken"] == split.summary["final"] == 360
    where = {r["where"] for r in split.finals if r["reason"] == "confident"}
    assert "device" in where and split.summary["server"] > 0
    assert split.summary["bytes_up"] > 1000 * split.summary["server"]  # activations, not answers alone

    # The whole network in one place, with the same exits at the same threshold: what is left is the codec.
    alone = run_client(tmp_path / "alone", *options)
    assert alone.summary["final"] == alone.summary["device"] == 360
    answered = [r for r in split.finals if r["where"] == "server"]
    agree = np.mean([r["label"] == alone.labels[r["frame"]] for r in answered])
    assert agree >= 0.97, f"{agree:.3f} of {len(answered)} server answers are the whole network's"


@pytest.mark.parametrize("split", ["0", "stem", "block4", "block15"])
def test_every_kind_of_split_is_answered_by_the_server(serving: ServerProcess, tmp_path: Path, split: str) -> None:
    """Unpaced, since on a busy machine the device answers frames that come while sixteen are under way."""
    out = run_client(tmp_path, "--source", "demo", "--frames", "40", "--unpaced", "--server", serving.address,
                     "--split", split, "--threshold", "none", "--deadline-ms", str(PATIENT_MS))  # fmt: skip
    out.check_contract(PATIENT_MS)
    assert out.summary["server"] == out.summary["taken"] == 40
    assert {r["exit"] for r in out.finals} == {"final"}


def test_the_last_split_needs_no_server(tmp_path: Path) -> None:
    out = run_client(tmp_path, "--source", "demo", "--frames", "60", "--unpaced", "--deadline-ms", str(PATIENT_MS))
    out.check_contract(PATIENT_MS)
    assert out.summary["device"] == out.summary["taken"] and out.summary["bytes_up"] == 0


def test_unpaced_takes_every_frame(serving: ServerProcess, tmp_path: Path) -> None:
    out = run_client(tmp_path, "--source", "demo", "--frames", "200", "--unpaced", "--server", serving.address,
                     "--split", "9", "--threshold", "none", "--deadline-ms", str(PATIENT_MS))  # fmt: skip
    out.check_contract(PATIENT_MS)
    assert out.summary["taken"] == 200 and out.summary["server"] == 200


def test_provisional_results_come_before_the_final_one(serving: ServerProcess, bundle: Bundle, tmp_path: Path) -> None:
    out = run_client(tmp_path, "--source", "demo", "--frames", "60", "--server", serving.address, "--split", "13",
                     "--threshold", "none", "--provisional", "--unpaced", "--deadline-ms",
                     str(PATIENT_MS))  # fmt: skip
    out.check_contract(PATIENT_MS)
    kinds: dict[int, list[str]] = {}
    for r in out.results:
        kinds.setdefault(r["frame"], []).append(r["kind"])
    on_the_way = sum(e.cut <= 13 for e in bundle.exits)
    served = {r["frame"] for r in out.finals if r["where"] == "server"}
    assert on_the_way and served and all(kinds[frame] == ["provisional"] * on_the_way + ["final"] for frame in served)
    # A busy machine may leave some to the device, which passes more exits on its way.
    assert all(set(k[:-1]) == {"provisional"} and k[-1] == "final" for k in kinds.values())


def test_four_clients_share_batches_and_each_gets_its_own_answers(tmp_path: Path, bundle: Bundle) -> None:
    """Each client sees other pictures (its own speed through the clip), so answers of another would show."""
    speeds = {"a": "11", "b": "13", "c": "15", "d": "17"}  # five processes share what may be two slow cores
    common = ("--source", "demo", "--frames", "40", "--split", "5", "--threshold", "none",
              "--deadline-ms", str(PATIENT_MS))  # fmt: skip
    with server("--max-wait-ms", "20") as running:
        clients = {
            name: ClientProcess(tmp_path / name, *common, "--server", running.address, "--fps", fps)
            for name, fps in speeds.items()
        }
        outs = {name: client.finish() for name, client in clients.items()}
        singles = running.metric('spinn_batch_size_bucket{le="1.0"}')
        batches = running.metric("spinn_batch_size_count")
        served = running.metric(f'spinn_answers_total{{bundle="{bundle.name}",exit="final"}}')
    assert sum(o.summary["server"] for o in outs.values()) <= served <= sum(o.summary["taken"] for o in outs.values())
    assert batches > singles, "no batch was larger than one"
    print(f"{batches:.0f} batches, {batches - singles:.0f} of them larger than one")
    alone = run_client(tmp_path / "alone", "--source", "demo", "--frames", "40", "--unpaced", "--threshold", "none",
                       "--deadline-ms", "60000")  # fmt: skip
    for name, out in outs.items():
        out.check_contract(PATIENT_MS)
        answered = [r for r in out.finals if r["where"] == "server"]
        agree = np.mean([r["label"] == alone.labels[r["frame"]] for r in answered])
        print(f"client {name}: {100 * agree:.1f} % of {len(answered)} server answers are its own frames' labels")
        assert len(answered) >= 10 and agree >= 0.97
