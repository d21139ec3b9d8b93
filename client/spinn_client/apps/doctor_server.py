"""What `spinn doctor` asks a server: the same connection and requests as in a run."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np
import numpy.typing as npt
import uvloop

from spinn_client.link.connection import Link, LinkConfig
from spinn_stream.bundle import Bundle
from spinn_stream.codec import default_setting, encode_payload
from spinn_stream.errors import ServerRefused, ServerUnreachable
from spinn_stream.frame import Pixels, crop, normalise
from spinn_stream.plan import Plan
from spinn_stream.runtime import Engine
from spinn_stream.wire import Reject, Result

from .findings import Finding, Findings

TRIPS = 10
WARM_UP = 2
ANSWER_TIMEOUT_S = 5.0
CODINGS = 5

ADVICE = {
    "unauthorised": "--token-file FILE, with the token that `spinn serve --token-file` has",
    "bundle_mismatch": "give both ends the same --bundle",
    "certificate": "--tls-ca FILE, the authority that signed the server's certificate",
}
"""What an error says -> what to do."""

ELSE = "start `spinn serve` there; look at address, port and firewall; `spinn run` works without --server, too"


@dataclass(frozen=True)
class RoundTrip:
    """One frame by way of the server. median_ms: from sending to its answer, with the server's work on it."""

    split: int
    encode_ms: float
    payload_bytes: int
    median_ms: float
    link_ms: float  # of it, not the server's work
    engine: str | None


class _Answers:
    """See `LinkEvents`: the answer to the one request that is under way."""

    def __init__(self) -> None:
        self.next: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def on_answer(self, message: Result) -> None:
        if not self.next.done():
            self.next.set_result(message)

    def on_reject(self, message: Reject) -> None:
        self._fail(ServerRefused(f"the server refused a request: {message.reason}: {message.detail}"))

    def on_up(self) -> None:
        pass

    def on_down(self, lost: list[int], why: str) -> None:
        self._fail(ServerUnreachable(f"the connection ended: {why}"))

    def _fail(self, error: Exception) -> None:
        if not self.next.done():
            self.next.set_exception(error)


def check_server(
    config: LinkConfig, bundle: Bundle, engine: Engine | None, split: int, frame: Pixels | None
) -> tuple[Findings, RoundTrip | None]:
    """Connect, and have some frames answered that are cut at `split`; at the frame itself without an engine."""
    name = "server"
    split, encode_ms, payload = _payload(bundle, engine, split if engine is not None else 0, frame)
    try:
        trip = uvloop.run(_ask(config, bundle, split, encode_ms, payload))
    except (ServerUnreachable, ServerRefused) as error:
        to_do = next((advice for word, advice in ADVICE.items() if word in str(error)), ELSE)
        return [Finding(name, "failed", str(error), to_do)], None
    kind = "TLS" if config.url.lower().startswith("wss:") else "no TLS"
    token = "token accepted" if config.token is not None else "no token"
    text = f"{config.url}: {kind}, {token}, the same bundle, engine {trip.engine or 'not told'}"
    way = (
        f"an answer from {bundle.cut_points[split].name} ({trip.payload_bytes / 1000:.1f} kB) takes "
        f"{trip.median_ms:.1f} ms, {trip.link_ms:.1f} of them on the way"
    )
    return [Finding(name, "ok", text), Finding("round trip", "ok", way)], trip


def _payload(bundle: Bundle, engine: Engine | None, split: int, frame: Pixels | None) -> tuple[int, float, bytes]:
    """The split, how long coding takes, and what is sent of a frame; of a smooth random one, where there is none."""
    if frame is None:
        coarse = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
        frame = np.asarray(cv2.resize(coarse, (288, 288), interpolation=cv2.INTER_CUBIC), np.uint8)
    picture = crop(frame, bundle.input.size)
    x: npt.NDArray[np.float32] = normalise(picture, bundle.input)
    if engine is not None and split > 0:
        x = engine.run(0, split, x, exit=False)[0].copy()
    times, payload = [], b""
    for _ in range(CODINGS):
        began = time.monotonic()
        payload = encode_payload(bundle, split, default_setting(bundle, split), x, picture)
        times.append((time.monotonic() - began) * 1000)
    return split, median(times), payload


async def _ask(config: LinkConfig, bundle: Bundle, split: int, encode_ms: float, payload: bytes) -> RoundTrip:
    events = _Answers()
    link = Link(config, bundle, events, random.Random())
    await link.open()
    running = asyncio.create_task(link.run(), name="link")
    times = []
    try:
        for request in range(WARM_UP + TRIPS):
            began = time.monotonic()
            if not link.send(request, Plan(1, split, None), payload, began + ANSWER_TIMEOUT_S):
                raise ServerRefused(f"the server takes no payload of {len(payload)} bytes from this split")
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await events.next
            times.append((time.monotonic() - began) * 1000)
            events.next = asyncio.get_running_loop().create_future()
    except TimeoutError as error:
        raise ServerUnreachable(f"no answer to a request within {ANSWER_TIMEOUT_S:.0f} s") from error
    finally:
        told = link.server_profile
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return RoundTrip(
        split, encode_ms, len(payload), median(times[WARM_UP:]), link.rtt_ms or 0.0, told.runtime if told else None
    )
