"""What the URL of an MQTT sink says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from spinn_client.sources.names import shown
from spinn_stream.errors import ConfigError

FORM = "mqtt[s]://[USER:PASSWORD@]HOST[:PORT]/TOPIC[?qos=0|1|2&retain=true|false&ca=FILE]"
PORTS = {"mqtt": 1883, "mqtts": 8883}
LONGEST_TOPIC = 65_535 - len("/events")  # bytes of UTF-8, as a message of MQTT counts them
VALUES = {"qos": ("0", "1", "2"), "retain": ("true", "false")}


@dataclass(frozen=True)
class MqttAddress:
    """Where messages go, and how. `str` gives the URL as it may be shown, without its password.

    qos: 0 at most once, 1 at least once, 2 exactly once. retain: the broker keeps the newest result for those who
    subscribe later. ca: file of the certificate authority to trust, PEM; None: those of the system.
    """

    host: str
    port: int
    topic: str
    user: str | None = None
    password: str | None = None
    tls: bool = False
    qos: int = 1
    retain: bool = False
    ca: str | None = None

    @classmethod
    def of(cls, url: str) -> Self:
        """Raises ConfigError: says what is wrong with it, and what was expected."""
        try:
            parts = urlsplit(url)
            host, port = _host(parts), parts.port or PORTS[parts.scheme]
            topic = _topic(unquote(parts.path.removeprefix("/")))
            options = _options(parts.query)
        except ValueError as error:
            raise ConfigError(f"the sink is {shown(url)}: {error}; expected {FORM}") from error
        if "ca" in options and parts.scheme != "mqtts":
            raise ConfigError(f"the sink is {shown(url)}: ca is for mqtts://")
        return cls(
            host, port, topic,
            user=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            tls=parts.scheme == "mqtts", qos=int(options.get("qos", cls.qos)),
            retain=options.get("retain") == "true", ca=options.get("ca"),
        )  # fmt: skip

    def __str__(self) -> str:
        login = "" if self.user is None else f"{self.user}{'' if self.password is None else ':***'}@"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return shown(f"{'mqtts' if self.tls else 'mqtt'}://{login}{host}:{self.port}/{self.topic}")


def _host(parts: SplitResult) -> str:
    if not parts.hostname:
        raise ValueError("it names no host")
    parts.hostname.encode("idna")  # a ValueError if no host can have that name
    return parts.hostname


def _topic(topic: str) -> str:
    if not topic or topic.startswith("$") or any(character in topic for character in "+#\0"):
        raise ValueError(f"the topic is {topic!r:.60}, expected one without +, #, and $ at its beginning")
    if len(topic.encode(errors="replace")) > LONGEST_TOPIC:
        raise ValueError(f"the topic has more than {LONGEST_TOPIC} bytes")
    topic.encode()
    return topic


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in options.items():
        if name not in (*VALUES, "ca"):
            raise ValueError(f"no option {name!r:.60}")
        if name in VALUES and value not in VALUES[name]:
            raise ValueError(f"{name} is {value!r:.60}")
    return options
