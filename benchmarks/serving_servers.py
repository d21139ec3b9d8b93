"""The servers that `serving.py` compares, each in a process of its own.

    python benchmarks/serving_servers.py litserve|ray --port N --bundle 200

LitServe and Ray Serve are set up as their documentation recommends: batching on, one worker, binary payloads in JSON as
base64 (LitServe's own examples) and as the body of a POST (Ray's).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from serving_work import MOST, WAIT_S, Tail, chosen_bundle

READY_S = 120.0


def litserve(port: int, bundle: str) -> None:
    import litserve as ls
    from serving_litserve import Api

    ls.LitServer(Api(bundle), accelerator="cpu").run(
        host="127.0.0.1", port=port, num_api_servers=1, log_level="warning", generate_client_file=False
    )


def ray(port: int, bundle: str) -> None:
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    import ray as ray_library
    from ray import serve

    ray_library.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    serve.start(http_options={"host": "127.0.0.1", "port": port})

    @serve.deployment(max_ongoing_requests=1000)
    class Replica:
        def __init__(self) -> None:
            self.tail = Tail(chosen_bundle(bundle))

        @serve.batch(max_batch_size=MOST, batch_wait_timeout_s=WAIT_S)
        async def run(self, payloads: list[bytes]) -> list[int]:
            return self.tail.run([self.tail.decode(payload) for payload in payloads])

        async def __call__(self, request: Any) -> dict[str, int]:
            return {"label": await self.run(await request.body())}

    serve.run(Replica.bind(), name="tail", route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray_library.shutdown()


@contextmanager
def started(command: list[str], core: int | str, ready: str | None, port: int) -> Iterator[subprocess.Popen[str]]:
    """A server on a core of its own, until the block ends. ready: a line that it prints first; None: it is asked."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        if ready is not None:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith(ready):
                raise RuntimeError(f"{command[:3]} said {line!r}, expected {ready!r}")
        else:
            _wait(process, port)
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: subprocess.Popen[str], port: int) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with exit code {process.returncode}")
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", data=b"{}", method="POST")
            urllib.request.urlopen(request, timeout=2).close()
        except urllib.error.HTTPError as error:
            if error.code in (400, 422, 500):
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"it was not ready within {READY_S:.0f} s")


def command_of(name: str, python: str, port: int, bundle: str) -> list[str]:
    return [python, str(Path(__file__)), name, "--port", str(port), "--bundle", bundle]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["litserve", "ray"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bundle", choices=["200", "default"], default="200")
    args = parser.parse_args()
    {"litserve": litserve, "ray": ray}[args.name](args.port, args.bundle)
    sys.exit()
