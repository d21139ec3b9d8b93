"""The checks of `spinn doctor` on a server, with the same connection and requests as in a run."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np
import uvloop

from spinn_client import DeviceConfig, FixedPlan, LinkConfig, Pushed, Result, Stream
from spinn_stream.bundle import Bundle
from spinn_stream.errors import ServerRefused, ServerUnreachable
from spinn_stream.frame import Pixels

from .findings import Finding, Findings

TRIPS = 10
WARM_UP = 2
ANSWER_TIMEOUT_S = 5.0

ADVICE = {
    "unauthorised": "--token-file FILE, with the token that `spinn serve --token-file` has",
    "bundle_mismatch": "give both ends the same --bundle",
    "certificate": "do what the message says; --tls-ca FILE names an authority to trust besides the system's",
}
"""What an error says -> what to do."""

ELSE = "start `spinn serve` there; look at address, port and firewall; `spinn run` works without --server, too"


@dataclass(frozen=True)
class RoundTrip:
    """A frame's round trip to the server. median_ms: from capture to answer, with the work of both ends."""

    split: int
    payload_bytes: int
    median_ms: float
    link_ms: float  # of it, on the way
    engine: str | None  # the server's


def check_server(
    config: LinkConfig, bundle: Bundle, device: DeviceConfig, split: int, frame: Pixels | None
) -> tuple[Findings, RoundTrip | None]:
    """Connect, and let the server answer some frames that are cut at `split`."""
    name = "server"
    try:
        trip = uvloop.run(_ask(config, bundle, device, split, frame if frame is not None else _picture()))
    except (ServerUnreachable, ServerRefused) as error:
        to_do = next((advice for word, advice in ADVICE.items() if word in str(error)), ELSE)
        return [Finding(name, "failed", str(error).partition(" (--allow-offline")[0], to_do)], None
    kind = "TLS" if config.url.lower().startswith("wss:") else "no TLS"
    token = "token accepted" if config.token is not None else "no token"
    text = f"{config.url}: {kind}, {token}, the same bundle, engine {trip.engine or 'not told'}"
    way = (
        f"an answer from {bundle.cut_points[trip.split].name} ({trip.payload_bytes / 1000:.1f} kB) takes "
        f"{trip.median_ms:.1f} ms, {trip.link_ms:.1f} of them on the way"
    )
    return [Finding(name, "ok", text), Finding("round trip", "ok", way)], trip


def _picture() -> Pixels:
    """A smooth random picture, if there is no camera."""
    coarse = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (288, 288), interpolation=cv2.INTER_CUBIC), np.uint8)


async def _ask(config: LinkConfig, bundle: Bundle, device: DeviceConfig, split: int, frame: Pixels) -> RoundTrip:
    ages = []
    async with Stream(
        Pushed(), server=config, deadline_ms=ANSWER_TIMEOUT_S * 1000, plan=FixedPlan(str(split), "none"), device=device
    ) as stream:
        for _ in range(WARM_UP + TRIPS):
            ages.append(_of_the_server(await stream.ask(frame)).age_ms)
        state = stream.state
    size = state.bytes_up // len(ages)
    return RoundTrip(split, size, median(ages[WARM_UP:]), state.rtt_ms or 0.0, state.server_engine)


def _of_the_server(result: Result) -> Result:
    if result.where == "server":
        return result
    if result.reason == "rejected":
        raise ServerRefused("the server refused a request; its log says why")
    raise ServerUnreachable(f"no answer to a request within {ANSWER_TIMEOUT_S:.0f} s ({result.reason})")
