"""The page: its layout, its inputs, and all that it shows besides the pictures."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from nicegui import events, ui

from spinn_stream.plan import DEFAULT_SLA

from .camera import VISITOR
from .controls import Controls, attempt
from .timeline import CHARTS, DEVICE, OURS, STEP_S, kinds, options

TITLE = "spinn webcam"
PURPOSE = "what the camera sees, told by this device or a server"

SLAS = {
    DEFAULT_SLA: "quick answers",
    "accuracy_drop <= 1%; minimize server_cost, then latency_ms": "spare the server",
    "accuracy_drop <= 1%; minimize uplink, then latency_ms": "send little",
    "accuracy_drop <= 1%; minimize device_energy, then latency_ms": "spare the battery",
    "minimize accuracy_drop, then latency_ms": "as right as it gets",
}
"""Goals in words; any other SLA can be typed."""

MBPS: tuple[float | None, ...] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, None)
SLOWDOWNS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)

NOTES_SHOWN = 4

HELD_S = 2.0
"""A slider that is being moved is left alone for this long."""

CHART_TITLES = {
    "age": "Age of answers",
    "bandwidth": "Network",
    "plan": "Who answers (paler: earlier exits)",
    "cost": "What a frame costs",
}

STAGE = """
<div class="stage" data-page="{page}">
  <canvas role="img" aria-label="the camera's picture"></canvas>
  <div class="wait">{waits}</div>
  <div class="answer" data-lane="ours">
    <div class="line"><span data-part="label"></span><span data-part="confidence"></span></div>
    <div class="meter"><div data-part="bar"></div></div>
    <div class="line">
      <span class="pill" data-part="where"></span><span class="pill age" data-part="age"></span>
      <span class="small" data-part="why"></span><span class="small" data-part="top"></span>
    </div>
  </div>
</div>
<p class="notice" data-notice="connection" role="status" hidden></p>
<p class="notice" data-notice="camera" role="alert" hidden></p>
"""

LANE = """
<div class="card lane" data-lane="{lane}">
  <h2>{title}</h2>
  <div class="line"><span data-part="label">starting …</span><span data-part="confidence"></span></div>
  <div class="line"><span class="pill" data-part="where">…</span><span class="pill age" data-part="age">…</span>
  <span class="hint" data-part="why"></span></div>
</div>
"""

KEYS = (
    "<kbd>O</kbd> outage · <kbd>K</kbd> kill or start the server · <kbd>C</kbd> compare · <kbd>T</kbd> light or dark · "
    "<kbd>Tab</kbd> and arrows for the rest"
)


class Page:
    """One visitor's page. Several may be open. They show the same, and a change on one holds for all.

    Args:
        head: HTML that brings script and style.
    """

    def __init__(self, controls: Controls, head: str) -> None:
        self._controls = controls
        self._client = ui.context.client
        self._charts: dict[str, ui.echart] = {}
        self._kinds: list[str] = []
        self._shown_notes: list[Any] = []
        self._touched = 0.0  # when a slider was moved that was not let go yet
        ui.add_head_html(head)
        ui.colors(primary=OURS, negative="#c93c3c", positive=DEVICE)
        self._dark = ui.dark_mode(None)
        self._top()
        visitors = controls.setup.source == VISITOR
        waits = "choose “My camera” to begin" if visitors else "waiting for the first picture …"
        with ui.element("main").classes("desk"):
            with ui.element("div").classes("left"):
                ui.html(STAGE.format(page=self._client.id, waits=waits), sanitize=False)
                self._trouble = ui.label().classes("notice").props('role="status"')
                self._trouble.visible = False
                self._lanes()
                with ui.element("section").classes("card"):
                    self._heading("The plan, and why")
                    self._plan = ui.label("loading").classes("plan").props('aria-live="polite"')
                with ui.element("section").classes("card happened"):
                    self._heading("What happened")
                    self._notes = ui.element("div").classes("notes")
            with ui.element("div").classes("right"):
                self._what_is_asked()
                self._network()
                self._machines()
                self._camera()
                ui.html(KEYS, sanitize=False).classes("hint keys")
            self._chart_room = ui.element("section").classes("charts")
        ui.keyboard(self._key, repeating=False)
        ui.timer(STEP_S, self._refresh)

    # Layout

    def _top(self) -> None:
        with ui.element("header").classes("top"):
            ui.html("<b>spinn</b> webcam", sanitize=False).classes("name")
            ui.label(PURPOSE).classes("purpose")
            self._server_chip = ui.label("server").classes("chip")
            self._camera_chip = ui.label("camera").classes("chip")
            self._pages_chip = ui.label().classes("chip")
            ui.element("div").classes("space")
            ui.button(icon="contrast", on_click=self._change_theme).props(
                'flat round dense aria-label="light or dark"'
            ).tooltip("light or dark")

    def _lanes(self) -> None:
        self._lane_room = ui.element("section").classes("lanes")
        with self._lane_room:
            for lane, title in (("device", "Device alone, same pictures"), ("server", "Server alone, same pictures")):
                ui.html(LANE.format(lane=lane, title=title), sanitize=False)
        self._lane_room.visible = False

    def _what_is_asked(self) -> None:
        wish = self._controls.session.wish
        with ui.element("section").classes("card"):
            self._heading("What is asked")
            known = dict(SLAS) if wish.sla in SLAS else {**SLAS, wish.sla: wish.sla}
            self._sla = ui.select(
                known, value=wish.sla, label="goal", with_input=True, new_value_mode="add-unique",
                on_change=self._sla_chosen,
            ).props("outlined dense options-dense")  # fmt: skip
            self._sla_text = ui.label(wish.sla).classes("hint")
            self._deadline = self._slider(
                "deadline of every answer", 30, 500, 10, wish.deadline_ms, lambda value: f"{value:.0f} ms",
                lambda value: self._controls.agree(deadline_ms=value),
            )  # fmt: skip
            self._compare = ui.switch(
                "compare with either alone", value=self._controls.comparing, on_change=self._compare_set
            )

    def _network(self) -> None:
        backend, link = self._controls.backend, self._controls.backend.link
        with ui.element("section").classes("card"):
            self._heading("Network to the server")
            if not backend.shaped:
                ui.label(f"{backend.named} is reached directly: a link over TLS is not shaped.").classes("hint")
                return
            self._trace = ui.select(
                {"": "as set below", **{name: f"play {name}" for name in self._controls.setup.traces}},
                value=backend.playing, label="recorded network", on_change=self._trace_chosen,
            ).props("outlined dense options-dense")  # fmt: skip
            last = len(MBPS) - 1
            self._mbps = self._slider(
                "bandwidth", 0, last, 1, last, lambda value: _mbps(MBPS[round(value)]),
                lambda value: self._link(mbps=MBPS[round(value)]),
            )  # fmt: skip
            self._rtt = self._slider(
                "round trip", 0, 400, 10, link.rtt_ms, lambda value: f"{value:.0f} ms",
                lambda value: self._link(rtt_ms=value),
            )  # fmt: skip
            self._loss = self._slider(
                "loss", 0, 10, 0.5, 100 * link.loss, lambda value: f"{value:g} %",
                lambda value: self._link(loss=value / 100),
            )  # fmt: skip
            with ui.element("div").classes("buttons"):
                self._outage = ui.button("Outage", icon="wifi_off", on_click=self._toggle_outage)
                self._outage.props("unelevated no-caps color=negative")

    def _machines(self) -> None:
        with ui.element("section").classes("card"):
            self._heading("Server and device")
            ours = self._controls.backend.named is None
            with ui.element("div").classes("buttons"):
                self._kill = ui.button("Kill", icon="bolt", on_click=lambda: self._try(self._controls.kill_server()))
                self._start = ui.button(
                    "Start", icon="play_arrow", on_click=lambda: self._try(self._controls.start_server())
                )
                for button in (self._kill, self._start):
                    button.props("outline no-caps")
                    button.visible = ours
            if not ours:
                ui.label(f"{self._controls.backend.named} is not ours to kill or start.").classes("hint")
            self._slowdown = self._slider(
                "device slowed down", 0, len(SLOWDOWNS) - 1, 1, _slowdown(self._controls.session.wish.slowdown),
                lambda value: f"{SLOWDOWNS[round(value)]:g} times",
                lambda value: self._controls.slow_down(SLOWDOWNS[round(value)]),
            )  # fmt: skip

    def _camera(self) -> None:
        given = self._controls.setup.source
        sources = {given: "as started", "demo": "Clip"} if given != VISITOR else {"demo": "Clip"}
        with ui.element("section").classes("card"):
            self._heading("Camera")
            with ui.element("div").classes("buttons"):
                ui.button("My camera", icon="photo_camera").props("outline no-caps").on(
                    "click", js_handler="() => window.spinnWebcam?.camera.start()"
                )
                for source, title in sources.items():
                    ui.button(title, on_click=lambda source=source: self._controls.use_camera(source)).props(
                        "outline no-caps"
                    )

    def _slider(
        self, title: str, least: float, most: float, step: float, value: float, words: Callable[[float], str],
        act: Callable[[float], Coroutine[Any, Any, object]],
    ) -> ui.slider:  # fmt: skip
        """A slider with its value in words. It acts when it is released, or moved by a key."""
        with ui.element("div").classes("field"):
            with ui.element("div").classes("row1"):
                ui.label(title).classes("hint")
                said = ui.label(words(value)).classes("value")
            slider = ui.slider(min=least, max=most, step=step, value=value)
            slider.props(f'aria-label="{title}"').on_value_change(lambda event: said.set_text(words(event.value)))
            slider.on("update:model-value", self._touch, [])
            slider.on("change", lambda event: self._try(act(float(event.args))), throttle=0.2)
        return slider

    @staticmethod
    def _heading(text: str) -> None:
        ui.html(text, tag="h2", sanitize=False)

    # What a person does

    def _touch(self) -> None:
        self._touched = time.monotonic()

    async def _try(self, work: Coroutine[Any, Any, object]) -> bool:
        wrong = await attempt(work)
        self._touched = 0.0
        if wrong and not self._client.is_deleted:
            with self._client:
                ui.notify(wrong, type="negative", multi_line=True, close_button=True)
        self._refresh()
        return not wrong

    async def _sla_chosen(self, event: events.ValueChangeEventArguments[Any]) -> None:
        wish = self._controls.session.wish
        if event.value and event.value != wish.sla and not await self._try(self._controls.agree(sla=str(event.value))):
            self._sla.value = wish.sla

    async def _compare_set(self, event: events.ValueChangeEventArguments[Any]) -> None:
        if event.value != self._controls.comparing:
            await self._try(self._controls.compare(bool(event.value)))

    async def _trace_chosen(self, event: events.ValueChangeEventArguments[Any]) -> None:
        if event.value != self._controls.backend.playing:
            await self._try(self._controls.play(event.value or ""))

    def _link(self, **changes: Any) -> Coroutine[Any, Any, None]:
        return self._controls.set_link(replace(self._controls.backend.link, **changes))

    async def _toggle_outage(self) -> None:
        if self._controls.backend.shaped:
            await self._try(self._controls.set_outage(not self._controls.backend.outage))

    def _change_theme(self) -> None:
        self._dark.value = {None: True, True: False, False: None}[self._dark.value]

    async def _key(self, event: events.KeyEventArguments) -> None:
        modifiers = event.modifiers
        if not event.action.keydown or modifiers.ctrl or modifiers.alt or modifiers.meta:
            return
        controls = self._controls
        does: dict[str, Callable[[], Awaitable[object] | None]] = {
            "o": self._toggle_outage,
            "k": lambda: self._try(controls.kill_server() if controls.backend.running else controls.start_server()),
            "c": lambda: self._try(controls.compare(not controls.comparing)),
            "t": self._change_theme,
        }
        act = does.get(str(event.key.name).lower())
        if act is not None and (waits := act()) is not None:
            await waits

    # What is shown

    def _refresh(self) -> None:
        """Update all that is not sent with the pictures, unless the page is hidden or slow."""
        viewer = self._controls.hub.viewers.get(self._client.id)
        if self._client.is_deleted or (viewer is not None and not viewer.keeps_up):
            return
        self._refresh_words()
        if time.monotonic() - self._touched > HELD_S:
            self._refresh_inputs()
        self._refresh_notes()
        self._refresh_charts()

    def _refresh_words(self) -> None:
        controls, state = self._controls, self._controls.state
        up = state is not None and state.link == "up" and not controls.backend.outage
        self._server_chip.text = f"server: {controls.server_in_words}"
        self._server_chip.classes(remove="good bad", add="good" if up else "bad")
        self._camera_chip.text = f"camera: {controls.camera_in_words or 'none'}"
        self._camera_chip.classes(remove="good bad", add="good" if controls.camera.silent_s < 2 else "bad")
        pages = len(controls.hub.viewers)
        self._pages_chip.text = f"{pages} pages are open; what one changes holds for all"
        self._pages_chip.visible = pages > 1
        self._plan.text = controls.reason or f"starting: {controls.session.at}"
        trouble = [note for note in controls.notes if note.trouble and time.monotonic() - note.at < 6]
        self._trouble.visible = bool(trouble)
        if trouble:
            self._trouble.text = trouble[-1].text

    def _refresh_inputs(self) -> None:
        """Show changes by another page, or by a trace."""
        controls, backend, wish = self._controls, self._controls.backend, self._controls.session.wish
        if wish.sla not in self._sla.options:
            self._sla.set_options({**SLAS, wish.sla: wish.sla})
        for element, value in ((self._sla, wish.sla), (self._deadline, wish.deadline_ms)):
            _set(element, value)
        self._sla_text.text = wish.sla
        _set(self._slowdown, _slowdown(wish.slowdown))
        _set(self._compare, controls.comparing)
        self._lane_room.visible = controls.comparing
        self._kill.set_enabled(backend.running)
        self._start.set_enabled(not backend.running)
        if backend.shaped:
            _set(self._trace, backend.playing)
            _set(self._mbps, _nearest(backend.link.mbps))
            _set(self._rtt, round(backend.link.rtt_ms))
            _set(self._loss, round(100 * backend.link.loss, 1))
            self._outage.text = "End the outage" if backend.outage else "Outage"
            self._outage.props(f"icon={'wifi' if backend.outage else 'wifi_off'}")

    def _refresh_notes(self) -> None:
        newest = list(self._controls.notes)[-NOTES_SHOWN:][::-1]
        if newest == self._shown_notes:
            return
        self._shown_notes = newest
        self._notes.clear()
        with self._notes:
            for note in newest:
                clock = time.strftime("%H:%M:%S", time.localtime(time.time() - (time.monotonic() - note.at)))
                ui.label(f"{clock}  {note.text}").classes("trouble" if note.trouble else "")

    def _refresh_charts(self) -> None:
        cuts, exits = self._controls.session.names
        if not self._charts and exits:
            self._kinds = kinds(exits)
            with self._chart_room:
                for chart in CHARTS:
                    with ui.element("div").classes("card"):
                        self._heading(CHART_TITLES[chart])
                        self._charts[chart] = ui.echart(options(chart, exits, cuts))
            return
        for name, drawn in self._charts.items():
            drawn.run_chart_method("setOption", {"series": self._controls.timeline.series(name, self._kinds)})


def _mbps(value: float | None) -> str:
    return "unlimited" if value is None else f"{value:g} Mb/s"


def _nearest(mbps: float | None) -> int:
    """Index in MBPS."""
    if mbps is None:
        return len(MBPS) - 1
    return min(range(len(MBPS) - 1), key=lambda index: abs((MBPS[index] or 0.0) - mbps))


def _slowdown(factor: float) -> int:
    """Index in SLOWDOWNS."""
    return min(range(len(SLOWDOWNS)), key=lambda index: abs(SLOWDOWNS[index] - factor))


def _set(element: Any, value: Any) -> None:
    if element.value != value:
        element.value = value
