"""A cluster of Ray on this machine, which outlives the commands that use it: `ray start` as an operator runs it."""

from __future__ import annotations

import os
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
    """The cluster's first process; RAY_ADDRESS names it until the block ends. Then nothing of it is left."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={port}",
               f"--num-cpus={processors}", "--include-dashboard=false", "--object-store-memory=100000000",
               "--disable-usage-stats"]  # fmt: skip
    head = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | USUAL)
    try:
        end = time.monotonic() + READY_S
        while not _listens(port):
            if head.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"ray start does not listen; its exit code is {head.poll()}")
            time.sleep(0.1)
        os.environ["RAY_ADDRESS"] = f"127.0.0.1:{port}"
        yield head
    finally:
        os.environ.pop("RAY_ADDRESS", None)
        head.terminate()  # it ends what it has started
        with suppress(subprocess.TimeoutExpired):
            head.wait(timeout=END_S)
        head.kill()
        head.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
