"""Real processes for tests: `spinn serve` and `spinn run` as a user starts them."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from spinn_stream.cli.main import call

from .bundles import LITE2_200
from .stalls import Stalls

SPINN = Path(sys.executable).parent / "spinn"
READY_TIMEOUT_S = 180  # `auto` measures every engine first
RUN_TIMEOUT_S = 180


@dataclass
class ServerProcess:
    """A running `spinn serve`."""

    process: subprocess.Popen[str]
    address: str

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
            return str(response.read().decode())

    def metric(self, name: str) -> float:
        """The value of one line of /metrics, named with its labels; without them, the sum over all labels."""
        starts = (name + " ",) if name.endswith("}") else (name + " ", name + "{")
        values = [line.rpartition(" ")[2] for line in self.get("/metrics").splitlines() if line.startswith(starts)]
        if not values:
            raise KeyError(name)
        return sum(map(float, values))

    def memory_bytes(self) -> int:
        """Resident set size, from /proc."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
        raise KeyError("VmRSS")

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(timeout=10)


def wait_ready(process: subprocess.Popen[str]) -> str:
    """The address in the line `ready ADDRESS`."""
    timer = threading.Timer(READY_TIMEOUT_S, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
    finally:
        timer.cancel()
    assert line.startswith("ready "), f"got {line!r} instead of a ready line"
    return line.split()[1]


def _completed(options: tuple[str, ...]) -> tuple[str, ...]:
    """Both ends on one engine, if none is named: `auto` depends on how busy the machine is. So with the bundle."""
    usual = {"--runtime": "onnxruntime", "--bundle": str(LITE2_200)}
    return (*options, *(part for name, value in usual.items() if name not in options for part in (name, value)))


@contextlib.contextmanager
def _gone_at_the_end(process: subprocess.Popen[str]) -> Iterator[None]:
    """However the block ends, nothing of the process is left."""
    try:
        yield
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def server(*options: str, port: int = 0) -> Iterator[ServerProcess]:
    """`spinn serve` on a free port, until the block ends; it must end well unless it was killed."""
    with _started([str(SPINN), "serve", "--port", str(port), *_completed(options)]) as running:
        yield running


@contextlib.contextmanager
def asgi_server() -> Iterator[ServerProcess]:
    """The same server behind uvicorn, with the small bundle."""
    with _started([sys.executable, "-m", "tests.asgi_server"]) as running:
        yield running


@contextlib.contextmanager
def _started(command: list[str]) -> Iterator[ServerProcess]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with _gone_at_the_end(process):
        yield ServerProcess(process, wait_ready(process))
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=15) == 0


@dataclass
class ShaperProcess:
    """A running `spinn shape` with a control endpoint."""

    process: subprocess.Popen[str]
    port: int  # connect here
    control_port: int

    def state(self, changes: dict[str, Any] | None = None) -> dict[str, Any]:
        """Its state, after changes if there are any."""
        data = None if changes is None else json.dumps(changes).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.control_port}/", data, timeout=5) as response:
            found: dict[str, Any] = json.load(response)
        return found


@contextlib.contextmanager
def shaper(target_port: int, *options: str, errors: Path | None = None) -> Iterator[ShaperProcess]:
    """`spinn shape` before a server on this machine, until the block ends; it must end well. errors: for its stderr."""
    command = [str(SPINN), "shape", "--listen", "127.0.0.1:0", "--to", f"127.0.0.1:{target_port}"]
    command += ["--control", "127.0.0.1:0", *options]
    with contextlib.ExitStack() as stack:
        said = stack.enter_context(errors.open("w")) if errors is not None else subprocess.DEVNULL
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True)
        stack.enter_context(_gone_at_the_end(process))
        port = wait_ready(process).rpartition(":")[2]
        assert process.stdout is not None
        control = process.stdout.readline()
        assert control.startswith("control ")
        yield ShaperProcess(process, int(port), int(control.rpartition(":")[2]))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0


@dataclass
class RunOutput:
    """What one `spinn run` wrote."""

    results: list[dict[str, Any]]
    summary: dict[str, Any]
    errors: str
    stalls: Stalls

    @property
    def finals(self) -> list[dict[str, Any]]:
        return [r for r in self.results if r["kind"] == "final"]

    @property
    def labels(self) -> dict[int, str]:
        return {r["frame"]: r["label"] for r in self.finals}

    def check_contract(self, deadline_ms: float) -> None:
        """One final result for each frame taken in, within 20 ms of its deadline; the summary adds up.

        While the machine let nobody run, no deadline ran either; and a few frames may be up to 100 ms later.
        """
        frames = Counter(r["frame"] for r in self.finals)
        assert set(frames.values()) <= {1}, "a frame has several final results"
        s = self.summary
        assert len(frames) == s["taken"] == s["final"] == s["device"] + s["server"] + s["fallback"]
        assert s["captured"] == s["taken"] + s["dropped"]
        late = self.late(deadline_ms + 20)
        assert len(late) <= self.few, f"{len(late)} finals after deadline + 20 ms: {late[:3]}"
        very_late = self.late(deadline_ms + 120)
        assert not very_late, f"finals long after their deadline: {very_late}"

    @property
    def few(self) -> int:
        """Frames that may suffer from what nobody sees: the client's threads wait for each other, and for a core."""
        return max(1, len(self.finals) // 100)

    def late(self, allowed_ms: float) -> list[dict[str, Any]]:
        """Final results that are older than allowed by more than the machine stood still meanwhile."""
        old = (r for r in self.finals if r["age_ms"] > allowed_ms)
        return [r for r in old if r["age_ms"] > allowed_ms + self._stood_still_ms(r)]

    @property
    def unanswered(self) -> list[dict[str, Any]]:
        """Final results without an answer for which the machine is not to blame."""
        return [r for r in self.finals if r["reason"] == "no_answer" and not self._stood_still_ms(r)]

    def _stood_still_ms(self, result: dict[str, Any]) -> float:
        return self.stalls.within_ms(result["at_s"] - result["age_ms"] / 1000, result["at_s"])


class ClientProcess:
    """A running `spinn run` that writes its results to files."""

    running: ClassVar[list[ClientProcess]] = []
    """Those that were begun since `kill_all`."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.jsonl, self.summary = folder / "results.jsonl", folder / "summary.json"
        command = [
            str(SPINN),
            "run",
            "--jsonl",
            str(self.jsonl),
            "--summary",
            str(self.summary),
            *_completed(options),
        ]
        self.stalls = Stalls()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.running.append(self)

    @classmethod
    def kill_all(cls) -> None:
        """What a test that failed has left behind."""
        for client in cls.running:
            client.process.kill()
            client.process.wait()
            client.stalls.end()
        cls.running.clear()

    def results(self) -> list[dict[str, Any]]:
        """The lines written so far."""
        if not self.jsonl.exists():
            return []
        return [json.loads(line) for line in self.jsonl.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def ended_by(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal and wait for the end: exit code, and what it said on stderr."""
        self.process.send_signal(number)
        try:
            _, errors = self.process.communicate(timeout=RUN_TIMEOUT_S)
        finally:
            self.process.kill()
            self.stalls.end()
        return self.process.returncode, errors

    def finish(self, *, interrupt: bool = False, code: int = 0) -> RunOutput:
        """Wait for its end (after Ctrl-C, if so asked); its exit code must be this one."""
        if interrupt:
            self.process.send_signal(signal.SIGINT)
        try:
            _, errors = self.process.communicate(timeout=RUN_TIMEOUT_S)
        finally:
            self.process.kill()
            self.stalls.end()
        assert self.process.returncode == code, errors
        return RunOutput(self.results(), json.loads(self.summary.read_text()), errors, self.stalls)


def run_client(folder: Path, *options: str) -> RunOutput:
    """`spinn run` to its end."""
    return ClientProcess(folder, *options).finish()


def said(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What a `spinn` command says. Runs in this process: the imports take one of its own 1 s, and torch's 3 s."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = call(list(arguments))
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())


def spinn(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Any `spinn` command to its end."""
    return subprocess.run([str(SPINN), *arguments], capture_output=True, text=True, timeout=timeout, check=False)
