"""`spinn run --sink mqtt://...` through a broker that is killed and comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..client.sinks.brokers import broker, listener, wait_until
from ..processes import ClientProcess, said

DEADLINE_MS = 150
FRAMES = 1000


@pytest.mark.alone
@pytest.mark.slow
def test_no_answer_is_late_for_a_broker_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    with broker(tmp_path) as there, listener(there.port, "cam") as heard:
        url = f"mqtt://127.0.0.1:{there.port}/cam"
        played = ("--source", "demo", "--loop", "--frames", str(FRAMES), "--fps", "60", "--split", "final")
        running = ClientProcess(tmp_path, *played, "--sink", url, "--quiet")
        wait_until(lambda: len(running.results()) >= 300)
        there.kill()
        wait_until(lambda: len(running.results()) >= 600)
        there.start()
        output = running.finish()
        wait_until(lambda: heard.payloads("cam/status")[-1:] == ["offline"])
        received = {json.loads(payload)["frame"] for payload in heard.payloads("cam")}
    output.check_contract(DEADLINE_MS)
    # 300 results and a few events waited, fewer than may: nothing was dropped, so nothing is missing
    assert received == {line["frame"] for line in output.finals} and len(received) > FRAMES * 0.9
    assert f"lost {url}" in output.errors and f"{url} is there; 0 messages were dropped" in output.errors


def test_a_sink_that_cannot_be_is_one_line_without_its_password(tmp_path: Path) -> None:
    for url, text in (
        ("mqtt://robot:hunter2@host", "the topic is ''"),
        ("pigeon://robot:hunter2@loft", "expected - or one of jsonl:"),
        (f"jsonl:{tmp_path}/no/such/folder", "there is no folder"),
    ):
        done = said("run", "--source", "demo", "--sink", url)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert text in done.stderr and "hunter2" not in done.stderr


def test_two_outputs_may_not_be_the_same_file(tmp_path: Path) -> None:
    file = tmp_path / "results"
    done = said("run", "--source", "demo", "--jsonl", str(file), "--sink", f"jsonl:{file}")
    assert done.returncode == 1 and f"--jsonl and --sink name the same file: {file}" in done.stderr
