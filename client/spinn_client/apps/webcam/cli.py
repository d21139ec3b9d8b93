"""`spinn webcam`."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from spinn_client import DeviceConfig, LinkConfig, Result, SpinnError
from spinn_client.sinks.live import LiveView
from spinn_client.sinks.summary import Tally
from spinn_client.sources.quiet import quiet_decoders
from spinn_stream.bundle import DEFAULT_BUNDLE
from spinn_stream.cli.options import Threads, plain_console, read_threads, read_token
from spinn_stream.cli.signals import heeded
from spinn_stream.errors import ConfigError

from .backend import traces_in
from .camera import VISITOR
from .controls import Controls, Setup
from .record import Recorder
from .session import Answer


def webcam(
    source: Annotated[
        str, typer.Option(help="auto (camera 0, else the clip), a camera's number, FILE, rtsp://..., demo or browser")
    ] = "auto",
    server: Annotated[str | None, typer.Option(help="ws://HOST:PORT to join", show_default="one is started")] = None,
    server_token_file: Annotated[Path | None, typer.Option(help="file with the token that the server asks for")] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="certificate authority of the server to trust, PEM")] = None,
    sla: Annotated[str | None, typer.Option(help="the goal: constraints and targets")] = None,
    deadline_ms: Annotated[float | None, typer.Option(help="age by which every frame has its answer")] = None,
    device_slowdown: Annotated[float, typer.Option(help="take this many times as long, as a small board does")] = 1.0,
    compare: Annotated[
        bool, typer.Option("--compare", help="begin with the comparison: device only, server only")
    ] = False,
    host: Annotated[str, typer.Option(help="address of the page; others than loopback ask for a token")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port of the page; 0: any free one")] = 8080,
    token_file: Annotated[Path | None, typer.Option(help="file with the token that the page asks for")] = None,
    tls: Annotated[str | None, typer.Option(help="self-signed: the page by https, as browsers' cameras need")] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="open the page in this machine's browser")] = False,
    headless: Annotated[bool, typer.Option("--headless", help="no page: the answers on the terminal")] = False,
    record: Annotated[Path | None, typer.Option(help="write pictures and answers here, as MP4")] = None,
    traces: Annotated[Path | None, typer.Option(help="folder of recorded networks (CSV)")] = None,
    bundle: Annotated[Path, typer.Option(help="folder of the bundle", show_default="built in")] = DEFAULT_BUNDLE,
    labels: Annotated[str | None, typer.Option(help="everyday, or a JSON FILE, class -> group")] = None,
    runtime: Annotated[str, typer.Option(help="auto, onnxruntime, openvino or torch")] = "auto",
    threads: Threads = "auto",
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks and what happens")] = False,
) -> None:
    """A page with the live picture, its label, the age of the answer, who gave it, and a comparison.

    Starts a server and a shaped link of its own, or joins a server. Ctrl-C ends it.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if debug else logging.CRITICAL,  # what a user should know is told on the page
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    if headless and source == VISITOR:
        raise ConfigError("--headless has no page, and so no visitor with a camera: name another --source")
    if tls not in (None, "self-signed"):
        raise ConfigError(f"--tls is {tls!r}, expected self-signed")
    if not debug:
        quiet_decoders()
    try:
        device = DeviceConfig(bundle, runtime, read_threads(threads))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    link = None if server is None else LinkConfig(server, read_token(server_token_file), tls_ca, allow_offline=True)
    setup = Setup(
        _source(source), link, device, traces_in(traces), sla, deadline_ms, device_slowdown, compare, bundle, labels
    )
    recorder = Recorder(record) if record is not None else None

    def controls(**outlets: Any) -> Controls:
        return Controls(setup, **outlets)

    try:
        if headless:
            _headless(controls, recorder)
        else:
            _with_page(controls, recorder, host, port, read_token(token_file), tls is not None, open_browser)
    finally:
        if recorder is not None:
            recorder.close()
            print(recorder.error or f"recorded {recorder.written} pictures in {recorder.path}", file=sys.stderr)


def _source(named: str) -> str:
    if named != "auto":
        return named
    there = sys.platform != "linux" or Path("/dev/video0").exists()
    if not there:
        print("no camera at this machine: playing the built-in clip (--source names another)", file=sys.stderr)
    return "0" if there else "demo"


def _with_page(
    make: Callable[..., Controls], recorder: Recorder | None, host: str, port: int, token: str | None, secure: bool,
    open_browser: bool,
) -> None:  # fmt: skip
    try:
        from .app import Place, application, listen, serve, token_for
        from .tls import self_signed
    except ImportError as error:
        raise ConfigError(
            f"the page needs packages that are not installed ({error.name}): pip install 'spinn-client[webcam]'"
        ) from error
    with listen(host, port) as listening, tempfile.TemporaryDirectory(prefix="spinn-webcam-") as folder:
        place = Place(
            host,
            listening.getsockname()[1],
            token_for(host, token),
            self_signed(Path(folder), host) if secure else None,
        )
        controls = make(on_answer=recorder.add if recorder is not None else _nobody)
        try:
            print(f"open {place.address}", flush=True)
            if open_browser:
                import webbrowser

                webbrowser.open(place.address)
            uvloop.run(serve(application(controls, place), place, listening, _work(controls)))
        finally:
            controls.close()


def _work(controls: Controls) -> Callable[[], Awaitable[None]]:
    """What runs beside the page."""

    async def start() -> None:
        try:
            await controls.start()
        except SpinnError as error:
            if not controls.session.opened:
                raise
            controls.trouble(str(error))  # the device answers alone

    async def work() -> None:
        async with asyncio.TaskGroup() as both:
            both.create_task(controls.look_on())
            both.create_task(start())

    async def unwrapped() -> None:
        try:
            await work()
        except* SpinnError as errors:
            raise errors.exceptions[0] from None

    return unwrapped


def _headless(make: Callable[..., Controls], recorder: Recorder | None) -> None:
    """The terminal view of `spinn run`, until a signal comes."""
    tally = Tally()

    def add(answer: Answer) -> None:
        if answer.lane == "ours":
            _add(tally, answer.result)
        if recorder is not None:
            recorder.add(answer)

    controls = make(on_answer=add)
    view = LiveView(plain_console(stderr=True), tally, lambda: _in_words(controls))

    async def main() -> None:
        stop = asyncio.Event()
        for number in heeded():
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        view.start()
        working = asyncio.ensure_future(_work(controls)())
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        working.cancel()

    try:
        uvloop.run(main())
    finally:
        view.stop()
        controls.close()


def _add(tally: Tally, result: Result) -> None:
    tally.add(result)


def _in_words(controls: Controls) -> dict[str, Any]:
    state = controls.state
    if state is None:
        return {"plan": f"starting: {controls.session.at}"}
    return {
        "link": state.link, "rtt_ms": state.rtt_ms, "up_mbps": state.up_mbps, "load": state.load,
        "plan": f"{state.plan.id}: {controls.reason}",
    }  # fmt: skip


def _nobody(answer: Answer) -> None:
    """Without a recorder."""
