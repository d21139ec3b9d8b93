"""A cluster of Ray on this machine, which outlives the commands that use it: `ray start` as an operator runs it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spinn_server.ray.start import USUAL

READY_S = 60.0
END_S = 30.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def ray_head(processors: int) -> Iterator[subprocess.Popen[bytes]]:
    """The cluster's first process; variables of Ray name it until the block ends. Then nothing of it is left."""
    port = free_port()
    known = {"RAY_ADDRESS": f"127.0.0.1:{port}", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={port}",
               f"--num-cpus={processors}", "--include-dashboard=false", "--object-store-memory=100000000",
               "--disable-usage-stats"]  # fmt: skip
    head = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | USUAL | known
    )
    try:
        end = time.monotonic() + READY_S
        while not _listens(port):
            if head.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"ray start does not listen; its exit code is {head.poll()}")
            time.sleep(0.1)
        os.environ.update(known)
        yield head
    finally:
        for name in known:
            os.environ.pop(name, None)
        proxies = [pid for pid in _descendants(head.pid) if b"haproxy" in _command(pid)]
        head.terminate()  # it ends what it has started, but proxies of commands that were killed
        with suppress(subprocess.TimeoutExpired):
            head.wait(timeout=END_S)
        head.kill()
        head.wait()
        for pid in proxies:
            if b"haproxy" in _command(pid):
                os.kill(pid, signal.SIGKILL)


def _descendants(root: int) -> list[int]:
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _command(pid: int) -> bytes:
    """Empty: it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
