"""The live view in a real browser."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from ..browser import Browsers, Seen, browser

__all__ = ["browser"]  # a fixture

TRIES_MS = 60_000
END_S = 20.0


def test_a_flight_is_seen_and_its_link_is_cut_and_mended_from_the_page(browser: Browsers) -> None:
    pytest.importorskip("pybullet")
    command = [sys.executable, "-m", "spinn_stream", "drone", "--page", "--port", "0"]
    flights = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert flights.stdout is not None
        address = next(line.split()[1] for line in flights.stdout if line.startswith("open http"))
        seen = Seen()
        with browser() as chromium:
            page = chromium.new_page()
            page.set_default_timeout(TRIES_MS)
            seen.watch(page)
            page.goto(address)
            page.get_by_text("take-off").first.wait_for()
            page.get_by_text("ms old").wait_for()
            page.wait_for_function(
                "document.querySelector('canvas.camera').getContext('2d').getImageData(9, 9, 1, 1).data[3] > 0"
            )
            page.get_by_role("button", name="Cut the link").click()
            page.get_by_text("the link is cut").wait_for()
            page.get_by_role("button", name="Mend it").click()
            page.get_by_text("the link is back").wait_for()
        assert seen.errors == [] and seen.addresses == {address.split("/")[2]}
        flights.send_signal(signal.SIGINT)
        _, errors = flights.communicate(timeout=END_S)
        assert flights.returncode == 0 and "Traceback" not in errors, errors
    finally:
        flights.kill()
        flights.wait()
