"""The server dies, stalls or is far: every frame keeps its deadline, and the server is used again once it is back."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..processes import ClientProcess, RunOutput, ServerProcess, run_client, server
from ..shaped import shaped_link

pytestmark = pytest.mark.alone

DEADLINE_MS = 150
PATIENCE_S = 60
RUN = ("--source", "demo", "--loop", "--split", "9", "--threshold", "0.99")


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll until it holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"no {what} within {PATIENCE_S} s"
        time.sleep(0.01)


def answered(client: ClientProcess, where: str, after: int) -> bool:
    return any(r["where"] == where for r in client.results()[after:])


def test_kill_9_and_return(tmp_path: Path) -> None:
    with server() as first:
        port = first.port
        client = ClientProcess(tmp_path, *RUN, "--server", first.address)
        wait_for(lambda: answered(client, "server", 0), "server answer")
        first.kill()
    seen = len(client.results())
    wait_for(lambda: len(client.results()) > seen + 30, "a second of frames without the server")
    with server(port=port):
        ready = time.monotonic()
        seen = len(client.results())
        wait_for(lambda: answered(client, "server", seen), "server answer")
        back = time.monotonic()
        wait_for(lambda: len(client.results()) > seen + 30, "a second of frames with the server")
        out = client.finish(interrupt=True)
    out.check_contract(DEADLINE_MS)
    away_s = back - ready - out.stalls.within_ms(ready, back) / 1000
    assert away_s <= 2.0, f"server answers resumed {away_s:.1f} s after ready"
    reasons = Counter(r["reason"] for r in out.finals)
    assert reasons["disconnected"] >= 20 and len(out.unanswered) <= out.few
    assert all(r["where"] == "device" and r["label"] for r in out.finals if r["reason"] == "disconnected")
    print(
        f"server answers {away_s:.2f} s after ready; {reasons}; ages {out.summary['age_ms']}, "
        f"oldest {max(r['age_ms'] for r in out.finals):.0f} ms"
    )


@pytest.mark.slow
def test_a_link_that_stalls_costs_no_frame_its_answer(serving: ServerProcess, tmp_path: Path) -> None:
    """At split 0 no exit has run when a frame is sent: the device must begin a run of its own in time."""
    with shaped_link(serving.port) as link:
        client = ClientProcess(tmp_path, "--source", "demo", "--loop", "--split", "0", "--threshold", "none",
                               "--server", f"ws://127.0.0.1:{link.port}")  # fmt: skip
        wait_for(lambda: answered(client, "server", 0), "server answer")
        link.stall(True)
        seen = len(client.results())
        wait_for(lambda: len(client.results()) > seen + 90, "three seconds of frames on a dead link")
        link.stall(False)
        seen = len(client.results())
        wait_for(lambda: answered(client, "server", seen + 10), "server answer after the stall")
        out = client.finish(interrupt=True)
    out.check_contract(DEADLINE_MS)
    reasons = Counter(r["reason"] for r in out.finals)
    assert len(out.unanswered) <= out.few
    assert {"deadline", "final_exit", "disconnected", "no_answer"} >= set(reasons)
    assert out.summary["device"] + out.summary["fallback"] >= 80


def test_late_answers_are_told_when_asked_for(serving: ServerProcess, tmp_path: Path) -> None:
    with shaped_link(serving.port, delay_ms=100) as link:
        out = run_client(tmp_path, "--source", "demo", "--frames", "40", "--split", "9", "--threshold", "none",
                         "--late", "--server", f"ws://127.0.0.1:{link.port}")  # fmt: skip
    out.check_contract(DEADLINE_MS)
    late = [r for r in out.results if r["kind"] == "late"]
    assert late and len(late) == out.summary["late"]
    assert all(r["where"] == "server" and r["age_ms"] > 200 for r in late)
    order = {(r["frame"], r["kind"]): n for n, r in enumerate(out.results)}
    assert all(order[r["frame"], "final"] < order[r["frame"], "late"] for r in late)


def refused(folder: Path, address: str) -> RunOutput:
    return run_client(folder, "--source", "demo", "--frames", "45", "--split", "5", "--threshold", "none",
                      "--server", address)  # fmt: skip


@pytest.mark.slow
def test_what_the_server_refuses_the_device_answers(tmp_path: Path) -> None:
    """A queue of one request and a long wait for company: most are refused as overloaded."""
    outs: dict[str, RunOutput] = {}
    with server("--max-queue", "1", "--max-wait-ms", "60") as serving:
        runs = [
            threading.Thread(target=lambda n=name: outs.update({n: refused(tmp_path / n, serving.address)}))
            for name in ("a", "b")
        ]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        assert serving.metric('spinn_rejects_total{reason="overloaded"}') > 0
    reasons: Counter[Any] = Counter()
    for out in outs.values():
        out.check_contract(DEADLINE_MS)
        assert len(out.unanswered) <= out.few
        reasons.update(r["reason"] for r in out.finals)
    assert len(outs) == 2 and reasons["rejected"] > 0
