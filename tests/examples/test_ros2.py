"""The ROS 2 example without a ROS: its messages as CDR bytes, its health, and its player with a real stream."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.ros2 import player as player_module
from examples.ros2.health import Health, health_of
from examples.ros2.messages import Types, classification, diagnostics
from examples.ros2.player import Player
from spinn_client import DeviceConfig, FixedPlan, Plan, Result, State, SyncStream

from ..client.sinks.made import result

typesys = pytest.importorskip("rosbags.typesys", reason="rosbags, which serialises ROS messages, is not installed")

# https://github.com/ros-perception/vision_msgs, branch ros2
DEFINITIONS = {
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/Classification": "std_msgs/Header header\nObjectHypothesis[] results\n",
}
NAMES = {
    "Classification": "vision_msgs", "ObjectHypothesis": "vision_msgs", "DiagnosticArray": "diagnostic_msgs",
    "DiagnosticStatus": "diagnostic_msgs", "KeyValue": "diagnostic_msgs", "Header": "std_msgs",
    "Time": "builtin_interfaces",
}  # fmt: skip
NOW_NS = 1_700_000_000_250_000_000


@pytest.fixture(scope="module")
def store() -> Any:
    made = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    for name, text in DEFINITIONS.items():
        made.register(typesys.get_types_from_msg(text, name))
    return made


@pytest.fixture(scope="module")
def types(store: Any) -> Types:
    return Types(**{name: store.types[f"{package}/msg/{name}"] for name, package in NAMES.items()})


def sent(store: Any, message: Any) -> Any:
    """What whoever subscribes gets of it."""
    return store.deserialize_cdr(store.serialize_cdr(message, message.__msgtype__), message.__msgtype__)


def test_a_result_is_stamped_with_the_capture_of_its_frame(store: Any, types: Types) -> None:
    given = result(label="tabby", confidence=0.5, top=(("tabby", 0.5), ("lynx", 0.25)), age_ms=500.0)
    got = sent(store, classification(types, given, NOW_NS, "camera"))
    # 250 ms after the second, less 500 ms
    assert (got.header.stamp.sec, got.header.stamp.nanosec) == (1_699_999_999, 750_000_000)
    assert got.header.frame_id == "camera"
    assert [(h.class_id, h.score) for h in got.results] == [("tabby", 0.5), ("lynx", 0.25)]


def test_what_the_result_says_comes_first_and_no_answer_is_no_hypothesis(store: Any, types: Types) -> None:
    unknown = result(label="unknown", confidence=0.5, top=(("tabby", 0.5), ("lynx", 0.25)))
    got = sent(store, classification(types, unknown, NOW_NS, ""))
    assert [h.class_id for h in got.results] == ["unknown", "tabby", "lynx"]
    nothing = result(label=None, confidence=None, exit=None, where=None, reason="no_answer")
    assert list(sent(store, classification(types, nothing, NOW_NS, "")).results) == []


@pytest.mark.parametrize(("level", "number"), [("OK", 0), ("WARN", 1), ("ERROR", 2), ("STALE", 3)])
def test_health_becomes_a_status(store: Any, types: Types, level: Any, number: int) -> None:
    health = Health(level, "a line", {"link": "up", "rtt_ms": "1.5"})
    got = sent(store, diagnostics(types, health, NOW_NS, "/spinn", "rtsp://me:***@camera"))
    assert (got.header.stamp.sec, got.header.stamp.nanosec) == (1_700_000_000, 250_000_000)
    (status,) = got.status
    assert (status.level, status.name, status.message) == (number, "/spinn", "a line")
    assert status.hardware_id == "rtsp://me:***@camera"
    assert {value.key: value.value for value in status.values} == health.values


STATE = State(
    source="camera 0", source_up=True, link="up", server_url="ws://server", rtt_ms=1.5, up_mbps=1.0,
    plan=Plan(1, 0, None), plan_reason=None, load=1.0, server_load=None, server_queue_ms=None, server_engine=None,
    captured=5, taken=3, dropped={"expired": 2}, final=3, device=1, server=2, shortened=0, fallback=0, late=0,
    limited=0, unread=0, bytes_up=0, bytes_down=0,
)  # fmt: skip


def test_the_worst_that_is_known_is_told() -> None:
    def level(silent_s: float = 0.1, **changes: Any) -> str:
        return health_of(dataclasses.replace(STATE, **changes), "", silent_s).level

    assert level() == level(link="none") == "OK"
    assert level(link="away") == "WARN"
    assert level(silent_s=5.1) == level(silent_s=5.1, link="away") == "STALE"
    assert level(source_up=False) == level(source_up=False, silent_s=99, link="away") == "ERROR"
    assert health_of(None, "no file x.mp4", 99.0) == Health("ERROR", "no file x.mp4")
    assert health_of(STATE, "", 0.0).values["dropped"] == "2"


def wait_until(so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not so():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def test_the_player_outlives_a_source_that_is_not_there_and_plays_it_once_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(player_module, "RETRY_S", 0.1)
    pictures = tmp_path / "pictures"
    got: list[Result] = []

    def make() -> SyncStream:
        return SyncStream(str(pictures), plan=FixedPlan(split="final"), device=DeviceConfig(runtime="onnxruntime"))

    player = Player(make, got.append)
    player.start()
    try:
        wait_until(lambda: "no file" in player.health().message)
        assert player.health().level == "ERROR" and not got
        toys = Path(__file__).parents[2] / "examples" / "toys" / "circle"
        (tmp_path / "coming").mkdir()
        for picture in toys.iterdir():
            (tmp_path / "coming" / picture.name).write_bytes(picture.read_bytes())
        (tmp_path / "coming").rename(pictures)
        wait_until(lambda: len(got) >= 12)  # twice: it begins again at its end
    finally:
        player.close()
    assert {r.kind for r in got} == {"final"} and [r.frame for r in got[:6]] == list(range(6))
