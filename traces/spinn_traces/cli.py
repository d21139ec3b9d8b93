"""`spinn shape`."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer
import uvloop

from spinn_stream.errors import ConfigError

from .link_model import Conditions
from .shaper import Shaper


def shape(
    listen: Annotated[str, typer.Option(help="HOST:PORT that clients connect to; port 0: any free one")],
    to: Annotated[str, typer.Option(help="HOST:PORT of the server")],
    up_mbps: Annotated[float | None, typer.Option(help="capacity towards the server; without: unlimited")] = None,
    down_mbps: Annotated[float | None, typer.Option(help="capacity towards clients; without: unlimited")] = None,
    rtt_ms: Annotated[float, typer.Option(help="added round trip, half of it each way")] = 0.0,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:
    """Stand between a client and a server and make their link as slow and as far as you say.

    Prints `ready HOST:PORT` once it accepts; ends with Ctrl-C.
    """
    host, port = _address("--listen", listen)
    target_host, target_port = _address("--to", to)
    try:
        up, down = Conditions(up_mbps, rtt_ms / 2), Conditions(down_mbps, rtt_ms / 2)
    except ValueError as error:
        raise ConfigError(str(error)) from error

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with Shaper(target_host, target_port, up=up, down=down).listen(host, port) as bound:
            print(f"ready {host}:{bound}", flush=True)
            await stop.wait()

    uvloop.run(main())


def _address(option: str, text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{option} is {text!r}, expected HOST:PORT")
    return host, int(port)
