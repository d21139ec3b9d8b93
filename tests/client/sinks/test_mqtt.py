"""Answers through a real MQTT broker that comes and goes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spinn_client.events import ServerLost
from spinn_client.sinks import mqtt
from spinn_client.sinks.base import open_sink
from spinn_client.sinks.mqtt import MqttSink
from spinn_stream.errors import ConfigError

from .brokers import Broker, broker, listener, wait_until
from .made import result


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Broker]:
    with broker(tmp_path) as running:
        yield running


def opened(url: str, said: list[str] | None = None) -> MqttSink:
    sink = open_sink(url)
    assert isinstance(sink, MqttSink)
    sink.begin((said if said is not None else []).append)
    return sink


def frames(payloads: list[str]) -> list[int]:
    return [json.loads(payload)["frame"] for payload in payloads]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_results_events_and_status_have_a_topic_each(there: Broker, qos: int) -> None:
    with listener(there.port, "cams/door") as heard:
        sink = opened(f"mqtt://127.0.0.1:{there.port}/cams/door?qos={qos}")
        for frame in range(50):
            sink.add(result(frame))
        sink.event(ServerLost(1.5, "ws://x:1", "it closed"))
        sink.close(5.0)
        wait_until(lambda: heard.payloads("cams/door/status") == ["online", "offline"])
        wait_until(lambda: len(heard.payloads("cams/door")) == 50)
        first = json.loads(heard.payloads("cams/door")[0])
        assert first.pop("at_s") <= time.monotonic() and first == result(0).as_json()
        assert frames(heard.payloads("cams/door")) == list(range(50))
        (event,) = [json.loads(payload) for payload in heard.payloads("cams/door/events")]
        assert event == {"event": "ServerLost", "at_s": 1.5, "text": ServerLost(1.5, "ws://x:1", "it closed").text}
    assert (sink.given, sink.dropped) == (51, 0)


@pytest.mark.parametrize("qos", [1, 2])
def test_of_1000_results_through_a_broker_that_is_killed_each_is_received_or_counted(
    there: Broker, qos: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "MAX_WAITING", 200)
    said: list[str] = []
    with listener(there.port, "cam") as heard:
        sink = opened(f"mqtt://127.0.0.1:{there.port}/cam?qos={qos}", said)
        for frame in range(1000):
            sink.add(result(frame))
            time.sleep(0.003)  # a hundred times as fast as a camera would be too fast for the broker
            if frame == 300:
                there.kill()  # wherever the ones before it are
            if frame == 700:  # more than may wait have come meanwhile
                there.start()
                wait_until(lambda: len(said) >= 2)
        wait_until(lambda: 999 in frames(heard.payloads("cam")))
        sink.close(5.0)
        came = frames(heard.payloads("cam"))
    received = list(dict.fromkeys(came))  # a broker that was killed has forgotten what it had passed on
    assert len(received) + sink.dropped == sink.given == 1000
    assert sink.dropped > 0 and received == sorted(received)
    assert len(came) - len(received) <= mqtt.WINDOW
    assert "lost mqtt://" in said[0] and "is there; " in said[1]
    assert said[2:] == [f"mqtt://127.0.0.1:{there.port}/cam: {sink.dropped} of 1000 messages were dropped"]


def test_with_qos_0_what_could_not_be_written_is_counted(there: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "MAX_WAITING", 10)
    said: list[str] = []
    with listener(there.port, "cam") as heard:
        sink = opened(f"mqtt://127.0.0.1:{there.port}/cam?qos=0", said)
        sink.add(result(0))
        wait_until(lambda: frames(heard.payloads("cam")) == [0])
        there.kill()
        wait_until(lambda: len(said) == 1)
        for frame in range(1, 41):
            sink.add(result(frame))
        there.start()
        wait_until(lambda: 40 in frames(heard.payloads("cam")))
        sink.close(5.0)
    assert len(heard.payloads("cam")) + sink.dropped == sink.given == 41


def test_a_broker_that_freezes_gets_everything_once_it_goes_on(there: Broker) -> None:
    with listener(there.port, "cam") as heard:
        sink = opened(f"mqtt://127.0.0.1:{there.port}/cam")
        sink.add(result(0))
        wait_until(lambda: frames(heard.payloads("cam")) == [0])
        there.freeze()
        for frame in range(1, 900):
            sink.add(result(frame))
        there.thaw()
        wait_until(lambda: frames(heard.payloads("cam")) == list(range(900)))
        sink.close(5.0)
    assert sink.dropped == 0


def test_a_client_that_vanishes_is_said_to_be_offline(there: Broker) -> None:
    script = (
        "import sys, time; from spinn_client import open_sink\n"
        "open_sink(sys.argv[1]).begin(print); time.sleep(60)\n"
    )  # fmt: skip
    with listener(there.port, "cam") as heard:
        client = subprocess.Popen([sys.executable, "-c", script, f"mqtt://127.0.0.1:{there.port}/cam"])
        try:
            wait_until(lambda: heard.payloads("cam/status") == ["online"])
        finally:
            client.kill()
            client.wait()
        wait_until(lambda: heard.payloads("cam/status") == ["online", "offline"])


def test_the_newest_result_is_kept_for_those_who_come_later_if_asked(there: Broker) -> None:
    sink = opened(f"mqtt://127.0.0.1:{there.port}/cam?retain=true")
    for frame in range(3):
        sink.add(result(frame))
    sink.close(5.0)
    with listener(there.port, "cam") as heard:
        wait_until(lambda: len(heard.got) == 2)
        kept = {topic: (payload, retained) for topic, payload, retained in heard.got}
    assert kept["cam/status"] == ("offline", True)
    assert frames([kept["cam"][0]]) == [2] and kept["cam"][1]


def test_without_a_broker_everything_is_dropped_and_counted_and_the_reason_told_once(there: Broker) -> None:
    there.kill()
    said: list[str] = []
    sink = opened(f"mqtt://127.0.0.1:{there.port}/cam", said)
    for frame in range(5):
        sink.add(result(frame))
    wait_until(lambda: len(said) == 1)
    sink.close(0.1)
    assert (sink.given, sink.dropped) == (5, 5)
    assert said[0].startswith(f"cannot connect to mqtt://127.0.0.1:{there.port}/cam: ") and "refused" in said[0]
    assert said[1:] == [f"mqtt://127.0.0.1:{there.port}/cam: 5 of 5 messages were dropped"]
    there.start()


def test_a_password_is_sent_and_never_shown(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    maker = shutil.which("mosquitto_passwd")
    if maker is None:
        pytest.skip("there is no mosquitto_passwd here: apt-get install mosquitto")
    subprocess.run([maker, "-b", "-c", str(passwords), "robot", "p@ss/word"], check=True, capture_output=True)
    if os.geteuid() == 0:
        passwords.chmod(0o644)
    with broker(tmp_path, f"allow_anonymous false\npassword_file {passwords}\n") as there:
        said: list[str] = []
        right = opened(f"mqtt://robot:p%40ss%2Fword@127.0.0.1:{there.port}/cam", said)
        right.add(result(0))
        wait_until(lambda: not right._thread._waiting and bool(right._connections))
        right.close(5.0)
        assert (right.dropped, said) == (0, [])
        wrong = opened(f"mqtt://robot:hunter2@127.0.0.1:{there.port}/cam", said)
        wrong.add(result(0))
        wait_until(lambda: len(said) == 1)
        wrong.close(0.1)
    assert said[0].startswith(f"mqtt://robot:***@127.0.0.1:{there.port}/cam refuses: Not authorized")
    assert wrong.dropped == 1 and "hunter2" not in "".join(said)


def test_over_tls_the_broker_s_certificate_is_checked(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    listening = f"certfile {certificate}\nkeyfile {key}\n"
    with broker(tmp_path, f"{listening}allow_anonymous true\n") as there:
        said: list[str] = []
        trusted = opened(f"mqtts://127.0.0.1:{there.port}/cam?ca={certificate}", said)
        trusted.add(result(0))
        wait_until(lambda: bool(trusted._connections))
        trusted.close(5.0)
        assert (trusted.dropped, said) == (0, [])
        unknown = opened(f"mqtts://127.0.0.1:{there.port}/cam", said)
        unknown.add(result(0))
        wait_until(lambda: len(said) == 1)
        unknown.close(0.1)
    assert "certificate verify failed" in said[0] and unknown.dropped == 1


def test_a_certificate_authority_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("no certificate")
    for name in "ca", "missing":
        with pytest.raises(ConfigError, match=f"cannot use the certificates in {tmp_path / name}"):
            open_sink(f"mqtts://h/t?ca={tmp_path / name}")


def test_without_paho_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(ConfigError, match=r"pip install 'spinn-client\[mqtt\]'"):
        open_sink("mqtt://h/t")
