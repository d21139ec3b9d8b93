"""The real processes of a run: started, waited for with a time-out, and always ended at the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from spinn_stream.errors import SpinnError

SPINN = (sys.executable, "-m", "spinn_stream.cli.main")
T = TypeVar("T")

POLL_S = 0.005
HTTP_TIMEOUT_S = 5.0
_FRAME = " \t│╭╰╮╯─"
"""Lines that Typer draws around its errors."""


class RunFailed(SpinnError):
    """A process of a run failed or did not answer in time; the message says which and why."""


@dataclass(frozen=True)
class Running:
    """A process; its output goes to files."""

    name: str
    process: subprocess.Popen[bytes]
    said: Path
    errors: Path

    def check(self) -> None:
        """Raises RunFailed: it has ended."""
        if self.process.poll() is not None:
            raise RunFailed(f"{self.name} ended with exit code {self.process.returncode}: {self.why()}")

    def why(self) -> str:
        """The last line on its standard error."""
        lines = [line.strip(_FRAME) for line in self.errors.read_text(errors="replace").splitlines()]
        return next((line[:300] for line in reversed(lines) if line), "it said nothing")

    def line(self, start: str, timeout_s: float) -> str:
        """The rest of the first line of its standard output that begins with `start`.

        Raises:
            RunFailed: it ended, or did not print such a line in time.
        """

        def found() -> str | None:
            lines = self.said.read_text(errors="replace").splitlines(keepends=True)
            return next((x[len(start) :].strip() for x in lines if x.startswith(start) and x.endswith("\n")), None)

        return self.wait(found, timeout_s, f"did not say `{start.strip()}`")

    def wait(self, found: Callable[[], T | None], timeout_s: float, otherwise: str) -> T:
        """Call `found` until it gives something.

        Raises:
            RunFailed: the process ended first, or the time is over.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            thing = found()
            if thing is not None:
                return thing
            self.check()
            time.sleep(POLL_S)
        raise RunFailed(f"{self.name} {otherwise} within {timeout_s:g} s")

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def finish(self, timeout_s: float) -> None:
        """Wait until it ends with exit code 0.

        Raises:
            RunFailed: it ended with another code, or not in time.
        """
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise RunFailed(f"{self.name} did not end within {timeout_s:g} s") from None
        if self.process.returncode:
            self.check()


@contextlib.contextmanager
def started(name: str, arguments: Sequence[str], folder: Path, core: int | None) -> Iterator[Running]:
    """`spinn ARGUMENTS` on one core, until the block ends."""
    said, errors = folder / f"{name}.out", folder / f"{name}.err"
    with said.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            [*SPINN, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )  # a session of its own: Ctrl-C is ours, and we end it
    try:
        if core is not None:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(process.pid, {core})  # it has one thread yet; those to come inherit this
        yield Running(name, process, said, errors)
    finally:
        process.kill()
        process.wait()


def get(port: int, path: str = "/", changes: dict[str, Any] | None = None) -> str:
    """GET, or POST if there are changes, on this machine.

    Raises:
        RunFailed: no good answer.
    """
    data = None if changes is None else json.dumps(changes).encode()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data, timeout=HTTP_TIMEOUT_S) as answer:
            return str(answer.read().decode())
    except (OSError, ValueError) as error:
        raise RunFailed(f"port {port}{path} does not answer: {error}") from error


def metric(port: int, name: str) -> float:
    """The value of a line of /metrics, named with its labels. Raises RunFailed: there is none."""
    for line in get(port, "/metrics").splitlines():
        if line.startswith(name + " "):
            return float(line.rpartition(" ")[2])
    raise RunFailed(f"the server has no metric {name}")
