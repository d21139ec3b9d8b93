"""One server, several bundles: each client is served with its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np

from spinn_server.admin.metrics import Metrics
from spinn_server.server import Server, ServerConfig
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.codec import SUPPORTED, cnn_co
from spinn_stream.runtime import Engine
from spinn_stream.wire import Hello, Infer, Reject, Result, Welcome

from .carriers import MemoryCarrier
from .worlds import SPLIT


def test_each_client_is_served_with_the_bundle_that_it_names(bundle: Bundle, engine: Engine) -> None:
    other = replace(bundle, name="other", hash="0" * 64)  # the same network under another name
    metrics = Metrics()
    tails = [TailEngine(each, engine, BatchLimits(max_wait_ms=0), metrics) for each in (bundle, other)]
    server = Server(tails, metrics, ServerConfig())
    payload = cnn_co.encode(np.zeros(bundle.cut_points[SPLIT].shape, np.float32))

    async def visit(named: str) -> MemoryCarrier:
        carrier = MemoryCarrier()
        visits.append(asyncio.create_task(server.serve(carrier)))
        carrier.say(Hello(named, SUPPORTED, None, "test"))
        return carrier

    visits: list[asyncio.Task[None]] = []

    async def main() -> None:
        async with server.running():
            for each in (bundle, other):
                client = await visit(each.hash)
                welcome = await client.hear()
                assert isinstance(welcome, Welcome) and welcome.bundle == each.hash
                client.say(Infer(1, SPLIT, cnn_co.NAME, None, 10_000, payload))
                assert isinstance(await client.hear(), Result)
                client.leave()
            stranger = await visit("f" * 64)
            said = await stranger.hear()
            assert isinstance(said, Reject) and said.reason == "bundle_mismatch"
            assert bundle.name in said.detail and "other" in said.detail
        await asyncio.gather(*visits)

    asyncio.run(main())
    served = {
        sample.labels["bundle"]: sample.value
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "spinn_answers_total"
    }
    assert served == {bundle.name: 1, "other": 1}
