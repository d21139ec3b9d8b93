"""The doctor's checks, where real processes cannot make them fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from spinn_client.apps import doctor
from spinn_client.apps.doctor import check_deadline, check_engines, check_source
from spinn_client.apps.doctor_server import RoundTrip
from spinn_client.apps.findings import attempt
from spinn_client.sources.base import Picture, Source
from spinn_stream.bundle import Bundle
from spinn_stream.errors import SourceError
from spinn_stream.profile import BatchProfile, Profile, Timing
from spinn_stream.runtime import Choice


class Camera:
    """A camera that gives no frames, or hangs in the middle of the first."""

    name, live, fps = "camera", True, None

    def __init__(self, hangs: threading.Event | None) -> None:
        self._hangs = hangs

    def pictures(self) -> Iterator[Picture]:
        if self._hangs is not None:
            self._hangs.wait()
        yield from ()

    def close(self) -> None:
        """Nothing is held."""


def test_a_camera_that_hangs_does_not_hang_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    camera: Source = Camera(released)
    monkeypatch.setattr(doctor, "open_source", lambda text: camera)
    monkeypatch.setattr(doctor, "SOURCE_LIMIT_S", 0.05)
    [found], last = check_source("0")
    released.set()
    assert found.state == "failed" and "hangs" in found.text and last is None


def test_a_camera_without_frames_fails_and_one_that_nobody_named_only_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    camera: Source = Camera(None)
    monkeypatch.setattr(doctor, "open_source", lambda text: camera)
    [found], _ = check_source("0")
    assert (found.state, found.text) == ("failed", "opens, but gives no frame")

    def refuse(text: str) -> Source:
        raise SourceError("it is busy")

    monkeypatch.setattr(doctor, "open_source", refuse)
    [found], _ = check_source(None)
    assert found.state in ("warning", "skipped")


def test_what_fails_unexpectedly_is_one_finding() -> None:
    def check() -> tuple[list[doctor.Finding], None]:
        raise ZeroDivisionError("by nothing")

    [found], made = attempt("magic", check)
    assert (found.name, found.state, made) == ("magic", "failed", None)
    assert "ZeroDivisionError: by nothing" in found.text


@pytest.mark.parametrize(("bfloat16", "state"), [(True, "warning"), (False, "skipped")])
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, bfloat16: bool, state: str) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("openvino", "torch") else "1.0")
    monkeypatch.setattr(doctor, "_has_bfloat16", lambda: bfloat16)
    states = {f.name: f for f in doctor.check_packages()[0]}
    assert states["openvino"].state == state and "pip install 'spinn-stream[openvino]'" in states["openvino"].to_do
    assert states["torch"].state == "skipped"


def test_an_engine_that_is_refused_is_a_warning_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle
) -> None:
    choice = Choice({"onnxruntime": 5.0}, {"torch": "torch: no such instruction"})
    monkeypatch.setattr(doctor, "choose_engine", lambda bundle, threads, say: choice)
    found, _ = check_engines(bundle, 1, print)
    assert [(f.name, f.state) for f in found] == [("engine onnxruntime", "ok"), ("engine torch", "warning")]
    assert "no such instruction" in found[1].text


@pytest.mark.parametrize(
    ("deadline_ms", "states"),
    [
        (1000, ["ok", "ok", "ok"]),
        (200, ["ok", "ok", "warning"]),  # the server takes 150 ms
        (61, ["ok", "warning", "warning"]),  # 56 ms to the first exit, at cut point 13
        (60, ["failed", "warning", "warning"]),
    ],
)
def test_deadlines_are_compared_with_what_the_pipeline_spares(
    bundle: Bundle, deadline_ms: float, states: list[str]
) -> None:
    """A profile of 4 ms for preprocessing and each segment, and no more."""
    cuts = tuple(e.cut for e in bundle.exits[:-1])
    each, nothing = Timing(4, 4), Timing(0, 0)
    row = BatchProfile(1, (each,) * bundle.last, (nothing,) * len(cuts), 0.0)
    profile = Profile("made up", cuts, (row,), each)
    trip = RoundTrip(cuts[0], payload_bytes=1, median_ms=217, link_ms=150, engine=None)
    found, _ = check_deadline(bundle, profile, deadline_ms, trip)
    assert [f.state for f in found] == states


def test_a_password_in_a_source_s_address_is_not_shown() -> None:
    [found], _ = check_source("rtsp://me:secret@127.0.0.1:1/x")
    assert found.state == "failed" and "secret" not in found.name + found.text
    assert found.name == "source rtsp://me:***@127.0.0.1:1/x"
