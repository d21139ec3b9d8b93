"""Answers for an MQTT broker: `mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC`, or `mqtts://` over TLS.

    TOPIC            each result, as a line of `--jsonl`
    TOPIC/events     events (server lost, source back), as {"event", "text", "at_s"}
    TOPIC/status     "online" or "offline", kept by the broker; if this client vanishes, the broker says "offline"

paho-mqtt does the protocol, in a thread of its own, and reconnects if the broker was away. (aiomqtt wraps the same
package for asyncio, but a sink does not run on asyncio.)
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from spinn_client.events import Event
from spinn_client.frames.results import Result
from spinn_stream.errors import ConfigError

from .background import Background
from .jsonl import line
from .mqtt_address import MqttAddress

MAX_WAITING = 1000
"""Most results and events that wait for the broker, half a minute's; then the oldest is dropped."""

WINDOW = 20
"""Most messages on their way to the broker, unacknowledged. As many as paho and mosquitto send at once by default."""

KEEPALIVE_S = 15  # the longest silence before a broker that froze counts as lost
LONGEST_PAUSE_S = 30  # between two tries to connect; the first is a second, then they double
LAST_MESSAGES_S = 2.0
SHORT_S = 0.05

ONLINE, OFFLINE = "online", "offline"


class MqttSink:
    """Publishes results and events. A slow or absent broker delays no answer.

    `dropped` counts the messages that were given up: the oldest if MAX_WAITING wait, those without the broker's
    acknowledgement at the end, and with QoS 0 those not yet written when a connection broke. With QoS 1 (a message may
    come twice) and 2, every message was received or is counted. With QoS 0 the broker acknowledges nothing, so messages
    that were written to a broken connection may be lost without being counted.

    Raises:
        ConfigError: paho-mqtt is missing, or the certificate authority of the address cannot be used.
    """

    def __init__(self, address: MqttAddress) -> None:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:
            raise ConfigError("an MQTT sink needs paho-mqtt: pip install 'spinn-client[mqtt]'") from error
        self._address = address
        self._tell: Callable[[str], object] = lambda text: None
        self._changed = threading.Condition()  # what follows belongs to it
        self._connections = 0  # how many there were, up to the one that is there or was lost last
        self._connected = self._told = self._giving_up = False
        self._acknowledged: list[int] = []
        self._on_their_way: set[int] = set()
        self._lost = 0
        self.given = 0
        """Results and events that were given for publishing."""
        self._thread: Background[tuple[float, Result | Event]] = Background(
            self._publish, name="mqtt", bound=MAX_WAITING
        )
        client = self._client = Client(CallbackAPIVersion.VERSION2)
        if address.user is not None:
            client.username_pw_set(address.user, address.password)
        if address.tls:
            try:
                client.tls_set(address.ca)
            except OSError as error:
                raise ConfigError(f"cannot use the certificates in {address.ca}: {error}") from error
        client.will_set(f"{address.topic}/status", OFFLINE, qos=1, retain=True)
        client.reconnect_delay_set(1, LONGEST_PAUSE_S)
        client.on_connect, client.on_disconnect = self._answered, self._disconnected
        client.on_connect_fail, client.on_publish = self._unreachable, self._published

    @property
    def dropped(self) -> int:
        """Results and events that the broker did not get, so far."""
        return self._thread.dropped + self._lost

    def begin(self, tell: Callable[[str], object]) -> None:
        """Begin to connect; it goes on in a thread."""
        self._tell = tell
        self._client.connect_async(self._address.host, self._address.port, keepalive=KEEPALIVE_S)
        self._client.loop_start()

    def add(self, result: Result) -> None:
        self._put(result)

    def event(self, event: Event) -> None:
        self._put(event)

    def close(self, within_s: float) -> None:
        """Publish what is left, for LAST_MESSAGES_S at most, and disconnect. Then report what was dropped."""
        end = time.monotonic() + min(within_s, LAST_MESSAGES_S)
        self._thread.close(end - time.monotonic())
        with self._changed:
            self._wait(lambda: not self._on_their_way, end)
            self._giving_up = True
            self._changed.notify_all()
            self._lost += len(self._on_their_way)
            self._on_their_way.clear()
            connected = self._connected
        self._thread.close(SHORT_S)  # it may have been waiting for the broker
        if connected:
            said = self._client.publish(f"{self._address.topic}/status", OFFLINE, qos=1, retain=True)
            with contextlib.suppress(RuntimeError):  # the connection broke at this moment
                said.wait_for_publish(max(SHORT_S, end - time.monotonic()))
        self._client.disconnect()  # its thread ends by itself; waiting for it could take as long as a connection
        if self.dropped:
            self._tell(f"{self._address}: {self.dropped} of {self.given} messages were dropped")

    def _put(self, item: Result | Event) -> None:
        self.given += 1
        self._thread.put_newest((time.monotonic(), item))

    # In the thread that publishes. It never holds the lock while it calls paho, which calls back with locks of its own

    def _publish(self, items: list[tuple[float, Result | Event]]) -> None:
        for at_s, item in items:
            topic, payload, retain = self._message(at_s, item)
            while not self._handed_over(topic, payload, retain):
                pass

    def _handed_over(self, topic: str, payload: str, retain: bool) -> bool:
        """Wait until a message may go out, and give it to paho. False: it could not take it; try again."""
        with self._changed:
            self._wait(lambda: self._giving_up or (self._connected and len(self._on_their_way) < WINDOW))
            if self._giving_up:
                self._lost += 1
                return True
            connection = self._connections
        info = self._client.publish(topic, payload, self._address.qos, retain)
        if info.rc and self._address.qos == 0:  # with another QoS paho keeps it until it is connected again
            return False
        with self._changed:
            broken = not self._connected or connection != self._connections
            if self._giving_up or (broken and self._address.qos == 0):
                self._lost += 1
            else:
                self._on_their_way.add(info.mid)
        return True

    def _message(self, at_s: float, item: Result | Event) -> tuple[str, str, bool]:
        if not isinstance(item, Event):
            return self._address.topic, line(at_s, item), self._address.retain
        said = {"event": type(item).__name__, "text": item.text, "at_s": round(item.at, 6)}
        return f"{self._address.topic}/events", json.dumps(said), False

    def _wait(self, until: Callable[[], bool], end: float | None = None) -> None:
        """Wait, holding the lock, until the condition is true or the time has come."""

        def so() -> bool:
            self._on_their_way.difference_update(self._acknowledged)
            self._acknowledged.clear()
            return until()

        self._changed.wait_for(so, None if end is None else max(0.0, end - time.monotonic()))

    # In paho's thread

    def _answered(self, client: Any, userdata: object, flags: object, reason: Any, properties: object) -> None:
        if reason.is_failure:
            self._trouble(f"{self._address} refuses: {reason}")
            return
        client.publish(f"{self._address.topic}/status", ONLINE, qos=1, retain=True)
        with self._changed:
            self._connections += 1
            self._connected = True
            back, self._told = self._told, False
            self._changed.notify_all()
        if back:
            self._tell(f"{self._address} is there; {self.dropped} messages were dropped so far")

    def _disconnected(self, client: Any, userdata: object, flags: object, reason: object, properties: object) -> None:
        with self._changed:
            was_connected, self._connected = self._connected, False
            if self._address.qos == 0:  # paho forgets what it has not written
                self._on_their_way.difference_update(self._acknowledged)
                self._lost += len(self._on_their_way)
                self._on_their_way.clear()
            ending = self._giving_up
        if was_connected and not ending:
            self._trouble(f"lost {self._address}: {reason}")

    def _unreachable(self, client: Any, userdata: object) -> None:
        self._trouble(f"cannot connect to {self._address}: {sys.exception() or 'no reason given'}")  # paho handles it

    def _published(self, client: Any, userdata: object, mid: int, reason: object, properties: object) -> None:
        with self._changed:
            self._acknowledged.append(mid)
            self._changed.notify_all()

    def _trouble(self, text: str) -> None:
        """Report trouble, once until the broker is back."""
        with self._changed:
            told, self._told = self._told, True
        if not told:
            self._tell(f"{text}; the newest {MAX_WAITING} messages wait for it")


def open_sink(rest: str) -> MqttSink:
    """Raises ConfigError: an address that cannot be used."""
    return MqttSink(MqttAddress.of(f"mqtt:{rest}"))


def open_tls_sink(rest: str) -> MqttSink:
    """Raises ConfigError: an address that cannot be used."""
    return MqttSink(MqttAddress.of(f"mqtts:{rest}"))
