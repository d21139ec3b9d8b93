"""Does anything grow, and is any frame lost, while things fail at random for a long time?

    python benchmarks/soak.py [--minutes 2 | --hours H] [--seed N] [--json]

Two real servers, each behind a shaper, and three real clients that use both: with a policy, with a plan that sends
activations, and with one that sends frames. Every few seconds something fails, drawn at random from a seed that is
printed: a link stalls, becomes slow or far, or is reset; a server is stopped for a while, killed, or asked to end; a
client dies; strangers send noise. Only the second server is ever ended, so that the first one can be followed.

Each second memory (resident), files, threads and tasks of the first server and of each client are noted. A figure is
flat if its median over the last third is not above that of the middle third by more than said below. Exit code 1:
something is not flat, or a frame had no final result, or two, or one that came too late. A frame is excused for as long
as the machine let nobody run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from spinn_traces.replay.run.processes import Running, get, metric, started  # noqa: E402
from tests.stalls import Stalls  # noqa: E402

BUNDLE = ROOT / "benchmarks" / "bundles" / "lite2-200"
CLIENTS = {"planning": "plan", "activations": "block3", "frames": "input"}
READY_S = 120.0
PAUSE_S = (1.0, 4.0)  # between two faults
FAULT_S = (0.3, 4.0)
LIMIT_MS = 170.0  # deadline, and what is allowed beyond
FEW_MS, FEW = 100.0, 0.01  # a few frames may be this much later: a client's threads wait for each other, and for a core
SERVER_OPTIONS = ("--runtime", "onnxruntime", "--bundle", str(BUNDLE))

FLAT = {"memory_mb": (0.05, 8.0), "files": (0.0, 3.0), "threads": (0.0, 2.0), "tasks": (0.0, 6.0)}
"""Figure -> growth that still counts as flat: as a share, and at least. Connections come and go with faults."""


class Server:
    """`spinn serve` behind `spinn shape`; both keep their ports when they are started again."""

    def __init__(self, name: str, folder: Path, stack: contextlib.ExitStack) -> None:
        self.name, self._folder, self._stack = name, folder, stack
        self.port, self.shaped, self.control = free_ports(3)
        self.process = self._serve(0)
        self.process.line("ready ", READY_S)
        self._shaper = self._shape(0)
        self._starts = 0

    def _serve(self, number: int) -> Running:
        arguments = ("serve", "--port", str(self.port), *SERVER_OPTIONS)
        return self._stack.enter_context(started(f"{self.name}-{number}", arguments, self._folder, None))

    def _shape(self, number: int) -> Running:
        arguments = ("shape", "--listen", f"127.0.0.1:{self.shaped}", "--to", f"127.0.0.1:{self.port}",
                     "--control", f"127.0.0.1:{self.control}")  # fmt: skip
        shaper = self._stack.enter_context(started(f"shape-{self.name}-{number}", arguments, self._folder, None))
        shaper.line("control ", READY_S)
        return shaper

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.shaped}"

    def impose(self, changes: dict[str, Any]) -> None:
        get(self.control, changes=changes)

    def reset(self) -> None:
        """End every connection, whatever is on its way."""
        self._shaper.process.kill()
        self._shaper.process.wait()
        self._starts += 1
        self._shaper = self._shape(self._starts)

    def stop(self, seconds: float) -> None:
        self.process.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.process.process.send_signal(signal.SIGCONT)

    def end(self, number: signal.Signals, seconds: float) -> None:
        """End it, and start it again after a while."""
        self.process.process.send_signal(number)
        code = self.process.process.wait(15)
        assert code == (0 if number == signal.SIGTERM else -number), f"{self.name} ended with {code}"
        time.sleep(seconds)
        self._starts += 1
        self.process = self._serve(self._starts)
        self.process.line("ready ", READY_S)


class Client:
    """A running benchmarks/soak_client.py; `figures` are what it told, with the second in which it did."""

    def __init__(self, split: str, servers: list[Server], began: float) -> None:
        command = [sys.executable, str(ROOT / "benchmarks" / "soak_client.py"), split, *(s.address for s in servers)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.figures: list[tuple[float, dict[str, Any]]] = []
        self._began = began
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.figures.append((time.monotonic() - self._began, json.loads(line)))

    def finish(self) -> None:
        """Ends it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self._reading.join(20)
        self.process.wait(5)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reading.join(20)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def strangers(port: int, rng: random.Random) -> None:
    """Noise, and a connection that says nothing more."""
    for _ in range(20):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
            sock.sendall(rng.choice((b"GET / HTTP/1.1\r\n", rng.randbytes(500), b"GET /metrics HTTP/1.1\r\n\r\n", b"")))


def faults(servers: list[Server], rng: random.Random, began: float) -> list[tuple[str, Callable[[float], None]]]:
    """Name, and what makes it for a number of seconds."""
    first, second = servers

    def for_a_while(server: Server, **changes: Any) -> Callable[[float], None]:
        def fault(seconds: float) -> None:
            server.impose(changes)
            time.sleep(seconds)
            server.impose({"stall": False, "up_mbps": None, "down_mbps": None, "rtt_ms": 0.0, "refuse": False})

        return fault

    def client_dies(seconds: float) -> None:
        client = Client("input", servers, began)
        time.sleep(2 + seconds)
        client.kill()

    made: list[tuple[str, Callable[[float], None]]] = [
        ("a client dies", client_dies),
        ("the first server is stopped", first.stop),
        ("the second server is stopped", second.stop),
        ("the second server is killed", lambda seconds: second.end(signal.SIGKILL, seconds)),
        ("the second server is asked to end", lambda seconds: second.end(signal.SIGTERM, seconds)),
        ("strangers at the first server", lambda seconds: strangers(first.port, rng)),
    ]
    for server, which in ((first, "first"), (second, "second")):
        made += [
            (f"the {which} link stalls", for_a_while(server, stall=True)),
            (f"the {which} link is slow", for_a_while(server, up_mbps=0.1, down_mbps=0.1)),
            (f"the {which} link is far", for_a_while(server, rtt_ms=400.0)),
            (f"the {which} link is reset", lambda seconds, server=server: server.reset()),
            (f"the {which} link is reset and refused",
             lambda seconds, server=server: (server.reset(), for_a_while(server, refuse=True)(seconds))),
        ]  # fmt: skip
    return made


def server_figures(server: Server) -> dict[str, float]:
    pid = server.process.process.pid
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "memory_mb": int(status["VmRSS"].split()[0]) / 1024,
        "files": len(os.listdir(f"/proc/{pid}/fd")),  # noqa: PTH208
        "threads": int(status["Threads"]),
        "tasks": metric(server.port, "spinn_tasks"),
    }


class Watch:
    """Notes the first server's figures each second, whenever it answers."""

    def __init__(self, server: Server, began: float) -> None:
        self.figures: list[tuple[float, dict[str, Any]]] = []
        self._server, self._began = server, began
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            with contextlib.suppress(Exception):  # it is stopped just now
                self.figures.append((time.monotonic() - self._began, server_figures(self._server)))

    def end(self) -> None:
        self._stop.set()
        self._thread.join(10)


def grown(figures: list[tuple[float, dict[str, Any]]], name: str, seconds: float) -> dict[str, Any]:
    """How much a figure grew from the middle third to the last."""
    thirds = [
        [told[name] for at, told in figures if third / 3 <= at / seconds < (third + 1) / 3 and name in told]
        for third in (1, 2)
    ]
    middle, last = (statistics.median(values) for values in thirds)
    share, least = FLAT[name]
    growth = last - middle
    return {
        "from": round(middle, 1), "to": round(last, 1), "an_hour": round(growth / (seconds / 3) * 3600, 1),
        "flat": growth <= max(least, share * middle),
    }  # fmt: skip


def judged(client: Client, stalls: Stalls) -> dict[str, Any]:
    """What a client's frames came to. late: finals that the machine does not excuse."""
    ended = next((told for _, told in client.figures if told.get("ended")), None)
    if ended is None:
        said = "" if client.process.stderr is None else client.process.stderr.read()[-1000:]
        return {"ended": False, "said": said}
    every = [tuple(late) for _, told in client.figures for late in told["late"]]
    over = [age - LIMIT_MS - stalls.within_ms(at - age / 1000, at) for at, age in every]
    late = [ms for ms in over if ms > 0]
    return {
        "ended": True, "frames": ended["taken"], "missed": ended["taken"] - ended["finals"] + ended["duplicates"],
        "duplicates": ended["duplicates"], "no_answer": ended["no_answer"], "server": ended["server"],
        "late": len(late), "latest_ms": round(max(late, default=0.0)),
    }  # fmt: skip


def good(frames: dict[str, Any]) -> bool:
    return bool(
        frames["ended"]
        and frames["missed"] == frames["duplicates"] == 0
        and frames["late"] <= FEW * frames["frames"]
        and frames["latest_ms"] <= FEW_MS
    )


def soak(seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        servers = [Server(name, Path(temporary), stack) for name in ("first", "second")]
        stalls, began = Stalls(), time.monotonic()
        watch = Watch(servers[0], began)
        clients = {name: Client(split, servers, began) for name, split in CLIENTS.items()}
        drawn: list[str] = []
        try:
            choice = faults(servers, rng, began)
            while time.monotonic() - began < seconds:
                time.sleep(rng.uniform(*PAUSE_S))
                name, fault = rng.choice(choice)
                lasts = rng.uniform(*FAULT_S)
                say(f"{time.monotonic() - began:6.1f} s: {name}, {lasts:.1f} s")
                drawn.append(name)
                fault(lasts)
        finally:
            took = time.monotonic() - began
            watch.end()
            for client in clients.values():
                client.finish()
            stalls.end()
        answered = metric(servers[0].port, "spinn_sessions")
        told = [path.read_text(errors="replace") for path in Path(temporary).glob("*.err")]
    figures = {"first server": watch.figures, **{name: client.figures for name, client in clients.items()}}
    frames = {name: judged(client, stalls) for name, client in clients.items()}
    growth = {who: {name: grown(of, name, took) for name in FLAT} for who, of in figures.items()}
    tracebacks = sum(text.count("Traceback") for text in told)
    return {
        "seconds": round(took), "seed": seed, "faults": len(drawn), "frames": frames, "growth": growth,
        "sessions_left": answered, "tracebacks": tracebacks,
        "good": all(map(good, frames.values())) and tracebacks == 0
        and all(one["flat"] for of in growth.values() for one in of.values()),
    }  # fmt: skip


def show(found: dict[str, Any]) -> None:
    console = Console()
    table = Table("", *FLAT, box=None, title="middle third -> last third (growth an hour)")
    for who, of in found["growth"].items():
        cells = (
            f"{x['from']:g} -> {x['to']:g} ({x['an_hour']:+g}){'' if x['flat'] else ' NOT FLAT'}" for x in of.values()
        )
        table.add_row(who, *cells)
    console.print(table)
    columns = ("frames", "missed", "duplicates", "late", "latest_ms", "no_answer", "server")
    table = Table("", *columns, box=None, title="frames")
    for who, of in found["frames"].items():
        table.add_row(who, *(str(of.get(name)) for name in columns))
    console.print(table)
    print(f"{found['faults']} faults in {found['seconds']} s; {found['tracebacks']} tracebacks; good: {found['good']}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=2.0)
    length.add_argument("--hours", type=float)
    parser.add_argument("--seed", type=int, help="draw the same faults again")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if args.seed is None else args.seed
    print(f"seed {seed}", file=sys.stderr, flush=True)
    seconds = 60 * args.minutes if args.hours is None else 3600 * args.hours
    found = soak(seconds, seed, lambda text: print(text, file=sys.stderr, flush=True))
    if args.json:
        print(json.dumps(found))
    else:
        show(found)
    return int(not found["good"])


if __name__ == "__main__":
    sys.exit(main())
