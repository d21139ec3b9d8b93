"""`spinn doctor`."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import cv2
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spinn_client import DeviceConfig, LinkConfig
from spinn_client.sources.names import shown
from spinn_client.sources.quiet import quiet_decoders
from spinn_client.steering.guide import default_split
from spinn_stream.bundle import DEFAULT_BUNDLE, Bundle
from spinn_stream.cli.options import Threads, read_threads, read_token
from spinn_stream.errors import ConfigError
from spinn_stream.frame import Pixels

from .doctor import (
    check_bundle,
    check_clock,
    check_deadline,
    check_engines,
    check_packages,
    check_runtime,
    check_source,
)
from .doctor_server import RoundTrip, check_server
from .findings import HANGING, Finding, Findings, State, attempt

COLOURS: dict[State, str] = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}

T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """What the command line names."""

    source: str | None
    server: str | None
    bundle: Path
    runtime: str
    threads: int
    deadline_ms: float
    token_file: Path | None
    tls_ca: Path | None


def doctor(
    source: Annotated[str | None, typer.Option(help="as of `spinn run`; without: the first camera")] = None,
    server: Annotated[str | None, typer.Option(help="ws://HOST:PORT; without: not checked")] = None,
    bundle: Annotated[Path, typer.Option(help="folder of the bundle", show_default="built in")] = DEFAULT_BUNDLE,
    runtime: Annotated[str, typer.Option(help="auto, onnxruntime, openvino or torch")] = "auto",
    deadline_ms: Annotated[float, typer.Option(help="age by which every frame has its answer")] = 150.0,
    token_file: Annotated[Path | None, typer.Option(help="file with the token that the server asks for")] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="certificate authority to trust, PEM")] = None,
    threads: Threads = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:
    """Check this device, its camera, its server and its deadline, and say what to do. Exit code 1: something fails."""
    if not 1 <= deadline_ms <= 600_000:
        raise ConfigError(f"deadline_ms is {deadline_ms}, expected 1 to 600000")
    engine_threads = read_threads(threads)
    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG if debug else logging.CRITICAL)
    cv2.setNumThreads(engine_threads)  # as `spinn run` does
    if not debug:
        quiet_decoders()
    errors = Console(stderr=True)
    found = examine(
        Asked(source, server, bundle, runtime, engine_threads, deadline_ms, token_file, tls_ca),
        say=lambda text: errors.print(text, style="dim", highlight=False, markup=False, soft_wrap=True),
    )
    failed = any(f.state == "failed" for f in found)
    if as_json:
        print(json.dumps({"ok": not failed, "checks": [asdict(f) for f in found]}))
    else:
        _show(found)
    if any(thread.name == HANGING for thread in threading.enumerate()):
        sys.stdout.flush()
        os._exit(int(failed))  # a thread that hangs inside OpenCV holds what the interpreter would take apart
    raise typer.Exit(int(failed))


def examine(asked: Asked, say: Callable[[str], object]) -> Findings:
    """Every check, whatever the others find.

    Args:
        say: gets a line before each slow check.
    """
    found: Findings = []

    def check(name: str, work: Callable[[], tuple[Findings, T]]) -> T | None:
        more, made = attempt(name, work)
        found.extend(more)
        return made

    def skip(why: str, *names: str) -> Findings:
        return found + [Finding(name, "skipped", why) for name in names]

    check("packages", check_packages)
    check("clock", check_clock)
    frame = check(
        "camera" if asked.source is None else f"source {shown(asked.source)}", lambda: check_source(asked.source)
    )
    bundle = check("bundle", lambda: check_bundle(asked.bundle))
    if bundle is None:
        return skip("not checked without a bundle", "engines", "server", "deadline")
    choice = check("engines", lambda: check_engines(bundle, asked.threads, say))
    measured = check("runtime", lambda: check_runtime(bundle, choice, asked.runtime, asked.threads, say))
    if measured is None:
        return skip("not checked without an engine", "server", "deadline")
    trip = check("server", lambda: _server(asked, bundle, frame))
    check("deadline", lambda: check_deadline(bundle, measured.profile, asked.deadline_ms, trip))
    return found


def _server(asked: Asked, bundle: Bundle, frame: Pixels | None) -> tuple[Findings, RoundTrip | None]:
    if asked.server is None:
        return [Finding("server", "skipped", "not checked", "--server ws://HOST:PORT checks one")], None
    config = LinkConfig(asked.server, token=read_token(asked.token_file), tls_ca=asked.tls_ca)
    device = DeviceConfig(bundle, asked.runtime, asked.threads)
    return check_server(config, bundle, device, default_split(bundle, bundle.default_threshold), frame)


def _show(found: Findings) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for f in found:
        said = Text(f.text)
        if f.to_do:
            said.append(f"\n-> {f.to_do}", style="bold" if f.state == "failed" else "")
        table.add_row(Text(f.state, style=COLOURS[f.state]), Text(f.name), said)
    console = Console()
    console.print(table)
    counts = Counter(f.state for f in found)
    console.print(", ".join(f"{state}: {counts[state]}" for state in COLOURS), highlight=False)
