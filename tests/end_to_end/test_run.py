"""A real client and server against the clock: who works is decided, deadlines are kept, and a run can be ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..bundles import DEFAULT
from ..processes import ClientProcess, ServerProcess, run_client

pytestmark = pytest.mark.alone

DEADLINE_MS = 150


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
