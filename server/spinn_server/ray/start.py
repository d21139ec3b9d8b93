"""Starts the deployments on Ray, and ends them at a signal."""

from __future__ import annotations

import asyncio
import os

from spinn_server.process import first_signal
from spinn_stream.errors import SpinnError

from .config import APP, ClusterConfig

USUAL = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",  # a proxy in C; the ingress has the sockets behind it
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",  # an ingress's own code runs on the loop that has the sockets
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Set for a Ray that is started here, unless the user has set them. Of a cluster they have to be set on each machine,
before `ray start`."""


class RayError(SpinnError):
    """Ray cannot be started, or cannot start what is to run on it."""


def serve_until_signal(config: ClusterConfig) -> None:
    """Raises RayError."""
    for name, value in USUAL.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise RayError(f"--ray needs Ray ({error}): pip install 'spinn-server[ray]'") from error

    from .parts import application

    found = "RAY_ADDRESS" in os.environ
    try:
        ray.init(
            address="auto" if found else None,
            include_dashboard=None if found else False,
            object_store_memory=None if found else 100_000_000,
            log_to_driver=False,
            logging_level="error",
        )
        try:
            serve.start(http_options={"host": config.server.host, "port": config.server.port})
            serve.run(application(config), name=APP, route_prefix=config.server.front.path_prefix or "/")
            print(f"ready ws://{config.server.host}:{config.server.port}{config.server.front.path_prefix}", flush=True)
            asyncio.run(_until_signal())
        finally:
            serve.shutdown()
    except (RuntimeError, ConnectionError, TimeoutError, ray.exceptions.RayError) as error:
        raise RayError(f"Ray: {error}") from error
    finally:
        ray.shutdown()


async def _until_signal() -> None:
    await first_signal()
