"""Rows with real processes: what clients wrote, judged as the rows in virtual time are."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2

from spinn_stream.frame import Pixels

from ..processes import ClientProcess, RunOutput, ServerProcess, server
from .matrix import LEAST_OVER_DEVICE_ONLY, MOST_NO_ANSWER, MOST_RECOVERY_S, Row

DEADLINE_MS, ALLOWED_MS = 150.0, 20.0
FPS = 30
PATIENCE_S = 60.0
MOST_GROWTH_MB = 64.0
"""Of a server or client through a fault: its engine makes graphs and buffers for what it has not run before."""


CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
DEVICE, ELSEWHERE = CORES[0], set(CORES[1:] or CORES)
"""A client's core, and those of its server and of strangers: these are other machines, and take no time from it."""


class Scene:
    """Four photographs in a folder, played over and over at 30 frames a second."""

    def __init__(self, right: Mapping[int, set[str]], pictures: Sequence[Pixels], folder: Path) -> None:
        self.folder = folder
        self.source = ("--source", str(folder / "pictures"), "--loop")
        (folder / "pictures").mkdir()
        for index, picture in enumerate(pictures):
            cv2.imwrite(str(folder / "pictures" / f"{index}.png"), picture)
        self._right = {f"{index}.png": labels for index, labels in right.items()}
        self._alone: float | None = None

    @property
    def alone_per_s(self) -> float:
        """Labelled answers a second that the device alone gives."""
        if self._alone is None:
            alone = self.client(self.folder / "alone", "--policy", "device-only", "--frames", str(4 * FPS))
            self._alone = per_s(alone.finish())
        return self._alone

    def client(self, folder: Path, *options: str, core: int | None = DEVICE, fps: float = FPS) -> ClientProcess:
        """A client that sends every frame from block3 on, unless the options say otherwise. core: None: any."""
        plan = () if {"--split", "--policy"} & set(options) else ("--split", "block3", "--threshold", "none")
        client = ClientProcess(folder, *self.source, "--fps", str(fps), *plan, *options)
        if core is not None:
            place(client.process.pid, {core})
        return client

    def judge(
        self, name: str, outs: Sequence[RunOutput], *, healthy: float | None = None,
        recovers_s: float = MOST_RECOVERY_S, most_no_answer: float = MOST_NO_ANSWER,
        least_over: float = LEAST_OVER_DEVICE_ONLY, growth_mb: float | None = None,
        most_growth_mb: float = MOST_GROWTH_MB, alone_per_s: float | None = None,
        excused: tuple[float, float] | None = None,
    ) -> Row:  # fmt: skip
        """Write the row down, and assert what every row asserts.

        Args:
            healthy: when the fault was over, of `time.monotonic`. growth_mb: of whatever process lived through it.
            alone_per_s: what the device alone gives under the fault. excused: from when to when the clients themselves
                were kept from running.
        """
        row = Row(
            name, frames=sum(out.summary["taken"] for out in outs),
            missed=sum(missed(out, excused) for out in outs),
            duplicates=sum(len(out.finals) - len({r["frame"] for r in out.finals}) for out in outs),
            wrong=sum(self._is_wrong(result) for out in outs for result in out.finals),
            no_answer=sum(len(out.unanswered) for out in outs),
            answers_over_device_only=round(
                sum(per_s(out, excused) for out in outs) / len(outs) / (alone_per_s or self.alone_per_s), 3
            ),
            recovery_s=None if healthy is None else recovery_s(outs, healthy),
            rss_growth_mb=None if growth_mb is None else round(growth_mb, 1),
        )  # fmt: skip
        row.write()
        print(row)
        for out in outs:
            at = [result["at_s"] for result in out.finals]
            late = [(r["frame"], r["reason"], round(r["age_ms"])) for r in out.late(DEADLINE_MS + ALLOWED_MS)]
            print(f"  {max(at) - min(at):.1f} s, late {late}, {out.summary}")
        assert (row.duplicates, row.wrong) == (0, 0)
        assert row.missed <= sum(out.few for out in outs), f"{row.missed} of {row.frames} missed"
        assert row.no_answer <= max(len(outs), most_no_answer * row.frames)
        assert row.answers_over_device_only is not None and row.answers_over_device_only >= least_over
        assert healthy is None or (row.recovery_s is not None and row.recovery_s <= recovers_s)
        assert growth_mb is None or growth_mb <= most_growth_mb
        assert not any("Traceback" in out.errors for out in outs)
        return row

    def _is_wrong(self, result: Mapping[str, Any]) -> bool:
        return result["label"] is not None and result["label"] not in self._right[Path(result["source"]).name]


def per_s(out: RunOutput, excused: tuple[float, float] | None = None) -> float:
    """Labelled answers a second, without the time that is excused."""
    at = [result["at_s"] for result in out.finals if result["label"] is not None]
    away = 0.0 if excused is None else excused[1] - excused[0]
    return len(at) / (max(at) - min(at) - away) if len(at) > 1 else 0.0


def missed(out: RunOutput, excused: tuple[float, float] | None = None) -> int:
    """Frames without a final result, or with one that is too late and that the machine does not excuse."""
    late = out.late(DEADLINE_MS + ALLOWED_MS)
    if excused is not None:  # captured before it was over, and answered as soon as it was
        late = [r for r in late if not (_captured(r) < excused[1] and r["at_s"] <= excused[1] + ALLOWED_MS / 1000)]
    return int(out.summary["taken"]) - len({r["frame"] for r in out.finals}) + len(late)


def _captured(result: Mapping[str, Any]) -> float:
    return float(result["at_s"]) - float(result["age_ms"]) / 1000


def recovery_s(outs: Sequence[RunOutput], healthy: float) -> float | None:
    """From then to the first answer of a server at the last of the clients, less what the machine stood still."""
    found = []
    for out in outs:
        at = [r["at_s"] for r in out.finals if r["where"] == "server" and r["at_s"] > healthy]
        if not at:
            return None
        found.append(min(at) - healthy - out.stalls.within_ms(healthy, min(at)) / 1000)
    return round(max(found), 3)


def place(pid: int, cores: set[int]) -> None:
    """Let all threads of a process, and those to come, run on these cores alone."""
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), cores)


@contextlib.contextmanager
def elsewhere(*pids: int) -> Iterator[None]:
    """Inside, these processes and this one leave the client's core alone."""
    every = (*pids, os.getpid())
    for pid in every:
        place(pid, ELSEWHERE)
    try:
        yield
    finally:
        for pid in every:
            place(pid, set(CORES))


@contextlib.contextmanager
def served(*options: str, port: int = 0) -> Iterator[ServerProcess]:
    """As `server`, on other cores than the client's from its first moment."""
    with contextlib.ExitStack() as stack:
        with elsewhere():
            running = stack.enter_context(server(*options, port=port))
        yield running


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise KeyError("VmRSS")


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll until it holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"no {what} within {PATIENCE_S} s"
        time.sleep(0.1)


def wait_for_server(client: ClientProcess, after: int = 0, count: int = 1) -> None:
    """Until a server has answered `count` frames after these results."""
    wait_for(lambda: sum(r["where"] == "server" for r in client.results()[after:]) >= count, "server answer")


def recover(*clients: ClientProcess) -> float:
    """Run until a server has answered each of them again, and a while longer; gives when the wait began."""
    healthy = time.monotonic()
    for client in clients:
        wait_for_server(client, after=len(client.results()))
        run_for(client, 1.0)
    return healthy


def run_for(client: ClientProcess, seconds: float) -> None:
    """Let it run; it must not end meanwhile."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert client.process.poll() is None, "the client has ended"
        time.sleep(0.05)
