"""Starts the deployments on Ray, and ends them at a signal."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.error import HTTPError

from spinn_server.carriers.peers import in_url
from spinn_server.process import first_signal
from spinn_stream.bundle import load_bundle
from spinn_stream.errors import SpinnError

from .config import ClusterConfig

USUAL = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",  # a proxy in C; the ingress has the sockets behind it
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",  # an ingress's own code runs on the loop that has the sockets
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Set for a Ray that is started here, unless the user has set them. Of a cluster they have to be set on each machine,
before `ray start`."""

LOOK_S = 2.0
"""Time between two looks whether another command has taken the application over."""

REACHABLE_S = 15.0
"""From the start of all parts until requests of clients reach the ingress: about a second."""

FIGURES_PORTS = {"RAY_SERVE_HAPROXY_STATS_PORT": 8404, "RAY_SERVE_HAPROXY_METRICS_PORT": 9101}
"""Where HAProxy shows its figures, on all addresses: Ray's variables and what they are if not set."""

NAMESPACE = "spinn"
"""Of what the cluster's own store holds of us. Whoever can read it can run code there as well."""


class RayError(SpinnError):
    """Ray cannot be started, or cannot start what is to run on it."""


def serve_until_signal(config: ClusterConfig) -> None:
    """Serve until a signal. On a cluster that runs this application already, its parts are replaced one by one; the
    command that started them ends by itself.

    Raises:
        RayError: also if the application that runs already has another bundle.
    """
    for name, value in USUAL.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise RayError(f"--ray needs Ray ({error}): pip install 'spinn-server[ray]'") from error

    found = "RAY_ADDRESS" in os.environ
    if not found:
        _check_ports(config)
    try:
        ray.init(
            address="auto" if found else "local",  # not one that `ray start` has left word of
            include_dashboard=None if found else False,
            object_store_memory=None if found else 100_000_000,
            log_to_driver=False,
            logging_level="error",
        )
        if found:
            _on_a_cluster(serve, config)
        else:
            _alone(serve, config)
    except (RuntimeError, ConnectionError, TimeoutError, ray.exceptions.RayError) as error:
        raise RayError(f"Ray: {_last_line(error)} (Ray's logs have more)") from error
    finally:
        ray.shutdown()


def _check_ports(config: ClusterConfig) -> None:
    """HAProxy's ports are free. Found later, a taken one hinders the Ray that has it. Raises RayError."""
    figures = {name: int(os.environ.get(name, usual)) for name, usual in FIGURES_PORTS.items()}
    for name, port in ({"--port": config.server.port} | figures).items():
        host = config.server.host if name == "--port" else "0.0.0.0"
        try:
            with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
                pass
        except OSError as error:
            raise RayError(
                f"port {port} cannot be had ({error.strerror}); another Ray on this machine may have it. "
                f"{name} names another port"
            ) from error


def _last_line(error: Exception) -> str:
    """Of an error's text, which may hold the trace of another process."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


def _alone(serve: Any, config: ClusterConfig) -> None:
    try:
        _deploy(serve, config)
        asyncio.run(_until_signal(lambda: False))
    finally:
        serve.shutdown()


def _on_a_cluster(serve: Any, config: ClusterConfig) -> None:
    """Others may use the cluster, and another command may replace what this one has started."""
    before = _recorded(config.app) if config.app in serve.status().applications else None
    if before is not None:
        config = _as_running(config, before)
    try:
        _deploy(serve, config)
    except BaseException:
        if before is None:
            _remove(serve, config.app)
        raise
    ours = _Record(secrets.token_hex(16), config.secret, load_bundle(config.bundle).hash)
    _record(config.app, ours)
    if asyncio.run(_until_signal(lambda: _recorded(config.app) not in (None, ours))):
        print("replaced by another spinn serve", flush=True)
    else:
        _remove(serve, config.app)


def _deploy(serve: Any, config: ClusterConfig) -> None:
    """Returns when all parts are there, and none of those before. Raises what Ray raises."""
    from .parts import application

    http, prefix = config.server, config.server.front.path_prefix
    serve.start(http_options={"host": http.host, "port": http.port})
    serve.run(application(config), name=config.app, route_prefix=prefix or "/")
    place = f"{in_url(http.host)}:{http.port}{prefix}"
    _until_reachable(place)
    print(f"ready ws://{place}", flush=True)


def _until_reachable(place: str) -> None:
    """Wait until the proxy of this machine, if it has one, has found the ingress. Raises RayError."""
    end = time.monotonic() + REACHABLE_S
    url = f"http://{place}/readyz"
    while True:
        try:
            with urllib.request.urlopen(url, timeout=REACHABLE_S):
                return
        except HTTPError as error:
            if time.monotonic() > end:
                raise RayError(f"{url} says {error.code} {REACHABLE_S:.0f} s after all parts have started") from error
        except OSError:
            return  # none: HAProxy runs on machines with an ingress
        time.sleep(0.1)


def _as_running(config: ClusterConfig, running: _Record) -> ClusterConfig:
    """With the secret of the parts that run, so that old and new ones know each other. Raises RayError."""
    ours = load_bundle(config.bundle).hash
    if running.bundle != ours:
        raise RayError(
            f"{config.app} runs with the bundle {running.bundle:.12}, not {ours:.12}: its clients would be refused. "
            "Serve the other bundle beside it, at another --path-prefix"
        )
    return replace(config, secret=running.secret)


class _Record(NamedTuple):
    """What a cluster knows of an application: the command that deployed it last, its secret, and its bundle's hash."""

    command: str
    secret: str
    bundle: str


def _record(app: str, record: _Record) -> None:
    from ray.experimental import internal_kv

    internal_kv._internal_kv_put(app, json.dumps(record), overwrite=True, namespace=NAMESPACE)


def _recorded(app: str) -> _Record | None:
    """None: nothing is known of it."""
    from ray.experimental import internal_kv

    found = internal_kv._internal_kv_get(app, namespace=NAMESPACE)
    return None if found is None else _Record(*json.loads(found))


def _remove(serve: Any, app: str) -> None:
    serve.delete(app)
    if not serve.status().applications:
        serve.shutdown()


async def _until_signal(replaced: Callable[[], bool]) -> bool:
    """Wait for a signal, or until another command has replaced the application; gives whether it has."""
    signal = first_signal()
    while True:
        await asyncio.wait([signal], timeout=LOOK_S)
        if signal.done():
            return False
        if await asyncio.to_thread(replaced):
            return True
