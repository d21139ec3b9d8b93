"""The page in a real Chromium: what a person sees, and what happens when they change something."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from spinn_stream.bundle.manifest import BUNDLES

from ..bundles import SMALL
from ..processes import shaper
from ..stalls import Stalls
from .conftest import DEADLINE_MS, FAKE, TRIES_MS, Browsers, Demo, Seen, click, demo

OLD_MS = 3000
"""Two pictures on the way and one that waits, each a second at most."""

BACK_MS, SEEN_MS = 2000, 60
"""The page is looked at every 20 ms, and takes a frame or two to show what it was told."""

FIRST_START_MS = 180_000
"""The first start with a bundle measures the machine."""

KINDS = """() => {
  window.kinds = [];
  const root = document.querySelector("[data-lane=ours]");
  const cut = () => [...document.querySelectorAll("button")].some((b) => b.textContent.includes("End the outage"));
  setInterval(() => window.kinds.push([performance.now(), root.dataset.kind, cut()]), 20);
}"""


NONE_FOR_A_SECOND = """() => {
  const now = performance.now();
  const isServed = document.querySelector("[data-lane=ours]").dataset.kind === "server";
  if (isServed || window.served === undefined) window.served = now;
  return now - window.served > 1000;
}"""
"""Whether no answer of the server's was shown for a second."""


def wait_for_kind(page: Any, *kinds: str, ms: float = TRIES_MS) -> float:
    """Until an answer of ours of one of these kinds is shown; how long it took, in ms."""
    began = page.evaluate("performance.now()")
    wanted = json.dumps(kinds)
    page.wait_for_function(
        f"() => {wanted}.includes(document.querySelector('[data-lane=ours]').dataset.kind)", timeout=ms, polling=10
    )
    return float(page.evaluate("performance.now()") - began)


def choose(page: Any, label: str, option: str) -> None:
    page.get_by_label(label).click()
    page.get_by_role("option", name=option).click()


def ask(page: Any, goal: str) -> None:
    field = page.get_by_label("goal")
    field.fill(goal)
    field.press("Enter")


def test_nothing_goes_wrong_on_the_page_and_no_other_host_is_asked(page: Any, seen: Seen, running: Demo) -> None:
    page.wait_for_selector(".charts canvas")
    page.wait_for_timeout(1000)
    assert seen.errors == []
    assert seen.addresses == {running.address.split("/")[2]}


@pytest.mark.alone  # beside others, a server may be too slow to be relied on at all
def test_an_outage_moves_the_answers_to_the_device_and_its_end_brings_the_server_s_back(page: Any) -> None:
    ask(page, "minimize device_energy")  # the server answers most frames; no bound that other work here could break
    wait_for_kind(page, "server", ms=3 * TRIES_MS)
    click(page, "Outage")
    page.wait_for_selector("text=End the outage")
    page.evaluate("() => { delete window.served; }")
    page.wait_for_function(NONE_FOR_A_SECOND, polling=10)
    click(page, "End the outage")
    page.wait_for_selector("text=End the outage", state="hidden")
    wait_for_kind(page, "server", ms=3 * TRIES_MS)
    choose(page, "goal", "quick answers")


@pytest.mark.alone
@pytest.mark.slow
def test_an_outage_is_seen_for_a_deadline_at_most_and_its_end_within_two_seconds(page: Any) -> None:
    """Longer by as much as the machine let nobody run meanwhile."""
    ask(page, "minimize device_energy")  # the server answers most frames; no bound that other work here could break
    wait_for_kind(page, "server", ms=3 * TRIES_MS)
    page.evaluate(KINDS)
    stalls = Stalls()
    zero_s = time.monotonic() - page.evaluate("performance.now()") / 1000
    click(page, "Outage")
    page.wait_for_selector("text=End the outage")
    page.wait_for_timeout(2000)
    click(page, "End the outage")
    page.wait_for_selector("text=End the outage", state="hidden")
    wait_for_kind(page, "server")
    kinds = page.evaluate("window.kinds")
    stalls.end()
    began = min(at for at, _, cut in kinds if cut)
    ended = max(at for at, _, cut in kinds if cut)
    last = max((at for at, kind, _ in kinds if kind == "server" and at < ended), default=began)
    back = min(at for at, kind, _ in kinds if kind == "server" and at > ended)

    def stood_still_ms(since: float, until: float) -> float:
        return stalls.within_ms(zero_s + since / 1000, zero_s + until / 1000)

    assert last - began <= DEADLINE_MS + SEEN_MS + stood_still_ms(began, last)
    assert back - ended <= BACK_MS + SEEN_MS + stood_still_ms(ended, back)
    choose(page, "goal", "quick answers")


def test_another_goal_brings_another_plan_and_its_reason_in_words(page: Any) -> None:
    choose(page, "goal", "as right as it gets")
    page.wait_for_selector(".plan >> text=because something else is asked for now")
    before = page.locator(".plan").text_content()
    choose(page, "goal", "spare the server")
    page.wait_for_function(
        "(before) => document.querySelector('.plan').textContent !== before"
        " && document.querySelector('.plan').textContent.includes('because')",
        arg=before,
    )
    choose(page, "goal", "quick answers")


def test_a_goal_that_cannot_be_understood_is_said_and_changes_nothing(page: Any) -> None:
    ask(page, "minimize nonsense")
    page.wait_for_selector(".q-notification >> text=nonsense")
    page.wait_for_selector(".hint >> text=accuracy_drop <= 1%")


def test_keys_do_what_buttons_do(page: Any) -> None:
    page.locator("body").click(position={"x": 5, "y": 300})
    page.keyboard.press("o")
    page.wait_for_selector("text=End the outage")
    page.keyboard.press("o")
    page.wait_for_selector("button:has-text('Outage')")
    deadline = page.locator("[aria-label='deadline of every answer'] [tabindex]")
    deadline.focus()
    deadline.press("ArrowRight")
    page.wait_for_selector(".value >> text=260 ms")
    deadline.press("ArrowLeft")
    page.wait_for_selector(".value >> text=250 ms")


def test_two_pages_show_the_same_and_one_sees_what_the_other_changes(page: Any, chromium: Any, running: Demo) -> None:
    other = chromium.new_page()
    other.set_default_timeout(TRIES_MS)
    other.goto(running.address)
    other.wait_for_selector(".answer[data-kind]")
    page.wait_for_selector("text=2 pages are open")
    deadline = other.locator("[aria-label='deadline of every answer'] [tabindex]")
    deadline.focus()
    deadline.press("ArrowRight")
    page.wait_for_selector(".value >> text=260 ms")
    deadline.press("ArrowLeft")
    page.wait_for_selector(".value >> text=250 ms")
    other.close()


def test_the_comparison_shows_both_others_on_the_same_pictures(page: Any) -> None:
    page.get_by_role("switch", name="compare with either alone").click()
    for lane in ("device", "server"):
        page.wait_for_selector(f"[data-lane={lane}][data-kind]")
        page.wait_for_function(f"() => !document.querySelector('[data-lane={lane}] .pill').textContent.includes('…')")
    page.get_by_role("switch", name="compare with either alone").click()
    page.wait_for_selector("[data-lane=device]", state="hidden")


def test_a_killed_server_is_told_and_started_again(page: Any) -> None:
    click(page, "Kill")
    page.wait_for_selector(".chip.bad >> text=server: not running")
    wait_for_kind(page, "device", "fallback")
    click(page, "Start")
    page.wait_for_selector(".chip.good >> text=server: connected")


@pytest.mark.slow
def test_a_page_that_is_slow_gets_fewer_pictures_and_none_is_old(chromium: Any, running: Demo) -> None:
    slow = chromium.new_page()
    slow.set_default_timeout(TRIES_MS)
    slow.goto(running.address)
    slow.wait_for_selector(".answer[data-kind]")
    # Half a second of work for each picture, as of a page that cannot keep up.
    slow.evaluate(
        """() => { const real = window.createImageBitmap;
        window.createImageBitmap = async (blob) => {
          await new Promise((done) => setTimeout(done, 500)); return real(blob); }; }"""
    )
    check_that_delays_do_not_grow(slow, most_fps=3)
    slow.close()


@pytest.mark.slow
def test_a_viewer_on_a_slow_link_gets_fewer_pictures_and_none_is_old(chromium: Any, running: Demo) -> None:
    """1 Mb/s: three or four pictures of 35 kB a second, of the 30 that the clip has."""
    host, _, port = running.address.removeprefix("http://").strip("/").partition(":")
    with shaper(int(port)) as link:
        slow = chromium.new_page()
        slow.set_default_timeout(TRIES_MS)
        slow.goto(f"http://{host}:{link.port}")
        slow.wait_for_selector(".answer[data-kind]")
        link.state({"down_mbps": 1.0, "rtt_ms": 50.0})
        check_that_delays_do_not_grow(slow, most_fps=15)
        slow.close()


def check_that_delays_do_not_grow(page: Any, most_fps: float) -> None:
    """Of pictures and labels, over three looks of 4 s, when what was on its way before has come."""
    looks = []
    for _ in range(4):
        page.wait_for_timeout(4000)
        looks.append(page.evaluate("spinnWebcam.figures(4)"))
    for look in looks[1:]:
        assert 0 < look["fps"] < most_fps
        assert look["picture_ms"]["p50"] < OLD_MS and look["label_ms"]["p50"] < OLD_MS, looks


def test_a_server_that_is_not_there_is_said_and_the_device_answers(chromium: Any) -> None:
    with demo("--source", "demo", "--server", "ws://127.0.0.1:1", *SMALL) as started:
        page = chromium.new_page()
        page.set_default_timeout(TRIES_MS)
        page.goto(started.address)
        page.wait_for_selector(".answer[data-kind=device]")
        page.wait_for_selector(".chip.bad >> text=server: unreachable: trying again")
        page.wait_for_selector(".plan >> text=Everything runs on the device")
        page.close()


@pytest.mark.slow
def test_the_bundle_and_the_labels_that_are_named_are_those_of_the_page_and_its_server(chromium: Any) -> None:
    groups = set(json.loads((BUNDLES / "everyday.json").read_text()).values())
    with demo("--source", "demo", "--bundle", "lite-1000", "--labels", "everyday") as started:
        page = chromium.new_page()
        page.set_default_timeout(TRIES_MS)
        page.goto(started.address)
        page.wait_for_selector(".chip.good >> text=server: connected", timeout=FIRST_START_MS)
        page.wait_for_selector(".answer[data-kind]")
        assert page.locator("[data-lane=ours] [data-part=label]").text_content() in groups
        page.close()


# the visitor's own camera, which the page keeps from here on


def test_a_camera_that_is_denied_busy_or_not_there_is_said_with_what_to_do(page: Any) -> None:
    for name, says in (
        ("NotAllowedError", "Allow it"),
        ("NotReadableError", "The camera is busy"),
        ("NotFoundError", "finds no camera"),
    ):
        page.evaluate(
            "(name) => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', name)); }",
            name,
        )
        click(page, "My camera")
        page.wait_for_selector(f"[data-notice=camera] >> text={says}")


def test_a_machine_without_a_camera_and_a_refusal_are_told_apart(running: Demo, browser: Browsers) -> None:
    for flag, says in (
        ("--use-fake-ui-for-media-stream", "finds no camera"),
        ("--deny-permission-prompts", "Allow it"),
    ):
        with browser(flag, *FAKE[: flag.startswith("--deny")]) as started:
            page = started.new_page()
            page.goto(running.address)
            click(page, "My camera")
            page.wait_for_selector(f"[data-notice=camera] >> text={says}", timeout=TRIES_MS)


def test_the_newest_page_with_a_camera_is_used_and_the_other_is_told(running: Demo, browser: Browsers) -> None:
    with browser(*FAKE) as started:
        first, second = started.new_page(), started.new_page()
        for page in (first, second):
            page.set_default_timeout(TRIES_MS)
            page.goto(running.address)
            page.wait_for_selector(".answer[data-kind]")
            click(page, "My camera")
            page.wait_for_selector(".chip.good >> text=camera: the visitor's camera")
        first.wait_for_selector("[data-notice=camera] >> text=another camera is used now")
        second.wait_for_selector("[data-notice=camera]", state="hidden")
