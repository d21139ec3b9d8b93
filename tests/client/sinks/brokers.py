"""A real MQTT broker, mosquitto, and someone who listens to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

WITHIN_S = 30.0

CONFIG = """
listener {port} 127.0.0.1
max_inflight_messages 0
persistence true
persistence_location {folder}/
autosave_interval 1
autosave_on_changes true
queue_qos0_messages true
"""
"""Subscriptions outlive a kill, so that nothing is lost between the broker and the one who listens.

What it acknowledges is on its way already, as a subscriber is sent everything at once.
"""


def wait_until(so: Callable[[], bool]) -> None:
    end = time.monotonic() + WITHIN_S
    while not so():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


class Broker:
    """mosquitto on a port that stays its own, begun and ended as often as a test likes. more: lines of its settings."""

    def __init__(self, folder: Path, more: str = "allow_anonymous true\n") -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin")
        if program is None:
            pytest.skip("there is no mosquitto here: apt-get install mosquitto")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        config = folder / "mosquitto.conf"
        config.write_text(CONFIG.format(port=self.port, folder=folder) + more)
        self._command = [program, "-c", str(config)]
        if os.geteuid() == 0:
            config.write_text(config.read_text() + "user root\n")  # otherwise it changes to one who may not write here
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def listens() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
            return False

        wait_until(listens)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(WITHIN_S)

    def freeze(self) -> None:
        """It keeps its connections and does nothing any more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def broker(folder: Path, more: str = "allow_anonymous true\n") -> Iterator[Broker]:
    made = Broker(folder, more)
    made.start()
    try:
        yield made
    finally:
        made.kill()


class Listener:
    """Keeps what comes for a topic and those below it: (topic, payload, whether the broker had kept it)."""

    def __init__(self, port: int, topic: str) -> None:
        self.got: list[tuple[str, str, bool]] = []
        self._topic = topic
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=f"listener {topic}", clean_session=False)
        self._client.on_connect, self._client.on_subscribe = self._connected, lambda *_: self._subscribed.set()
        self._client.on_message = self._message
        self._client.reconnect_delay_set(1, 1)
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(WITHIN_S)

    def payloads(self, topic: str) -> list[str]:
        return [payload for of, payload, _ in list(self.got) if of == topic]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: Client, *_: Any) -> None:
        client.subscribe(f"{self._topic}/#", qos=1)

    def _message(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        self.got.append((message.topic, message.payload.decode(), message.retain))


@contextlib.contextmanager
def listener(port: int, topic: str) -> Iterator[Listener]:
    made = Listener(port, topic)
    try:
        yield made
    finally:
        made.close()
