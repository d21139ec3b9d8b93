"""A real server is stopped, ended or exchanged under real clients."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from spinn_client import LinkConfig
from spinn_client.link.server_link import ServerLink
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting, cnn_co
from spinn_stream.plan import Plan
from spinn_stream.wire import Result

from ..bundles import DEFAULT
from ..client.link.certificates import server_context
from ..processes import ClientProcess, server
from .matrix import Row
from .real import FPS, Scene, memory_mb, per_s, recover, run_for, served, wait_for, wait_for_server

pytestmark = [pytest.mark.alone, pytest.mark.slow]

AWAY_S = 3.0
BACK_S = 6.0  # a better server gets the frames back when it has been well for 5 s


def test_the_server_is_stopped_for_10_seconds(scene: Scene, tmp_path: Path) -> None:
    with served() as serving:
        client = scene.client(tmp_path, "--server", serving.address, "--late")
        wait_for_server(client, count=30)
        before = memory_mb(serving.process.pid)
        serving.process.send_signal(signal.SIGSTOP)
        run_for(client, 10.0)
        serving.process.send_signal(signal.SIGCONT)
        healthy = recover(client)
        out = client.finish(interrupt=True)
        grown = memory_mb(serving.process.pid) - before
    scene.judge("a real server stopped for 10 s", [out], healthy=healthy, growth_mb=grown)
    worthless = [r["age_ms"] for r in out.results if r["kind"] == "late" and r["at_s"] > healthy and r["age_ms"] > 2000]
    assert worthless == [], "what waited in the socket is not work any more"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_it_is_ended_under_load(scene: Scene, tmp_path: Path, number: signal.Signals) -> None:
    """Three clients. If it is asked to end, it is gone within 5 s."""
    with served() as first:
        port = first.port
        clients = [scene.client(tmp_path / str(n), "--server", first.address, core=None, fps=10) for n in range(3)]
        for client in clients:
            wait_for_server(client, count=20)
        before = [memory_mb(client.process.pid) for client in clients]
        asked = time.monotonic()
        first.process.send_signal(number)
        assert first.process.wait(15) == (0 if number is signal.SIGTERM else -number)
        took = time.monotonic() - asked
        run_for(clients[0], AWAY_S)
    with served(port=port):
        healthy = recover(*clients)
        grown = max(memory_mb(c.process.pid) - was for c, was in zip(clients, before, strict=True))
        outs = [client.finish(interrupt=True) for client in clients]
    scene.judge(f"{number.name} under load", outs, healthy=healthy, growth_mb=grown,
                alone_per_s=10.0)  # fmt: skip
    assert took < 5.0, f"it took {took:.1f} s to end"


def restarted_as_another(
    scene: Scene, folder: Path, name: str, *other: str, refusal: str | None, usual: Sequence[str] = (),
    client_options: Sequence[str] = (),
) -> None:  # fmt: skip
    """The server is killed, comes back with other options, and at last as it was.

    Args:
        refusal: as which the other one counts a client; None: the client does not get that far.
    """
    with served(*usual) as first:
        port = first.port
        client = scene.client(folder / "run", "--server", first.address, *client_options)
        wait_for_server(client, count=20)
        before = memory_mb(client.process.pid)
        first.kill()
    with served(*other, port=port) as second:
        if refusal is not None:
            line = f'spinn_refused_sessions_total{{reason="{refusal}"}}'
            wait_for(lambda: line in second.get("/metrics"), "session that is refused")
        run_for(client, AWAY_S)
        seen = len(client.results())
        assert not any(r["where"] == "server" for r in client.results()[seen - FPS :]), "it is not used"
    with served(*usual, port=port):
        healthy = recover(client)
        grown = memory_mb(client.process.pid) - before
        out = client.finish(interrupt=True)
    scene.judge(name, [out], healthy=healthy, growth_mb=grown)


def test_it_comes_back_with_another_bundle(scene: Scene, tmp_path: Path) -> None:
    restarted_as_another(scene, tmp_path, "restarted with another bundle", *DEFAULT, refusal="bundle_mismatch")


def test_it_comes_back_with_a_token_that_the_client_lacks(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("sesame\n")
    restarted_as_another(scene, tmp_path, "restarted with a token", "--token-file", str(tmp_path / "token"),
                         refusal="unauthorised")  # fmt: skip


def test_it_comes_back_with_a_certificate_that_the_client_does_not_trust(scene: Scene, tmp_path: Path) -> None:
    def with_certificate(name: str) -> tuple[str, ...]:
        (tmp_path / name).mkdir()
        _, cert = server_context(tmp_path / name)
        return "--tls-cert", str(cert), "--tls-key", str(cert.parent / "key.pem")

    trusted, other = with_certificate("trusted"), with_certificate("other")
    restarted_as_another(scene, tmp_path, "restarted with another certificate", *other, refusal=None, usual=trusted,
                         client_options=("--tls-ca", trusted[1]))  # fmt: skip


def test_each_of_two_servers_is_killed_in_turn(scene: Scene, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(served()) for _ in range(2))
        ports = first.port, second.port
        client = scene.client(tmp_path, "--server", first.address, "--server", second.address, "--warm-spare")
        wait_for_server(client, count=20)
        before = memory_mb(client.process.pid)
        for killed, port in ((first, ports[0]), (second, ports[1])):
            killed.kill()
            run_for(client, AWAY_S)
            stack.enter_context(served(port=port))
            healthy = recover(client)
            run_for(client, BACK_S)
        grown = memory_mb(client.process.pid) - before
        out = client.finish(interrupt=True)
    scene.judge("two real servers, each killed in turn", [out], healthy=healthy, growth_mb=grown)
    assert len(out.summary["servers"]) == 2 and all(out.summary["servers"].values())
    assert sum(r["where"] == "server" for r in out.finals) >= 0.8 * len(out.finals), "one of them was always there"


def test_five_unpaced_clients_with_a_fixed_plan_against_one_server(scene: Scene, tmp_path: Path) -> None:
    """What is sent is what comes back in time; half of the frames had no answer once."""
    source = ("--source", str(scene.folder / "pictures"), "--loop", "--unpaced")

    def all_five(name: str, *options: str, frames: int = 298) -> list[Any]:
        asked = (*source, "--frames", str(frames), *options)
        clients = [ClientProcess(tmp_path / name / str(n), *asked) for n in range(5)]
        return [client.finish() for client in clients]

    alone = all_five("alone", "--policy", "device-only")
    rate = sum(map(per_s, alone)) / 5
    with server() as serving:
        offloading = ("--split", "block3", "--server", serving.address)
        for wave in range(2):  # batches of every size take their memory
            all_five(f"first {wave}", *offloading, frames=150)
        before = memory_mb(serving.process.pid)
        outs = all_five("five", *offloading)
        grown = memory_mb(serving.process.pid) - before
        rows = serving.metric("spinn_requests_total")
        used = sum(out.summary["server"] for out in outs)
    print(f"{rows:.0f} requests for {used} answers that were used")
    scene.judge("five unpaced clients, fixed plan", outs, growth_mb=grown, alone_per_s=rate, least_over=0.5)


class Asker:
    """One of many clients: a link that asks once whenever it is up. See `ServerEvents`."""

    def __init__(self, address: str, bundle: Bundle, number: int) -> None:
        self.link = ServerLink(LinkConfig(address), bundle, random.Random(number), self)
        self.answered: list[float] = []
        self.asked = self.lost = 0
        split = bundle.last - 1
        self._plan = Plan(1, split, None, CodecSetting.parse("cnn-co:8"))
        self._payload = payload_of(bundle, split)

    def on_up(self, server: ServerLink) -> None:
        self.asked += server.send(self.asked, self._plan, self._payload, time.monotonic() + 5.0, None)

    def on_message(self, server: ServerLink, event: object) -> None:
        assert isinstance(event, Result), event
        self.answered.append(time.monotonic())

    def on_down(self, server: ServerLink, lost: list[int], why: str) -> None:
        self.lost += len(lost)

    def on_room(self) -> None: ...

    def on_refused(self, server: ServerLink, why: str) -> None: ...


def payload_of(bundle: Bundle, split: int) -> bytes:
    import numpy as np

    return cnn_co.encode(np.zeros(bundle.cut_points[split].shape, np.float32))


def test_200_clients_come_back(bundle: Bundle) -> None:
    """The server is killed under 200 sessions; once it is back, each has an answer within 5 s."""
    clients = 200

    async def main() -> tuple[float, float]:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(server())
            askers = [Asker(first.address, bundle, number) for number in range(clients)]
            tasks = [asyncio.create_task(asker.link.run()) for asker in askers]
            try:
                await until(lambda: all(asker.answered for asker in askers))
                port, memory = first.port, memory_mb(os.getpid())
                await asyncio.to_thread(first.kill)
                await asyncio.sleep(AWAY_S)
                second = await asyncio.to_thread(lambda: stack.enter_context(server(port=port)))
                healthy = time.monotonic()
                await until(lambda: all(asker.answered[-1] > healthy for asker in askers))
                took = max(asker.answered[-1] for asker in askers) - healthy
                await asyncio.sleep(1)
                assert second.metric("spinn_sessions") == clients
                assert all(asker.asked == len(asker.answered) + asker.lost for asker in askers)
                return took, memory_mb(os.getpid()) - memory
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def until(condition: Any) -> None:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110  # of many askers
                await asyncio.sleep(0.05)

    took, grown = asyncio.run(main())
    Row("200 clients reconnect", 2 * clients, 0, 0, 0, 0, None, round(took, 3), round(grown, 1)).write()
    assert took <= 5.0, f"the last of them had its answer after {took:.1f} s"
