"""The two deployments: replicas that run the network, and the ingress that holds sessions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

from ray import serve
from ray.serve._private.constants import RAY_SERVE_FALLBACK_PROXY_HTTP_PORT
from ray.util import get_node_ip_address

from spinn_server.admin.metrics import Metrics
from spinn_server.admin.routes import HttpAnswer, unavailable
from spinn_server.carriers.asgi import Application, Scope
from spinn_server.carriers.websocket import listening
from spinn_server.cluster.engine import RemoteEngine
from spinn_server.cluster.messages import SUBPROTOCOL
from spinn_server.cluster.replica import DenseReceiver, Replica, largest_orders
from spinn_server.server import NAME, Reception, Server, largest_message
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import load_bundle
from spinn_stream.runtime import open_engine, stored_profile
from spinn_stream.runtime.machine.threads import shorten_pauses
from spinn_stream.wire import ServerProfile, decode, encode, profile_message, read_profile

from .config import ClusterConfig
from .policy import BUSY, QUEUE_MS, scale

REPLICA = "replica"

DRAIN_S = 1.5
"""Time for a replica that ends to answer what it has."""

FIND_TIMEOUT_S = 2.0


class ReplicaPart:
    """One replica in a process of its own. Ray makes it, asks it for its health and its load, and ends it."""

    async def __init__(self, config: ClusterConfig) -> None:  # type: ignore[misc]  # Ray awaits it
        metrics = Metrics()
        tail = await asyncio.to_thread(_tail, config, metrics)
        self._profile = encode(profile_message(tail.profile, tail.bundle)) if tail.profile is not None else b""
        self._tail = tail
        self._metrics = metrics
        self._seen = (time.monotonic(), 0.0)
        self._replica = Replica(tail, metrics, config.secret)
        self._running = asyncio.create_task(self._replica.run(), name="replica")
        self._stack = AsyncExitStack()
        self._address = await self._stack.enter_async_context(
            listening(
                get_node_ip_address(), 0, self._replica, tls=None, max_message_bytes=largest_orders(tail.bundle),
                name=NAME, metrics=metrics, subprotocol=SUBPROTOCOL,
            )
        )  # fmt: skip
        shorten_pauses()

    async def address(self) -> str:
        """Where ingresses find it."""
        return self._address

    async def profile(self) -> bytes:
        """A message of spinn.v1 for the clients; empty: there is none."""
        return self._profile

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Since it was asked before; see `policy`."""
        then, before = self._seen
        now, compute = time.monotonic(), self._metrics.registry.get_sample_value("spinn_batch_compute_seconds_sum") or 0
        self._seen = now, compute
        return {BUSY: (compute - before) / max(1e-3, now - then), QUEUE_MS: self._tail.load(now)[0]}

    async def check_health(self) -> None:
        """Raises if the engine has ended: then Ray starts another replica."""
        if self._running.done():
            self._running.result()

    async def __del__(self) -> None:  # Ray awaits it
        if hasattr(self, "_stack"):
            await self._replica.drain(DRAIN_S)
            self._running.cancel()
            await asyncio.wait([self._running])
            await self._stack.aclose()


class Entrance(Application):
    """What an ingress is for HAProxy.

    While HAProxy knows no ingress (at the start, and after one ended), it sends what comes to a proxy of Ray Serve in
    Python. A session that began there would stay there: two more hops for each message, and no close frame at its end.
    So it is refused, and the client tries again.
    """

    async def _answer(self, scope: Scope) -> HttpAnswer | None:
        if scope["server"][1] == RAY_SERVE_FALLBACK_PROXY_HTTP_PORT:
            return unavailable("starting")
        return await super()._answer(scope)


def ingress(config: ClusterConfig) -> Any:
    """The class of the ingress, which Ray makes with an application inside."""

    def build() -> Entrance:
        bundle = load_bundle(config.bundle)
        metrics = Metrics()
        reception = Reception(metrics)
        return Entrance(
            reception,
            metrics,
            max_message_bytes=largest_message([bundle]),
            front=config.server.front,
            life=partial(_serving, config, reception, metrics),
        )

    return serve.ingress(build)()


@asynccontextmanager
async def _serving(config: ClusterConfig, reception: Reception, metrics: Metrics) -> AsyncIterator[None]:
    """The server of one ingress, as soon as there is a replica."""
    bundle = load_bundle(config.bundle)
    replicas = serve.get_deployment_handle(REPLICA, app_name=config.app)
    said = await replicas.profile.remote()
    message = decode(said) if said else None
    profile = read_profile(message, bundle) if isinstance(message, ServerProfile) else None

    async def find() -> list[str]:
        said = await replicas.broadcast("address").results_async(timeout_s=FIND_TIMEOUT_S, return_exceptions=True)
        return [address for address in said if isinstance(address, str)]  # one that is ending may raise

    engine = RemoteEngine(bundle, profile, metrics, find, config.secret, max_queue=config.server.batch.max_queue)

    def targets() -> HttpAnswer:
        addresses = [address.partition("//")[2] for address in engine.replicas]
        return HttpAnswer(HTTPStatus.OK, json.dumps([{"targets": addresses}]) + "\n", "application/json")

    server = Server([engine], metrics, config.server, more={"/targets": targets})
    async with server.running():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while not engine.replicas:  # noqa: ASYNC110  # once, at the start
                    await asyncio.sleep(0.05)
        shorten_pauses()
        reception.hand_to(server)
        yield


def application(config: ClusterConfig) -> Any:
    """What `serve.run` takes. The ingress is the entrance, and knows the replicas by name."""
    replica = serve.deployment(
        ReplicaPart,
        name=REPLICA,
        ray_actor_options={"num_cpus": config.threads},
        autoscaling_config={
            "min_replicas": config.replicas,
            "max_replicas": config.most_replicas,
            "policy": {"policy_function": scale},
        },
        health_check_period_s=2.0,
        graceful_shutdown_timeout_s=5.0,
    )
    entrance = serve.deployment(
        ingress(config),
        name="ingress",
        num_replicas=config.ingresses,
        max_ongoing_requests=2 * config.server.max_sessions + 100,  # every session is one
        ray_actor_options={"num_cpus": 0},
        max_surge_percent=100,  # they reserve no processors: new ones are there before old ones go
        graceful_shutdown_timeout_s=10.0,
    )
    return entrance.bind(replica.bind(config))


def _tail(config: ClusterConfig, metrics: Metrics) -> TailEngine:
    """Set up engine and networks. Takes seconds."""
    bundle = load_bundle(config.bundle)
    engine = open_engine(bundle, config.runtime, threads=config.threads)
    batch: BatchLimits = config.server.batch
    sizes = [size for size in (1, 2, 4, 8, 16) if size <= max(1, batch.max_batch_size)]
    profile = stored_profile(bundle, engine, threads=config.threads, batches=sizes)
    tail = TailEngine(bundle, engine, batch, metrics, profile, receiver=DenseReceiver)
    tail.prepare(lambda done, total: None)
    return tail
