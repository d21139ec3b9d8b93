"""Clients of the servers that `serving.py` compares: a number of requests in flight, or a rate of their own."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
import numpy as np
from serving_work import SETTING

from spinn_client.link.dial import dial
from spinn_stream.bundle import Bundle
from spinn_stream.codec import SUPPORTED
from spinn_stream.wire import ClientSession, Opened, Reject, Result, max_server_message_bytes

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Ask:
    """One request. budget_ms: the answer counts within this time."""

    split: int
    payload: bytes
    budget_ms: float = 60_000.0
    threshold: float | None = None
    may_shorten: bool = False


@dataclass
class Tally:
    """What came of requests. Times in ms since each was sent; there: our server's own, from arrival to departure."""

    sent: int = 0
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    there: list[float] = field(default_factory=list)
    lost: int = 0
    shortened: int = 0

    def within(self, budget_ms: float) -> int:
        return sum(ms <= budget_ms for ms in self.answered)


class Session(Protocol):
    async def ask(self, ask: Ask, tally: Tally) -> None: ...

    async def close(self) -> None: ...


class SpinnSession:
    """One WebSocket; requests flow while others are in flight."""

    def __init__(self, bundle: Bundle, address: str) -> None:
        self._bundle = bundle
        self._address = address
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._next = 0

    async def open(self) -> SpinnSession:
        self._websocket = await dial(self._address, None, max_server_message_bytes(self._bundle))
        self._session = ClientSession(self._bundle, SUPPORTED, max_in_flight=10_000)
        await self._websocket.send(self._session.hello(token=None, client="benchmark"))
        assert isinstance(self._session.receive(await self._websocket.recv(decode=False)), Opened)
        self._reading = asyncio.create_task(self._read())
        return self

    async def _read(self) -> None:
        async for data in self._websocket:
            assert isinstance(data, bytes)
            event = self._session.receive(data)
            if isinstance(event, Result | Reject) and event.id is not None:
                self._waiting.pop(event.id).set_result(event)

    async def ask(self, ask: Ask, tally: Tally) -> None:
        tally.sent += 1
        if not self._session.ready:
            tally.refused.append(0.0)  # by its own end: as many are in flight as the server allows
            return
        request, self._next = self._next, self._next + 1
        heard = self._waiting[request] = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        data = self._session.infer(
            request, ask.split, SETTING.codec, ask.threshold, ask.budget_ms, ask.payload, may_shorten=ask.may_shorten
        )
        await self._websocket.send(data)
        try:
            async with asyncio.timeout(PATIENCE_S):
                event = await heard
        except TimeoutError:
            tally.lost += 1
            return
        ms = (time.perf_counter() - began) * 1000
        (tally.answered if isinstance(event, Result) else tally.refused).append(ms)
        if isinstance(event, Result):
            tally.shortened += event.shortened
            tally.there.append(event.left_ms - event.arrived_ms)

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])
        await self._websocket.close()


class HttpSession:
    """POSTs to /predict with kept connections."""

    def __init__(self, port: int, *, as_json: bool) -> None:
        self._url = f"http://127.0.0.1:{port}/predict"
        self._as_json = as_json

    async def open(self) -> HttpSession:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)
        return self

    async def ask(self, ask: Ask, tally: Tally) -> None:
        tally.sent += 1
        body = ask.payload
        headers = {}
        if self._as_json:
            body = json.dumps({"payload": base64.b64encode(ask.payload).decode()}).encode()
            headers["Content-Type"] = "application/json"
        began = time.perf_counter()
        try:
            async with self._http.post(self._url, data=body, headers=headers) as response:
                await response.read()
                good = response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            tally.lost += 1
            return
        ms = (time.perf_counter() - began) * 1000
        (tally.answered if good else tally.refused).append(ms)

    async def close(self) -> None:
        await self._http.close()


async def closed_loop(sessions: Sequence[Session], asks: Sequence[Ask], in_flight: int, seconds: float) -> Tally:
    """As many requests in flight as said, all the time; the same number in each session."""
    tally = Tally()
    end = time.perf_counter() + seconds

    async def go_on(session: Session, n: int) -> None:
        while time.perf_counter() < end:
            await session.ask(asks[n % len(asks)], tally)
            n += in_flight

    each = in_flight // len(sessions)
    await asyncio.gather(*(go_on(session, n) for session in sessions for n in range(each)))
    return tally


async def open_loop(
    sessions: Sequence[Session], asks: Sequence[Ask], rate: float, seconds: float, seed: int, tally: Tally | None = None
) -> Tally:
    """Requests at random times (Poisson) of this mean rate, whatever becomes of them, from sessions in turn.

    Args:
        tally: where they are counted; it is returned, too.
    """
    tally, rng = tally or Tally(), random.Random(seed)
    running: set[asyncio.Task[None]] = set()
    began = due = time.perf_counter()
    n = 0
    while due - began < seconds:
        due += rng.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(sessions[n % len(sessions)].ask(rng.choice(asks), tally))
        running.add(task)
        task.add_done_callback(running.discard)
        n += 1
    if running:
        await asyncio.wait(running)
    return tally


def percentile(values: Sequence[float], share: float) -> float | None:
    return round(float(np.percentile(values, share)), 1) if values else None
