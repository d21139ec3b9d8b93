"""The main job with real processes: a clip in, an answer for every frame out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ..bundles import DEFAULT
from ..processes import ClientProcess, ServerProcess, run_client

pytestmark = pytest.mark.alone

DEADLINE_MS = 150
FRAMES = 150
"""A cat, then an espresso: five seconds."""

LINE = {"frame", "kind", "label", "confidence", "exit", "where", "reason", "age_ms", "plan", "at_s"}
SUMMARY = {"captured", "taken", "dropped", "final", "device", "server", "fallback", "late", "age_ms", "bytes_up",
           "bytes_down", "plans"}  # fmt: skip


def test_a_clip_is_answered_by_device_and_server(serving_default: ServerProcess, tmp_path: Path) -> None:
    options = (*DEFAULT, "--source", "demo", "--frames", str(FRAMES))
    split = run_client(tmp_path / "split", *options, "--server", serving_default.address, "--split", "13",
                       "--threshold", "0.5")  # fmt: skip
    split.check_contract(DEADLINE_MS)
    assert all(r.keys() == LINE for r in split.results) and split.summary.keys() >= SUMMARY
    assert split.summary["taken"] >= 0.8 * FRAMES
    where = {r["where"] for r in split.finals if r["reason"] == "confident"}
    assert "device" in where and split.summary["server"] > 0
    assert split.summary["bytes_up"] > 1000 * split.summary["server"]  # activations, not answers alone

    # The whole network in one place, with the same exits at the same threshold: what is left is the codec.
    alone = run_client(tmp_path / "alone", *options, "--unpaced", "--threshold", "0.5", "--deadline-ms", "60000")
    assert alone.summary["final"] == alone.summary["device"] == FRAMES
    answered = [r for r in split.finals if r["where"] == "server"]
    agree = np.mean([r["label"] == alone.labels[r["frame"]] for r in answered])
    assert agree >= 0.97, f"{agree:.3f} of {len(answered)} server answers are the whole network's"


def test_without_a_plan_the_scheduler_decides_and_says_why(serving_default: ServerProcess, tmp_path: Path) -> None:
    out = run_client(tmp_path, *DEFAULT, "--source", "demo", "--frames", "90", "--server", serving_default.address)
    out.check_contract(DEADLINE_MS)
    assert all(plan["why"] for plan in out.summary["plans"])
    assert sum(plan["frames"] for plan in out.summary["plans"]) == out.summary["final"] > 0


def test_what_is_asked_for_decides_who_works(serving_default: ServerProcess, tmp_path: Path) -> None:
    served = {}
    for name, asked in (("policy", "server-only"), ("sla", "latency_ms <= 480; minimize server_cost")):
        out = run_client(tmp_path / name, *DEFAULT, "--source", "demo", "--frames", "60", "--server",
                         serving_default.address, "--deadline-ms", "500", f"--{name}", asked)  # fmt: skip
        out.check_contract(500)
        served[name] = out.summary["server"] / out.summary["final"]
    assert served["policy"] > 0.85 and served["sla"] < 0.1  # the device helps until the server has answered once


def test_a_deadline_shorter_than_the_first_exit_is_said_at_the_start_and_kept(
    serving_default: ServerProcess, tmp_path: Path
) -> None:
    out = run_client(tmp_path, *DEFAULT, "--source", "demo", "--frames", "60", "--server", serving_default.address,
                     "--deadline-ms", "1")  # fmt: skip
    out.check_contract(1)
    assert "warning: the deadline of 1 ms is shorter" in out.errors
    assert out.summary["final"] > 0
    assert all((r["label"] is None) == (r["reason"] == "no_answer") for r in out.finals)
    assert out.summary["server"] == 0  # the device's first exit, or nothing, within the slack after the deadline


def test_ctrl_c_ends_a_loop_with_its_summary(serving_default: ServerProcess, tmp_path: Path) -> None:
    client = ClientProcess(tmp_path, *DEFAULT, "--source", "demo", "--loop", "--server", serving_default.address)
    while len(client.results()) < 20:
        assert client.process.poll() is None
    out = client.finish(interrupt=True)
    out.check_contract(DEADLINE_MS)
