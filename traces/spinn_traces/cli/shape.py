"""`spinn shape`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from spinn_stream.errors import ConfigError
from spinn_stream.trace import FIELDS, MAX_DURATION_S, Trace
from spinn_traces.readers import FORMATS, read_trace
from spinn_traces.shape.control import control_endpoint
from spinn_traces.shape.settings import TRACE, Settings
from spinn_traces.shape.shaper import Shaper


def shape(
    listen: Annotated[str, typer.Option(help="HOST:PORT that clients connect to; port 0: any free one")],
    to: Annotated[str, typer.Option(help="HOST:PORT of the server")],
    trace: Annotated[Path | None, typer.Option(help="recording to impose; begins with the first connection")] = None,
    format_name: Annotated[str | None, typer.Option("--format", help=f"of it: one of {', '.join(FORMATS)}")] = None,
    offset: Annotated[float, typer.Option(help="seconds of the trace to leave out at first")] = 0.0,
    no_loop: Annotated[bool, typer.Option("--no-loop", help="at its end, stay as its last sample")] = False,
    up_mbps: Annotated[float | None, typer.Option(help="capacity towards the server", show_default="unlimited")] = None,
    down_mbps: Annotated[float | None, typer.Option(help="towards clients", show_default="unlimited")] = None,
    rtt_ms: Annotated[float | None, typer.Option(help="added round trip, half each way", show_default="0")] = None,
    jitter_ms: Annotated[float, typer.Option(help="added to that: from 0 to this")] = 0.0,
    loss: Annotated[float | None, typer.Option(help="share of segments lost: stalls", show_default="0")] = None,
    seed: Annotated[int, typer.Option(help="of jitter and losses")] = 0,
    queue_ms: Annotated[float, typer.Option(help="length of each direction's queue, at least 10 segments")] = 100.0,
    queue_bytes: Annotated[int | None, typer.Option(help="length of the queue in bytes instead")] = None,
    control: Annotated[str | None, typer.Option(help="HOST:PORT: GET tells the state, POST changes settings")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks and what happens")] = False,
) -> None:
    """Stand between a client and a server, and make their link as slow and as far as you say, or as in a trace.

    Prints `ready HOST:PORT` once it accepts; ends with Ctrl-C. Values on the command line replace those of a trace.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.DEBUG if debug else logging.INFO, format="spinn shape: %(message)s"
    )
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    host, port = _address("--listen", listen)
    target_host, target_port = _address("--to", to)
    control_at = None if control is None else _address("--control", control)
    options = {"up_mbps": up_mbps, "down_mbps": down_mbps, "rtt_ms": rtt_ms, "loss": loss}
    given = {name: value for name, value in options.items() if value is not None}
    played = None if trace is None else _read(trace, format_name, no_loop=no_loop)
    _check_options(trace, format_name, offset, no_loop=no_loop)
    settings: dict[str, Any] = {} if played is None else dict.fromkeys(FIELDS, TRACE)
    try:
        start = Settings().changed(
            {**settings, **given, "jitter_ms": jitter_ms, "queue_ms": queue_ms, "queue_bytes": queue_bytes},
            has_trace=played is not None,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if played is not None:
        print(f"spinn shape: {_said(trace, played, given)}", file=sys.stderr, flush=True)
        played = played.filled()

    def endpoint(shaper: Shaper) -> contextlib.AbstractAsyncContextManager[int]:
        assert control_at is not None
        return control_endpoint(shaper, *control_at)

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with contextlib.AsyncExitStack() as stack:
            shaper = Shaper(target_host, target_port, start, trace=played, offset_s=offset, seed=seed)
            bound = await stack.enter_async_context(shaper.listen(host, port))
            lines = [f"ready {host}:{bound}"]
            if control_at is not None:
                lines.append(f"control {control_at[0]}:{await stack.enter_async_context(endpoint(shaper))}")
            print("\n".join(lines), flush=True)
            await stop.wait()

    uvloop.run(main())


def _read(path: Path, format_name: str | None, *, no_loop: bool) -> Trace:
    found = read_trace(path, format_name).trace
    return replace(found, duration_s=MAX_DURATION_S) if no_loop else found


def _check_options(trace: Path | None, format_name: str | None, offset: float, *, no_loop: bool) -> None:
    if trace is None and (offset or no_loop or format_name):
        raise ConfigError("--offset, --no-loop and --format are about a trace: add --trace FILE")
    if not 0 <= offset <= MAX_DURATION_S:
        raise ConfigError(f"--offset is {offset} s, expected 0 to {MAX_DURATION_S:g}")


def _said(path: Path | None, trace: Trace, given: dict[str, float]) -> str:
    """One line on where each value comes from."""
    filled, parts = trace.filled(), []
    for name in FIELDS:
        if name in given:
            parts.append(f"{name} {given[name]:g} as given")
        elif name not in trace.recorded:
            other = {"up_mbps": "down_mbps", "down_mbps": "up_mbps"}.get(name)
            value = f"{filled.values(name)[0]:g}"
            parts.append(f"{name} assumed: {f'as {other}' if other in trace.recorded else value}")
        else:
            parts.append(f"{name} of the trace" + ("" if name in trace.measured else ", which assumes it"))
    return f"{path}: {'; '.join(parts)}"


def _address(option: str, text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{option} is {text!r}, expected HOST:PORT")
    return host, int(port)
