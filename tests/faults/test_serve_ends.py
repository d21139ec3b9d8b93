"""How `spinn serve` ends: by signals at any moment, and by an engine that does not work any more."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from spinn_client.link.dial import dial
from spinn_stream.bundle import Bundle
from spinn_stream.codec import SUPPORTED, cnn_co
from spinn_stream.wire import Hello, Infer, Reject, decode, encode

from ..bundles import SMALL
from ..commands.test_errors import free_port
from ..processes import spinn, wait_ready
from ..server.engine_kinds import BROKEN, SETTING_UP

ROOT = Path(__file__).parents[2]
VERB = "import tests.server.engine_kinds; from spinn_stream.cli.main import main; main()"
SPLIT = 9
END_S = 15


class Serving:
    """`spinn serve` with one of the engines of `tests/server/engine_kinds.py`, until the block ends."""

    def __init__(self, folder: Path, runtime: str, *, port: int = 0, held: bool = False) -> None:
        self.broken, self.setting_up = folder / "broken", folder / "setting-up"
        if held:
            self.setting_up.touch()
        self.process = subprocess.Popen(
            [sys.executable, "-c", VERB, "serve", "--port", str(port), "--runtime", runtime, "--max-batch-size", "1",
             *SMALL],
            env=os.environ | {BROKEN: str(self.broken), SETTING_UP: str(self.setting_up)},
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def end(self, *signals: signal.Signals) -> tuple[int, str]:
        """Send these, and wait for its end: exit code and what it said on stderr."""
        for number in signals:
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=END_S)
        return self.process.returncode, errors


@contextmanager
def serving(folder: Path, runtime: str, *, port: int = 0, held: bool = False) -> Iterator[Serving]:
    made = Serving(folder, runtime, port=port, held=held)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


def get(port: int, path: str) -> tuple[int, str] | None:
    """Status and body; None: nobody listens yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except urllib.error.URLError:
        return None


def get_once_it_listens(port: int, path: str) -> tuple[int, str]:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if (said := get(port, path)) is not None:
            return said
        time.sleep(0.02)
    pytest.fail("nobody listens")


async def ask(address: str, bundle: Bundle) -> ClientConnection:
    """A client that has asked for something."""
    websocket = await dial(address, None, 100_000)
    payload = cnn_co.encode(np.zeros(bundle.cut_points[SPLIT].shape, np.float32))
    await websocket.send(encode(Hello(bundle.hash, SUPPORTED, None, "test")))
    await websocket.send(encode(Infer(1, SPLIT, cnn_co.NAME, None, 60_000, payload)))
    return websocket


async def rejects(websocket: ClientConnection) -> list[tuple[int | None, str]]:
    """What a client is refused until it is closed: requests, or None for the session, and reasons."""
    told = []
    try:
        async with asyncio.timeout(20):
            while True:
                message = decode(await websocket.recv(decode=False))
                if isinstance(message, Reject):
                    told.append((message.id, message.reason))
    except ConnectionClosed:
        return told


def test_an_engine_that_dies_is_told_to_clients_and_ends_the_server_with_one_line(
    tmp_path: Path, bundle: Bundle
) -> None:
    async def main(address: str) -> None:
        websocket = await ask(address, bundle)
        assert await rejects(websocket) == [(1, "internal"), (None, "internal")]
        assert websocket.close_code == 1011

    with serving(tmp_path, "dying") as it:
        address = wait_ready(it.process)
        it.broken.touch()
        asyncio.run(main(address))
        code, errors = it.end()
        assert code == 1 and "Traceback" not in errors
        assert (
            errors.splitlines()[-1]
            == "spinn serve: onnxruntime does not run any more: RuntimeError: the device is gone"
        )


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_it_says_that_it_is_not_ready_while_it_sets_up_and_can_be_ended_then(
    tmp_path: Path, number: signal.Signals
) -> None:
    port = free_port()
    with serving(tmp_path, "dying", port=port, held=True) as it:
        assert get_once_it_listens(port, "/readyz") == (503, "starting: the engine is being set up\n")
        assert get(port, "/healthz") == (200, "ok\n")
        code, errors = it.end(number)
        assert code == 0 and "Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_well_once_it_is_ready(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path, "dying") as it:
        port = int(wait_ready(it.process).rpartition(":")[2])
        assert get(port, "/readyz") == (200, "ok\n")
        code, errors = it.end(number)
        assert code == 0 and "Traceback" not in errors


def test_a_signal_ends_it_although_the_engine_hangs(tmp_path: Path, bundle: Bundle) -> None:
    async def main(address: str) -> None:
        await (await ask(address, bundle)).close()

    with serving(tmp_path, "hanging") as it:
        address = wait_ready(it.process)
        it.broken.touch()
        asyncio.run(main(address))
        code, errors = it.end(signal.SIGTERM)
        assert code == 0 and "Traceback" not in errors


def test_a_port_that_is_taken_is_said_before_the_engine_is_set_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with serving(tmp_path, "dying", port=port, held=True) as it:
            code, errors = it.end()
            assert code == 1 and len(errors.splitlines()) == 1
            assert errors.startswith(f"spinn serve: cannot listen on 127.0.0.1:{port}: ")


def test_a_second_signal_ends_the_process_at_once() -> None:
    script = (
        "import asyncio, spinn_server.process as process\n"
        "async def main():\n"
        "    heard = process.first_signal(); print('listening', flush=True)\n"
        "    await heard; print('heard', flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "heard\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=END_S)
        assert process.returncode == -signal.SIGINT
    finally:
        process.kill()
        process.communicate()


def test_signals_that_are_ignored_stay_ignored() -> None:
    script = (
        "import asyncio, os, signal, spinn_server.process as process\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "async def main():\n"
        "    heard = process.first_signal()\n"
        "    os.kill(os.getpid(), signal.SIGHUP); await asyncio.sleep(0.1); assert not heard.done()\n"
        "    os.kill(os.getpid(), signal.SIGTERM); await heard\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=END_S)


def test_a_key_with_a_pass_phrase_is_one_line_and_no_prompt(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not here")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-passout", "pass:sesame", "-days", "1", "-subj",
         "/CN=localhost", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    done = spinn("serve", "--tls-cert", str(cert), "--tls-key", str(key))
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"spinn serve: {key} has a pass-phrase") and len(done.stderr.splitlines()) == 1
