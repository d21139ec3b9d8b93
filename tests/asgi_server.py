"""The server with the small bundle as an ASGI application behind uvicorn: `python -m tests.asgi_server`.

Prints `ready ws://HOST:PORT` once it accepts, as `spinn serve` does. SIGTERM ends it.
"""

from __future__ import annotations

import asyncio
import signal
import socket

import uvicorn

from spinn_server.admin.metrics import Metrics
from spinn_server.carriers.asgi import Application
from spinn_server.server import Server, ServerConfig, largest_message
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import load_bundle
from spinn_stream.runtime import open_engine, stored_profile

from .bundles import LITE2_200
from .server.asgi import config_of


async def main() -> None:
    bundle, metrics, limits = load_bundle(LITE2_200), Metrics(), BatchLimits()
    engine = open_engine(bundle, "onnxruntime")
    tail = TailEngine(bundle, engine, limits, metrics, stored_profile(bundle, engine, threads=1))
    tail.prepare(lambda done, total: None)
    server = Server([tail], metrics, ServerConfig(batch=limits))
    application = Application(server, metrics, max_message_bytes=largest_message([bundle]), life=server.running)
    behind = uvicorn.Server(config_of(application))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(behind.serve(sockets=[listening]))
        while not (behind.started or serving.done()):  # noqa: ASYNC110  # uvicorn tells nobody
            await asyncio.sleep(0.01)
        print(f"ready ws://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        await serving


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn handles it, and raises it once more at its end
    asyncio.run(main())
