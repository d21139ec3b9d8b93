"""The `spinn` command: finds a verb in the package that has it, and shows errors as one line.

Each package registers its verbs as entry points of the group `spinn.verbs`; a verb is a plain function
with Typer's annotations, or an app of Typer's where it has verbs of its own, and is imported only when it is called.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from spinn_stream.errors import SpinnError

VERBS: dict[str, tuple[str, str]] = {
    "serve": ("spinn-server", "finish what devices began, batched across them"),
    "run": ("spinn-client", "classify a camera, stream or clip on this device, with a server's help"),
    "train": ("spinn-stream", "make an early-exit bundle of any CNN"),
    "evaluate": ("spinn-stream", "score a bundle: accuracy, calibration and cost of every exit and threshold"),
    "calibrate": ("spinn-stream", "fit a bundle's confidences, thresholds and codec anew; its weights stay"),
    "profile": ("spinn-stream", "measure how long each part of a bundle takes on this machine"),
    "plan": ("spinn-stream", "say where a frame is best split on a link like this, and why"),
    "doctor": ("spinn-client", "check this device, its camera, its server and its deadline, and say what to do"),
    "trace": ("spinn-traces", "recordings of networks: what is in them, a plot, others like them"),
    "shape": ("spinn-traces", "a TCP proxy that makes a link as slow and as far as you say"),
    "replay": ("spinn-traces", "play recorded networks through a real client and server, and report on policies"),
}
"""Verb -> the package that has it, and what it does. Here, so that a missing package can be named."""

GROUP = "spinn.verbs"


def _registered() -> dict[str, importlib.metadata.EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}


def _show_help() -> None:
    console = Console()
    console.print("Usage: [bold]spinn[/] VERB [OPTIONS]        [dim]spinn VERB --help says more[/]\n")
    table = Table(box=None, show_header=False, padding=(0, 2))
    registered = _registered()
    for verb, (package, text) in VERBS.items():
        table.add_row(f"[bold]{verb}[/]", text, "" if verb in registered else f"[yellow]needs pip install {package}[/]")
    console.print(table)


def _load(verb: str) -> Callable[..., Any] | typer.Typer | None:
    """The verb's function or app, or None after saying why there is none."""
    entry = _registered().get(verb)
    if entry is None and verb in VERBS:
        print(f"spinn: `{verb}` is in the package {VERBS[verb][0]}: pip install {VERBS[verb][0]}", file=sys.stderr)
        return None
    if entry is None:
        print(f"spinn: no verb {verb!r}; expected one of {', '.join(VERBS)}", file=sys.stderr)
        return None
    function: Callable[..., Any] | typer.Typer = entry.load()
    return function


def _app(verb: str, function: Callable[..., Any]) -> typer.Typer:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name=verb, context_settings={"help_option_names": ["-h", "--help"]})(function)
    return app


def main() -> None:
    """Entry point of the console script. Exit codes: 0 done, 1 failed (one line why), 2 wrong usage."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        _show_help()
        sys.exit(0 if arguments else 2)
    if arguments[0] == "--version":
        print(f"spinn-stream {importlib.metadata.version('spinn-stream')}")
        sys.exit(0)
    verb = arguments[0]
    debug = "--debug" in arguments
    # Before numpy is imported. The codec's products are small, and on a busy processor threads wait for each other:
    # four clients and a server on two cores beside a training got most of their answers too late.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    function = _load(verb)
    if function is None:
        sys.exit(1 if verb in VERBS else 2)
    app = function if isinstance(function, typer.Typer) else _app(verb, function)
    try:
        app(args=arguments[1:], prog_name=f"spinn {verb}")
    except SpinnError as error:
        if debug:
            raise
        print(f"spinn {verb}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        print(f"spinn {verb}: unexpected {type(error).__name__}: {error}; --debug shows where", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
