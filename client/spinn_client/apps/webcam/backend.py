"""The processes that the demo starts, `spinn serve` and `spinn shape`, and the network that is imposed between them."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from spinn_stream.bundle import DEFAULT_BUNDLE
from spinn_stream.errors import ConfigError, SpinnError
from spinn_stream.trace import Trace, parse_csv

READY_S = 180.0
"""The first start of a server measures its machine."""

END_S = 5.0
CONTROL_S = 2.0
SHORTEST_STEP_S = 0.1
"""Samples of a trace that come sooner than this after another are left out."""


BEGIN = """
import os, signal, threading
from spinn_stream.cli.main import main
def end_with_parent():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=end_with_parent, daemon=True).start()
main()
"""
"""How our child processes begin: each ends when we do, even if we are killed, since its standard input closes then."""


@dataclass(frozen=True)
class Link:
    """The imposed link to the server. mbps: of each direction; None: unlimited. loss: 0 to 1."""

    mbps: float | None = None
    rtt_ms: float = 0.0
    loss: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {"up_mbps": self.mbps, "down_mbps": self.mbps, "rtt_ms": self.rtt_ms, "loss": self.loss}


class Child:
    """A `spinn` process that says `ready ADDRESS` once it works.

    Args:
        on_end: called in a thread if the process ends by itself, with its last line of standard error.
    """

    def __init__(self, *arguments: str, on_end: Callable[[str], object] = lambda why: None) -> None:
        self.name = f"spinn {arguments[0]}"
        self._lines: list[str] = []
        self._said: deque[str] = deque(maxlen=20)
        self._ready = threading.Event()
        self._wanted = True
        self._on_end = on_end
        self._process = subprocess.Popen(
            [sys.executable, "-c", BEGIN, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            start_new_session=True,  # Ctrl-C at the terminal is for us, and we end it
        )  # fmt: skip
        threading.Thread(target=self._listen, name=f"{self.name} stdout", daemon=True).start()
        self._errors = threading.Thread(target=self._hear_errors, name=f"{self.name} stderr", daemon=True)
        self._errors.start()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self, lines: int = 1) -> list[str]:
        """The text behind the first word (such as `ready`) of each of its first lines.

        Raises:
            SpinnError: it ended instead, or takes too long.
        """
        until = time.monotonic() + READY_S
        while len(self._lines) < lines and self.running and time.monotonic() < until:
            self._ready.wait(0.2)
            self._ready.clear()
        if len(self._lines) < lines:
            self._errors.join(1)
            raise SpinnError(f"{self.name} did not start: {self.last_words}")
        return [line.partition(" ")[2] for line in self._lines[:lines]]

    @property
    def last_words(self) -> str:
        """The last line of its standard error."""
        return next((line for line in reversed(self._said) if line.strip()), "it said nothing").strip()

    def kill(self) -> None:
        """kill -9, as a fault."""
        self._wanted = False
        self._process.kill()
        self._process.wait(END_S)

    def close(self) -> None:
        """End it cleanly, or else by force."""
        self._wanted = False
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(END_S)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if len(self._lines) < 2:
                self._lines.append(line.strip())
            self._ready.set()
        self._process.wait()
        self._ready.set()
        if self._wanted:
            self._errors.join(1)
            self._on_end(f"{self.name} ended with exit code {self._process.returncode}: {self.last_words}")

    def _hear_errors(self) -> None:
        assert self._process.stderr is not None
        self._said.extend(self._process.stderr)


class Shaper:
    """A `spinn shape` in front of a server."""

    def __init__(self, host: str, port: int, on_end: Callable[[str], object]) -> None:
        self._child = Child(
            "shape", "--listen", "127.0.0.1:0", "--to", f"{host}:{port}", "--control", "127.0.0.1:0", on_end=on_end
        )
        try:
            address, self._control = self._child.wait_ready(lines=2)
        except BaseException:
            self._child.close()
            raise
        self.url = f"ws://{address}"

    def impose(self, **settings: Any) -> None:
        """See the shaper's control endpoint.

        Raises:
            SpinnError: it refuses the settings, or is gone.
        """
        request = urllib.request.Request(f"http://{self._control}/", json.dumps(settings).encode())
        try:
            with urllib.request.urlopen(request, timeout=CONTROL_S):
                pass
        except OSError as error:
            raise SpinnError(f"the shaper does not answer ({error}): {self._child.last_words}") from error

    def close(self) -> None:
        self._child.close()


class Backend:
    """The server (our own, or a given one) behind our own links. Methods block and may be called in any thread.

    Args:
        named: ws://HOST:PORT of a server that runs already; None: one of our own. say: gets one line for people.
        bundle, runtime: of our own server.
    """

    def __init__(
        self, named: str | None, say: Callable[[str], object], *, bundle: Path = DEFAULT_BUNDLE, runtime: str = "auto"
    ) -> None:
        self.named, self._say, self._bundle, self._runtime = named, say, bundle, runtime
        self.shaped = named is None or named.lower().startswith("ws://")  # TLS would not know us by another name
        self.link, self.outage, self.playing = Link(), False, ""
        self.server: Child | None = None
        self.starting = False
        self._port = _free_port() if named is None else 0
        self._shapers: list[Shaper] = []
        self._lock = threading.RLock()
        self._trace_ended = threading.Event()
        self._closed = False

    @property
    def running(self) -> bool:
        """Whether our own server's process runs."""
        return self.server is not None and self.server.running

    def way(self) -> str:
        """The address of a new link to the server, with a capacity of its own.

        Raises:
            SpinnError: the shaper cannot be started, as its package is not installed.
        """
        if not self.shaped:
            assert self.named is not None
            return self.named
        found = urlsplit(self.named or f"ws://127.0.0.1:{self._port}")
        try:
            host, port = found.hostname or "127.0.0.1", found.port or 80
        except ValueError as error:
            raise ConfigError(f"the server is {self.named!r}, expected ws://HOST:PORT") from error
        shaper = Shaper(f"[{host}]" if ":" in host else host, port, self._ended)
        with self._lock:
            self._shapers.append(shaper)
        self._impose()
        return shaper.url

    def end_way(self, url: str) -> None:
        """Close a link that `way` gave."""
        with self._lock:
            ended = [shaper for shaper in self._shapers if shaper.url == url]
            self._shapers = [shaper for shaper in self._shapers if shaper.url != url]
        for shaper in ended:
            shaper.close()

    def start_server(self) -> None:
        """Start our server, or start it again.

        Raises:
            SpinnError: it does not start.
        """
        if self.named is not None:
            raise ConfigError(f"the server {self.named} is not ours: start it where it runs")
        with self._lock:
            if self._closed or self.running:
                return
            self.starting = True
            child = self.server = Child(
                "serve", "--port", str(self._port), "--bundle", str(self._bundle), "--runtime", self._runtime,
                on_end=self._ended,
            )  # fmt: skip
        try:
            child.wait_ready()
        finally:
            self.starting = False

    def kill_server(self) -> None:
        """kill -9.

        Raises:
            ConfigError: it is not ours.
        """
        if self.named is not None:
            raise ConfigError(f"the server {self.named} is not ours: it cannot be killed from here")
        if self.server is not None:
            self.server.kill()

    def set_link(self, link: Link) -> None:
        """Impose this instead of the present link or trace."""
        self._trace_ended.set()
        self.playing, self.link = "", link
        self._impose()

    def set_outage(self, outage: bool) -> None:
        """Nothing moves in either direction, until it is over."""
        self.outage = outage
        self._impose()

    def play(self, name: str, trace: Trace) -> None:
        """Impose a trace from its beginning, again and again. Fields that it does not record stay as they are."""
        self._trace_ended.set()
        self._trace_ended = threading.Event()
        self.playing = name
        threading.Thread(target=self._play, args=(trace, self._trace_ended), name="trace", daemon=True).start()

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            self._closed = True
            children: list[Shaper | Child] = [*self._shapers, *([self.server] if self.server else [])]
            self._shapers = []
        self._trace_ended.set()
        for child in children:
            child.close()

    def _impose(self) -> None:
        with self._lock:
            for shaper in self._shapers:
                shaper.impose(**self.link.as_json(), stall=self.outage)

    def _play(self, trace: Trace, ended: threading.Event) -> None:
        began, last = time.monotonic(), -math.inf
        times = trace.times_s.tolist()
        while True:
            for index, at_s in enumerate(times):
                if at_s < last + SHORTEST_STEP_S:
                    continue
                last = at_s
                if ended.wait(max(0.0, began + at_s - time.monotonic())):
                    return
                given = {name: float(trace.values(name)[index]) for name in trace.recorded}
                self.link = replace(
                    self.link, mbps=given.get("up_mbps", given.get("down_mbps", self.link.mbps)),
                    rtt_ms=given.get("rtt_ms", self.link.rtt_ms), loss=given.get("loss", self.link.loss),
                )  # fmt: skip
                try:
                    self._impose()
                except SpinnError as error:
                    self._say(str(error))
            began, last = began + trace.duration_s, -math.inf

    def _ended(self, why: str) -> None:
        if not self._closed:
            self._say(why)


def traces_in(folder: Path | None) -> dict[str, Path]:
    """Recorded networks by name: the CSV files of a folder, or those of this checkout if none is named."""
    folder = folder or Path(__file__).parents[4] / "traces" / "data"
    return {path.stem: path for path in sorted(folder.glob("*.csv"))}


def read_trace(path: Path) -> Trace:
    """A trace in our own CSV form.

    Raises:
        TraceError: it is none. ConfigError: the file cannot be read.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the trace {path}: {error}") from error
    return parse_csv(enumerate(lines, 1), str(path))[0]


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
