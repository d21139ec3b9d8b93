"""What the URL of an MQTT sink says, and what is wrong with one."""

from __future__ import annotations

import pytest

from spinn_client.sinks.base import open_sink
from spinn_client.sinks.mqtt_address import MqttAddress
from spinn_stream.errors import ConfigError


def test_a_url_says_where_and_how() -> None:
    assert MqttAddress.of("mqtt://broker/cams/door") == MqttAddress("broker", 1883, "cams/door")
    assert MqttAddress.of("mqtts://broker/t") == MqttAddress("broker", 8883, "t", tls=True)
    full = MqttAddress.of("mqtts://robot:p%40ss%2Fword@[::1]:99/a%20b?qos=2&retain=true&ca=/x.pem")
    assert full == MqttAddress("::1", 99, "a b", "robot", "p@ss/word", True, 2, True, "/x.pem")
    assert str(full) == "mqtts://robot:***@[::1]:99/a b"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mqtt:", "names no host"),
        ("mqtt://", "names no host"),
        ("mqtt:///topic", "names no host"),
        ("mqtt://host", r"the topic is ''"),
        ("mqtt://host/", r"the topic is ''"),
        ("mqtt://host/a/%23", r"the topic is 'a/#', expected one without"),
        ("mqtt://host/+/a", r"the topic is '\+/a'"),
        ("mqtt://host/$SYS/a", r"the topic is '\$SYS/a'"),
        ("mqtt://host/a%00", "the topic is"),
        ("mqtt://host/" + "a" * 65_530, "more than 65528 bytes"),
        ("mqtt://host:port/t", "ort"),
        ("mqtt://host:99999/t", "ort"),
        ("mqtt://[::1/t", "IPv6"),
        (f"mqtt://{'a' * 64}/t", "label"),
        ("mqtt://host/t?qos=3", "qos is '3'"),
        ("mqtt://host/t?qos=", "qos is ''"),
        ("mqtt://host/t?retain=yes", "retain is 'yes'"),
        ("mqtt://host/t?retry=1", "no option 'retry'"),
        ("mqtt://host/t?ca=/x", "ca is for mqtts://"),
    ],
)
def test_what_is_wrong_is_one_line_without_the_password(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        open_sink(url.replace("://", "://robot:hunter2@", 1) if "://h" in url else url)
    assert "\n" not in str(caught.value) and "hunter2" not in str(caught.value)


def test_a_scheme_that_is_no_sink_is_told_without_its_password() -> None:
    with pytest.raises(ConfigError, match=r"mqt://robot:\*\*\*@host/t, expected - or one of jsonl:") as caught:
        open_sink("mqt://robot:hunter2@host/t")
    assert "hunter2" not in str(caught.value)
