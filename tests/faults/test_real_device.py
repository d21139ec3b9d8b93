"""A real device has no processor, no disk, no camera, or another time of day for a while, or is asked to end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from .. import processes
from ..client.sources.cameras import web_camera
from ..processes import ClientProcess, RunOutput, ServerProcess, server
from ..shaped import shaped_link
from .matrix import LEAST_OVER_DEVICE_ONLY, Row
from .real import ALLOWED_MS, DEADLINE_MS, FPS, Scene, memory_mb, missed, per_s, run_for, wait_for, wait_for_server

pytestmark = [pytest.mark.alone, pytest.mark.slow]

PERIOD_S, SHARE = 0.01, 0.1
TAKEN_S = 4.0
CGROUP = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def little_processor(*pids: int) -> Iterator[None]:
    """A tenth of a core for these processes, in periods of 10 ms.

    By a control group if we may make one; if not, they are stopped again and again.
    """
    quota = _cgroup_v1 if (CGROUP / "cpu" / "cpu.cfs_quota_us").exists() else _cgroup_v2
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(quota(pids))
        except OSError:
            stack.enter_context(_stopped_again_and_again(pids))
        yield


@contextlib.contextmanager
def _cgroup_v1(pids: Sequence[int]) -> Iterator[None]:
    group, of = CGROUP / "cpu" / f"spinn-tests-{os.getpid()}", Path(f"/proc/{pids[0]}/cgroup")
    home = next(line.split(":")[2] for line in of.read_text().splitlines() if ":cpu:" in line)
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text(str(int(PERIOD_S * 1e6)))
        (group / "cpu.cfs_quota_us").write_text(str(int(SHARE * PERIOD_S * 1e6)))
        try:
            _move(pids, group)
            yield
        finally:
            _move(pids, CGROUP / "cpu" / home.lstrip("/"))
    finally:
        group.rmdir()


@contextlib.contextmanager
def _cgroup_v2(pids: Sequence[int]) -> Iterator[None]:
    home = CGROUP / Path(f"/proc/{pids[0]}/cgroup").read_text().strip().rpartition(":")[2].lstrip("/")
    group = home / f"spinn-tests-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.max").write_text(f"{int(SHARE * PERIOD_S * 1e6)} {int(PERIOD_S * 1e6)}")
        try:
            _move(pids, group)
            yield
        finally:
            _move(pids, home)
    finally:
        group.rmdir()


def _move(pids: Sequence[int], group: Path) -> None:
    for pid in pids:
        (group / "cgroup.procs").write_text(str(pid))


@contextlib.contextmanager
def _stopped_again_and_again(pids: Sequence[int]) -> Iterator[None]:
    over = threading.Event()

    def stop_and_go() -> None:
        while not over.is_set():
            for number, share in ((signal.SIGSTOP, 1 - SHARE), (signal.SIGCONT, SHARE)):
                for pid in pids:
                    os.kill(pid, number)
                time.sleep(share * PERIOD_S)

    thread = threading.Thread(target=stop_and_go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_the_processor_is_taken_away(scene: Scene, serving: ServerProcess, tmp_path: Path) -> None:
    """A tenth of a core is left for the client, and for the watch on the machine, which sees that it is used up."""

    def with_little(client: ClientProcess) -> RunOutput:
        wait_for(lambda: len(client.results()) > 30, "a second of results")
        with little_processor(client.process.pid, client.stalls.pid):
            run_for(client, TAKEN_S)
        run_for(client, 2.0)
        return client.finish(interrupt=True)

    alone = with_little(scene.client(tmp_path / "alone", "--policy", "device-only"))
    client = scene.client(tmp_path / "both", "--server", serving.address)
    out = with_little(client)
    for who, found in ("device alone", alone), ("with a server", out):
        old = [round(r["age_ms"]) for r in found.finals if r["age_ms"] > DEADLINE_MS + ALLOWED_MS]
        print(f"{who}: ages over the limit {old} ms, {found.summary['reasons']}")
    scene.judge("a tenth of the processor for 4 s", [out], growth_mb=None, alone_per_s=per_s(alone))


def test_it_sleeps(scene: Scene, serving: ServerProcess, tmp_path: Path) -> None:
    """Stopped for 3 s with frames in flight: they are answered within 20 ms of waking."""
    with shaped_link(serving.port, delay_ms=30) as link:
        client = scene.client(tmp_path, "--server", f"ws://127.0.0.1:{link.port}")
        wait_for_server(client, count=30)
        before = memory_mb(client.process.pid)
        slept = time.monotonic()
        client.process.send_signal(signal.SIGSTOP)
        time.sleep(3.0)
        woke = time.monotonic()
        client.process.send_signal(signal.SIGCONT)
        run_for(client, 3.0)
        grown = memory_mb(client.process.pid) - before
        out = client.finish(interrupt=True)
    in_flight = [r for r in out.finals if r["at_s"] > woke and r["at_s"] - r["age_ms"] / 1000 < slept]
    print(
        f"{len(in_flight)} in flight, answered {[round(1000 * (r['at_s'] - woke)) for r in in_flight]} ms after waking"
    )
    scene.judge("stopped for 3 s, as asleep", [out], healthy=woke, growth_mb=grown,
                excused=(slept, woke))  # fmt: skip
    assert in_flight


JUMPS = """#!{python}
import time
began, real = time.monotonic(), time.time
def jumping():
    \"\"\"A day later after {later} s, and a day too early after {earlier} s.\"\"\"
    ran = time.monotonic() - began
    return real() + (0 if ran < {later} else 86400 if ran < {earlier} else -86400)
time.time, time.time_ns = jumping, lambda: int(jumping() * 1e9)
from spinn_stream.cli.main import main
main()
"""


def test_the_wall_clock_jumps_by_a_day(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of client and server, forth and back."""
    jumping = tmp_path / "spinn"
    jumping.write_text(JUMPS.format(python=sys.executable, later=5, earlier=8))
    jumping.chmod(0o755)
    monkeypatch.setattr(processes, "SPINN", jumping)
    with server() as serving:
        client = scene.client(tmp_path / "run", "--server", serving.address)
        wait_for_server(client, count=5)
        before = memory_mb(client.process.pid)
        run_for(client, 10.0)
        grown = memory_mb(client.process.pid) - before
        out = client.finish(interrupt=True)
    scene.judge("the wall clock jumps by a day", [out], growth_mb=grown)
    assert sum(r["where"] == "server" for r in out.finals) > 0.9 * len(out.finals)


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of its own; skips where we may not mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_the_disk_is_full_while_it_records(scene: Scene, serving: ServerProcess, tmp_path: Path) -> None:
    """One line says so and the run ends; every frame that was taken in has its answer."""
    with small_disk(tmp_path / "disk", 16) as disk:
        client = scene.client(
            tmp_path / "run", "--server", serving.address, "--sink", f"jsonl:{disk}/copy.jsonl", "--quiet"
        )
        out = client.finish(code=1)
    scene.judge("disk full while recording", [out], growth_mb=None)
    assert "copy.jsonl: No space left on device" in out.errors and len(out.errors.strip().splitlines()) == 1
    assert out.summary["taken"] == out.summary["final"] > 60


CAMERA_PLANS: list[list[tuple[object, ...]]] = [
    [("show", 60, (320, 240))],
    [("refuse", 404)],
    [("show", 60, (640, 480)), ("stall",)],
    [("show", 60, (320, 240))],
    [("burst", 40, (640, 480)), ("show", 100, (640, 480))],
]
"""What a camera does at each connection; then it closes it."""


def test_the_camera_goes_stalls_and_changes(serving: ServerProcess, tmp_path: Path) -> None:
    def with_camera(folder: Path, *options: str) -> tuple[RunOutput, float]:
        with web_camera(*CAMERA_PLANS, period_s=1 / FPS) as camera:
            client = ClientProcess(folder, "--source", camera.address, "--source-timeout-s", "1", *options)
            wait_for(lambda: bool(client.results()), "result")
            before = memory_mb(client.process.pid)
            wait_for(lambda: camera.visits >= len(CAMERA_PLANS), "last connection")
            run_for(client, 3.0)
            grown = memory_mb(client.process.pid) - before
            return client.finish(interrupt=True), grown

    alone, _ = with_camera(tmp_path / "alone", "--policy", "device-only")
    out, grown = with_camera(tmp_path / "both", "--server", serving.address, "--split", "block3", "--threshold", "none")
    labels = {r["label"] for r in alone.finals}
    row = Row(
        "camera gone, stalled, changing", out.summary["taken"], missed(out),
        len(out.finals) - len({r["frame"] for r in out.finals}),
        sum(r["label"] not in labels for r in out.finals if r["exit"] == "final"), len(out.unanswered),
        round(per_s(out) / per_s(alone), 3), None, round(grown, 1),
    )  # fmt: skip
    row.write()
    print(row, alone.summary, out.summary)
    assert row.missed <= out.few and (row.duplicates, row.wrong) == (0, 0) and row.no_answer <= out.few
    assert row.answers_over_device_only is not None and row.answers_over_device_only >= LEAST_OVER_DEVICE_ONLY
    assert out.summary["captured"] == out.summary["taken"] + out.summary["dropped"] and "Traceback" not in out.errors


STATES = ("starting", "connecting", "served", "server stopped", "server gone", "link stalled", "camera silent")
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
ENDS_S = 3.0


@pytest.mark.parametrize("state", STATES)
def test_it_ends_when_asked_to_in_every_state(scene: Scene, tmp_path: Path, state: str) -> None:
    """Within 3 s, with the final result of every frame it took in, and without a traceback."""
    with contextlib.ExitStack() as stack:
        clients = [begun(state, scene, tmp_path / number.name, stack) for number in SIGNALS]
        for ready in [ready for _, ready in clients]:
            ready()
        frames = finals = 0
        for (client, _), number in zip(clients, SIGNALS, strict=True):
            asked = time.monotonic()
            code, errors = client.ended_by(number)
            took = time.monotonic() - asked
            assert took < ENDS_S, f"{number.name}: it took {took:.1f} s to end"
            assert "Traceback" not in errors, errors
            assert code in {0, 130, -number}, f"{number.name}: exit code {code}: {errors}"
            if client.summary.exists():
                taken = json.loads(client.summary.read_text())["taken"]
                given = [r["frame"] for r in client.results() if r["kind"] == "final"]
                frames, finals = frames + taken, finals + len(given)
                assert sorted(set(given)) == sorted(given) and len(given) == taken
            else:
                assert state in {"starting", "connecting"}
    Row(f"signals: {state}", frames, frames - finals, 0, 0, 0, None, None, None).write()


def begun(
    state: str, scene: Scene, folder: Path, stack: contextlib.ExitStack
) -> tuple[ClientProcess, Callable[[], None]]:
    """A client, and what waits until it is in this state."""
    if state == "connecting":
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = scene.client(folder, "--server", f"ws://127.0.0.1:{silent.getsockname()[1]}", core=None)
        silent.settimeout(30)
        return client, lambda: stack.enter_context(silent.accept()[0]) and None
    if state == "starting":
        client = scene.client(folder, "--policy", "device-only", core=None)
        return client, lambda: time.sleep(0.7)
    if state == "camera silent":
        camera = stack.enter_context(web_camera([("show", 20, (64, 48)), ("stall",)]))
        client = ClientProcess(folder, "--source", camera.address)
        return client, lambda: wait_for(lambda: len(client.results()) >= 15, "results")
    serving = stack.enter_context(server())
    port = serving.port
    link = stack.enter_context(shaped_link(port)) if state == "link stalled" else None
    client = scene.client(folder, "--server", f"ws://127.0.0.1:{port if link is None else link.port}", core=None)

    def ready() -> None:
        wait_for_server(client, count=5)
        if state == "server stopped":
            serving.process.send_signal(signal.SIGSTOP)
            stack.callback(serving.process.send_signal, signal.SIGCONT)
        elif state == "server gone":
            serving.kill()
        elif link is not None:
            link.stall(True)
        time.sleep(0.5)

    return client, ready
