"""The smaller parts: timeline, recorder, certificate, and the processes behind the page."""

from __future__ import annotations

import ssl
import stat
import threading
from pathlib import Path

import av
import numpy as np
import pytest

from spinn_client import Result
from spinn_client.apps.webcam.app import listen
from spinn_client.apps.webcam.backend import Backend, Child, Link, read_trace, traces_in
from spinn_client.apps.webcam.camera import Shot
from spinn_client.apps.webcam.record import Recorder, draw
from spinn_client.apps.webcam.session import Answer, LaneName
from spinn_client.apps.webcam.timeline import CHARTS, Timeline, kinds, options
from spinn_client.apps.webcam.tls import self_signed
from spinn_stream.errors import ConfigError, SpinnError

EXITS = ["block11", "block16", "final"]


def answer(number: int = 0, *, lane: LaneName = "ours", age_ms: float = 40.0, fallback: bool = False) -> Answer:
    reason = "deadline" if fallback else "confident"
    result = Result(number, "final", "cat", 0.8, "block11", "device", reason, age_ms, 1, (("cat", 0.8),))
    return Answer(lane, number, Shot(np.full((48, 64, 3), 200, np.uint8), 10 + number / 30), result)


def test_a_sample_has_the_median_age_of_each_stream_and_who_answered_ours() -> None:
    timeline = Timeline()
    for age in (10.0, 30.0, 20.0):
        timeline.add(answer(age_ms=age))
    timeline.add(answer(age_ms=90.0, fallback=True))
    timeline.add(answer(lane="server", age_ms=70.0))
    sample = timeline.sample(1.0, None, 5.0)
    assert sample.ages == {"ours": 25.0, "server": 70.0}
    assert sample.answers == {"device block11": 3, "fallback": 1}
    assert timeline.sample(1.5, None, 5.0).ages == {}


@pytest.mark.parametrize("chart", CHARTS)
def test_a_chart_has_data_for_each_of_its_series(chart: str) -> None:
    timeline = Timeline()
    timeline.add(answer())
    timeline.sample(1.0, None, None)
    series = timeline.series(chart, kinds(EXITS))
    assert len(series) == len(options(chart, EXITS, ["input", *EXITS])["series"])


def test_a_recording_has_every_answered_picture_at_its_time(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "out.mp4")
    for number in range(5):
        recorder.add(answer(number))
    recorder.add(answer(9, lane="server"))
    recorder.close()
    assert (recorder.error, recorder.written, recorder.left_out) == ("", 5, 0)
    with av.open(str(tmp_path / "out.mp4")) as video:
        times = [frame.time for frame in video.decode(video=0)]
    assert times == pytest.approx([number / 30 for number in range(5)], abs=0.002)


def test_a_place_that_cannot_be_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot record"):
        Recorder(tmp_path / "nowhere" / "out.mp4")


def test_the_overlay_changes_the_lower_end_of_the_picture_only() -> None:
    before = np.full((480, 640, 3), 200, np.uint8)
    after = draw(before.copy(), answer())
    assert np.array_equal(before[:400], after[:400])
    assert not np.array_equal(before[416:], after[416:])


def test_a_self_signed_certificate_serves_this_machine_and_its_key_is_private(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path, "0.0.0.0")
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    trusting = ssl.create_default_context(cafile=str(certificate))
    assert trusting.get_ca_certs() is not None


def test_a_port_that_is_taken_is_said_with_what_to_do() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match=r"the port is taken.*--port"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_a_process_that_does_not_start_says_why() -> None:
    child = Child("shape", "--listen", "nonsense", "--to", "127.0.0.1:1")
    with pytest.raises(SpinnError, match=r"spinn shape did not start: .*nonsense"):
        child.wait_ready()


def test_the_link_of_a_shaper_is_set_cut_and_ended() -> None:
    said: list[str] = []
    backend = Backend("ws://127.0.0.1:9", said.append)
    try:
        assert backend.way().startswith("ws://127.0.0.1:")
        backend.set_link(Link(mbps=1.0, rtt_ms=50.0, loss=0.01))
        backend.set_outage(True)
        with pytest.raises(ConfigError, match="not ours"):
            backend.kill_server()
    finally:
        backend.close()
    assert said == []


def test_a_server_over_tls_is_reached_without_a_shaper() -> None:
    backend = Backend("wss://example.org", print)
    assert (backend.shaped, backend.way()) == (False, "wss://example.org")


def test_a_trace_is_imposed_as_it_goes_on_and_again_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    path.write_text("# spinn trace 1\n# measured: nothing\ntime_s,up_mbps,rtt_ms\n0,1,10\n0.2,2,20\n0.4,,\n")
    backend, seen, twice = Backend("wss://example.org", print), [], threading.Event()

    def note() -> None:
        seen.append((backend.link.mbps, backend.link.rtt_ms))
        if len(seen) == 4:
            twice.set()

    backend._impose = note  # type: ignore[method-assign]
    backend.play("short", read_trace(path))
    assert twice.wait(10)
    backend.close()
    assert seen[:4] == [(1.0, 10.0), (2.0, 20.0)] * 2


def test_the_traces_of_the_checkout_can_be_played() -> None:
    found = traces_in(None)
    assert "lte-train" in found
    assert all(read_trace(path).duration_s == 600 for path in found.values())
