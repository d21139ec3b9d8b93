"""Does the shaper impose what it is told, and what does it cost when it imposes nothing?

    python benchmarks/shaper.py [--json] [--seconds 20] [--trace FILE ...]

Real processes on one machine: `spinn shape` on core 1, sender and receiver on core 0.

- bytes: one sender that always has more. In every window of one second (beginning or ending with a delivery) the bytes
  that came, against those that are due; in Mb/s constant, and with stretches of traces.
- delay: messages of 100 bytes, now and then, on a link without other traffic and 40 ms round trip: how much later than
  due they come, one way, on one clock.
- price: round trips of 100 bytes and of 10 kB through a shaper that imposes nothing, less those without it.
- tbf: the same sender through the kernel's token bucket into a network namespace, if we may make one as root. It counts
  1514 bytes where the shaper counts 1448; what is due is told accordingly. Its sender uses cubic.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from spinn_traces.readers import read_trace

HERE = Path(__file__)
SPINN = Path(sys.executable).parent / "spinn"
SHIPPED = HERE.parent.parent / "traces" / "data" / "lte-driving.csv"
REAL = HERE.parent.parent.parent / "shared" / "traces"
REAL_TRACES = ("mahimahi-TMobile-UMTS-driving.up", "zhuge-rest-wifi_14.txt")
RATES_MBPS = (0.1, 1.0, 10.0, 50.0)
RTT_MS = 40.0
MESSAGE_BYTES = 100
MESSAGES = 400
ROUND_TRIPS = 2000
SEGMENT = 1448
FRAME = 1514  # on Ethernet, without its check sum
WINDOW_S = 1.0
NAMESPACE = "spinn-bench"

Array = npt.NDArray[np.float64]


# Processes: this file again, with a role


def sink(host: str, out: str) -> None:
    """Take one connection's bytes; write when how many came."""
    with socket.create_server((host, 0)) as server:
        print(server.getsockname()[1], flush=True)
        peer, _ = server.accept()
    came: list[tuple[float, int]] = []
    with contextlib.suppress(ConnectionResetError):
        while data := peer.recv(1 << 18):
            came.append((time.monotonic(), len(data)))
    np.save(out, np.array(came))


def flood(host: str, port: str, seconds: str) -> None:
    """Send as much as is taken; print when it began and stopped."""
    with socket.create_connection((host, int(port))) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        began = time.monotonic()
        while (left := began + float(seconds) - time.monotonic()) > 0:
            peer.settimeout(left)
            with contextlib.suppress(TimeoutError):
                peer.send(bytes(16_384))
        print(json.dumps([began, time.monotonic()]), flush=True)


def hear(host: str, out: str) -> None:
    """Take one connection's stamped messages; write how old each was, in ms."""
    with socket.create_server((host, 0)) as server:
        print(server.getsockname()[1], flush=True)
        peer, _ = server.accept()
    ages, data = [], b""
    while piece := peer.recv(4096):
        data += piece
        while len(data) >= MESSAGE_BYTES:
            ages.append(1000 * (time.monotonic() - struct.unpack_from("d", data)[0]))
            data = data[MESSAGE_BYTES:]
    np.save(out, np.array(ages))


def tell(host: str, port: str) -> None:
    """Send stamped messages now and then."""
    rng = random.Random(1)
    with socket.create_connection((host, int(port))) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(MESSAGES):
            time.sleep(rng.uniform(0.015, 0.035))
            peer.sendall(struct.pack("d", time.monotonic()).ljust(MESSAGE_BYTES, b"\0"))


def echo(host: str, out: str) -> None:
    """Send back what comes, one connection after the other."""
    with socket.create_server((host, 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            peer, _ = server.accept()
            with peer, contextlib.suppress(ConnectionResetError):
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while data := peer.recv(1 << 18):
                    peer.sendall(data)


ROLES: dict[str, Callable[..., None]] = {f.__name__: f for f in (sink, flood, hear, tell, echo)}


def start(role: str, *arguments: str, prefix: tuple[str, ...] = (), core: int = 0) -> subprocess.Popen[str]:
    command = [*prefix, "taskset", "-c", str(core), sys.executable, str(HERE), "--role", role, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, "a process ended without a word"
    return line


@contextlib.contextmanager
def shaper(target: str, *options: str) -> Iterator[tuple[str, int]]:
    """`spinn shape` on core 1; gives its port and that of its control endpoint."""
    command = ["taskset", "-c", "1", str(SPINN), "shape", "--listen", "127.0.0.1:0", "--to", target]
    process = subprocess.Popen(
        [*command, "--control", "127.0.0.1:0", *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        ready, control = said(process), said(process)
        yield ready.rpartition(":")[2], int(control.rpartition(":")[2])
    finally:
        process.terminate()
        process.wait(timeout=20)


# Measurements


def judge(came: Array, start_s: float, stop_s: float, due: Callable[[Array, Array], Array]) -> dict[str, float]:
    """How far all windows between two times that begin or end with a delivery are from the due bytes.

    worst_of_allowed: the worst window's error, as a share of the allowed error (5 % or two packets, if that is more).
    """
    times, total = came[:, 0], np.cumsum(came[:, 1])
    begins = np.concatenate((times, times - WINDOW_S, times - 1e-6, times - WINDOW_S - 1e-6))
    begins = begins[(begins >= start_s) & (begins + WINDOW_S <= stop_s)]
    padded = np.concatenate(([0.0], total))

    def by(t: Array) -> Array:
        return padded[np.searchsorted(times, t, side="right")]

    expected = due(begins, begins + WINDOW_S)
    off = np.abs(by(begins + WINDOW_S) - by(begins) - expected)
    share = off / np.maximum(expected, 1.0)
    allowed = np.maximum(0.05 * expected, 2 * SEGMENT)
    whole = by(np.array([stop_s]))[0] - by(np.array([start_s]))[0]
    return {
        "windows": len(begins),
        "worst_share": round(float(share[expected > SEGMENT].max()), 4),
        "worst_packets": round(float(off.max() / SEGMENT), 2),
        "worst_of_allowed": round(float((off / allowed).max()), 3),
        "delivered_of_due": round(float(whole / due(np.array([start_s]), np.array([stop_s]))[0]), 4),
    }


def constant(mbps: float) -> Callable[[Array, Array], Array]:
    return lambda begin, end: (end - begin) * mbps * 125_000


def flooded(host: str, connect_to: Callable[[str], contextlib.AbstractContextManager[tuple[str, str, int]]],
            seconds: float, prefix: tuple[str, ...] = ()) -> tuple[Array, float, float, dict[str, Any]]:  # fmt: skip
    """What came, when the sender began and stopped, and the shaper's state in between."""
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "came.npy")
        receiver = start("sink", host, out, prefix=prefix)
        with connect_to(said(receiver)) as (to_host, port, control):
            sender = start("flood", to_host, port, str(seconds))
            state: dict[str, Any] = {}
            if control:
                time.sleep(seconds / 2)
                with urllib.request.urlopen(f"http://127.0.0.1:{control}/", timeout=5) as response:
                    state = json.load(response)
            began, stopped = json.loads(said(sender))
            sender.wait(timeout=20)
            receiver.wait(timeout=20)
        return np.load(out), began, stopped, state


def through(*options: str) -> Callable[[str], contextlib.AbstractContextManager[tuple[str, str, int]]]:
    @contextlib.contextmanager
    def connect(port: str) -> Iterator[tuple[str, str, int]]:
        with shaper(f"127.0.0.1:{port}", *options) as (shaped, control):
            yield "127.0.0.1", shaped, control

    return connect


def bytes_at(mbps: float, seconds: float) -> dict[str, float]:
    came, began, stopped, _ = flooded("127.0.0.1", through("--up-mbps", str(mbps)), seconds)
    return judge(came, began + 0.5, stopped, constant(mbps))


def bytes_of(path: Path, offset_s: float, seconds: float) -> dict[str, float]:
    """A stretch of a trace, without its round trips."""
    trace = read_trace(path).trace.filled()
    options = ("--trace", str(path), "--offset", str(offset_s), "--rtt-ms", "0", "--loss", "0")
    came, began, stopped, state = flooded("127.0.0.1", through(*options), seconds)
    zero = state["now_s"] - state["trace"]["position_s"]

    def due(begin: Array, end: Array) -> Array:
        pairs = zip((begin - zero).tolist(), (end - zero).tolist(), strict=True)
        return np.array([trace.bytes_between("up_mbps", a, b) for a, b in pairs])

    return judge(came, began + 0.5, stopped, due)


def lateness(host: str, connect_to: Callable[[str], contextlib.AbstractContextManager[tuple[str, str, int]]],
             due_ms: float, prefix: tuple[str, ...] = ()) -> dict[str, float]:  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "ages.npy")
        receiver = start("hear", host, out, prefix=prefix)
        with connect_to(said(receiver)) as (to_host, port, _):
            start("tell", to_host, port).wait(timeout=120)
            receiver.wait(timeout=20)
        late = np.load(out) - due_ms
    return {"median_ms": round(float(np.median(late)), 3), "p99_ms": round(float(np.percentile(late, 99)), 3)}


def delay_at(mbps: float | None) -> dict[str, float]:
    options = ("--rtt-ms", str(RTT_MS), *(() if mbps is None else ("--up-mbps", str(mbps))))
    due = RTT_MS / 2 + (0.0 if mbps is None else MESSAGE_BYTES * 8e-3 / mbps)
    return lateness("127.0.0.1", through(*options), due)


def price() -> dict[str, Any]:
    """Median round trips, the two ways in turn."""
    os.sched_setaffinity(0, {0})
    server = start("echo", "127.0.0.1", "")
    port = said(server)
    found: dict[str, Any] = {}
    try:
        with shaper(f"127.0.0.1:{port}") as (shaped, _):
            ends = {"direct": int(port), "shaped": int(shaped)}
            for size in (100, 10_000):
                times: dict[str, list[float]] = {name: [] for name in ends}
                for _ in range(10):
                    for name, at in ends.items():
                        times[name] += round_trips(at, size, ROUND_TRIPS // 10)
                medians = {name: 1000 * float(np.median(t)) for name, t in times.items()}
                p99 = {name: 1000 * float(np.percentile(t, 99)) for name, t in times.items()}
                found[str(size)] = {
                    "direct_ms": round(medians["direct"], 4),
                    "shaped_ms": round(medians["shaped"], 4),
                    "added_ms": round(medians["shaped"] - medians["direct"], 4),
                    "added_p99_ms": round(p99["shaped"] - p99["direct"], 4),
                }
    finally:
        server.kill()
        server.wait()
        os.sched_setaffinity(0, set(range(os.cpu_count() or 1)))
    return found


def round_trips(port: int, size: int, count: int) -> list[float]:
    times = []
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for n in range(count + 20):
            began = time.perf_counter()
            peer.sendall(bytes(size))
            left = size
            while left:
                left -= len(peer.recv(left))
            if n >= 20:  # warm
                times.append(time.perf_counter() - began)
            time.sleep(0.0005)
    return times


# The kernel's


def sh(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def namespace() -> Iterator[None]:
    """Two ends of a wire, 10.213.7.1 here and .2 in a namespace of its own."""
    sh("ip", "netns", "add", NAMESPACE)
    inside = ("ip", "netns", "exec", NAMESPACE)
    try:
        sh("ip", "link", "add", "spinn-a", "type", "veth", "peer", "name", "spinn-b", "netns", NAMESPACE)
        sh("ip", "addr", "add", "10.213.7.1/30", "dev", "spinn-a")
        sh("ip", "link", "set", "spinn-a", "up")
        sh(*inside, "ip", "addr", "add", "10.213.7.2/30", "dev", "spinn-b")
        sh(*inside, "ip", "link", "set", "spinn-b", "up")
        yield
    finally:
        subprocess.run(("ip", "link", "del", "spinn-a"), check=False, capture_output=True)
        sh("ip", "netns", "del", NAMESPACE)


def tbf_at(mbps: float, seconds: float) -> dict[str, Any]:
    burst = max(2 * FRAME, int(mbps * 125))  # a millisecond
    limit = max(10 * FRAME, int(mbps * 12_500))  # the shaper's queue: 100 ms, at least ten segments
    sh("tc", "qdisc", "replace", "dev", "spinn-a", "root", "tbf", "rate", f"{int(mbps * 1e6)}bit",
       "burst", str(burst), "limit", str(limit))  # fmt: skip

    @contextlib.contextmanager
    def connect(port: str) -> Iterator[tuple[str, str, int]]:
        yield "10.213.7.2", port, 0

    inside = ("ip", "netns", "exec", NAMESPACE)
    payload = constant(mbps * SEGMENT / FRAME)
    came, began, stopped, _ = flooded("10.213.7.2", connect, seconds, inside)
    bytes_ = judge(came, began + 3.0, stopped, payload)
    return {"bytes": bytes_, "delay": lateness("10.213.7.2", connect, 0.0, inside)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement of bytes")
    parser.add_argument("--trace", type=Path, action="append", help="besides the built-in choice")
    parser.add_argument("--no-tbf", action="store_true", help="leave out the kernel's")
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        ROLES[args.role[0]](*args.role[1:])
        return
    console = Console(stderr=True)
    found: dict[str, Any] = {"seconds": args.seconds, "rtt_ms_of_delay": RTT_MS, "price": price()}
    console.print("price", found["price"])
    found["bytes"], found["delay"], found["tbf"] = {}, {"unlimited": delay_at(None)}, {}
    for mbps in RATES_MBPS:
        found["bytes"][f"{mbps:g} Mb/s"] = bytes_at(mbps, args.seconds)
        found["delay"][f"{mbps:g} Mb/s"] = delay_at(mbps)
        console.print(mbps, found["bytes"][f"{mbps:g} Mb/s"], found["delay"][f"{mbps:g} Mb/s"])
    real = [REAL / name for name in REAL_TRACES if (REAL / name).exists()]
    for path in (SHIPPED, *real, *(args.trace or ())):
        found["bytes"][path.name] = bytes_of(path, 60.0, 2 * args.seconds)
        console.print(path.name, found["bytes"][path.name])
    if args.no_tbf or os.geteuid():
        found["tbf"] = None
    else:
        try:
            with namespace():
                for mbps in RATES_MBPS:
                    found["tbf"][f"{mbps:g} Mb/s"] = tbf_at(mbps, args.seconds)
                    console.print("tbf", mbps, found["tbf"][f"{mbps:g} Mb/s"])
        except (OSError, subprocess.CalledProcessError) as error:
            console.print(f"no tbf here: {error}")
            found["tbf"] = None
    if args.json:
        print(json.dumps(found))
        return
    table = Table("what", "worst second", "in packets", "of what is allowed", "all of it")
    for name, row in found["bytes"].items():
        table.add_row(name, f"{100 * row['worst_share']:.1f} %", str(row["worst_packets"]),
                      f"{100 * row['worst_of_allowed']:.0f} %", f"{100 * row['delivered_of_due']:.2f} %")  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
