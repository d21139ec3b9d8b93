"""The `spinn` command: finds a verb in the package that has it, and shows errors as one line.

Each package registers its verbs as entry points of the group `spinn.verbs`; a verb is a plain function with Typer's
annotations, or an app of Typer's if it has verbs of its own. It is imported only when it is called.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from spinn_stream.errors import ReaderGone, SlaError, SpinnError
from spinn_stream.text import printable

from .signals import heeded, ignore, leave, leave_on
from .streams import mend, stdout_failure

if TYPE_CHECKING:  # whatever takes long is imported when Ctrl-C is in order
    import importlib.metadata

    import typer

VERBS: dict[str, tuple[str, str]] = {
    "serve": ("spinn-server", "finish frames that devices began, in batches across devices"),
    "run": ("spinn-client", "classify a camera, stream or clip on this device, with a server's help"),
    "webcam": ("spinn-client", "a page with the live picture, its label, the age of the answer, and who gave it"),
    "drone": ("spinn-drone", "a drone that flies through a forest by camera alone, with a server behind a link"),
    "train": ("spinn-stream", "make an early-exit bundle of any CNN"),
    "evaluate": ("spinn-stream", "score a bundle: accuracy, calibration and cost of every exit and threshold"),
    "calibrate": ("spinn-stream", "fit a bundle's confidences, thresholds and codec anew; its weights stay"),
    "profile": ("spinn-stream", "measure how long each part of a bundle takes on this machine"),
    "plan": ("spinn-stream", "say where a frame is best split on a link like this, and why"),
    "doctor": ("spinn-client", "check this device, its camera, its server and its deadline, and say what to do"),
    "trace": ("spinn-traces", "recordings of networks: their figures, a plot, made-up similar ones"),
    "shape": ("spinn-traces", "a TCP proxy that makes a link as slow and as far as you say"),
    "replay": ("spinn-traces", "play recorded networks through a real client and server, and report on policies"),
}
"""Verb -> the package that has it, and what it does. Here, so that a missing package can be named."""

GROUP = "spinn.verbs"

INTERRUPTED = 130  # what a shell calls a program that Ctrl-C ended

ENVIRONMENT = {
    # The codec's products are small, and on a busy processor threads wait for each other: four clients and a server
    # on two cores beside a training got most of their answers too late.
    "OPENBLAS_NUM_THREADS": "1",
}
"""Set before any library is imported that reads it, unless the user set it."""


def main() -> None:
    """Entry point of the console script: `call` in a process of its own, with its streams and signals in order."""
    _leave_on_interrupt()
    numbers = heeded()
    atexit.register(ignore, numbers)  # Python's shutdown gives them their default back: a signal would be the exit code
    mend()
    try:
        code = call(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError:
        code = 1  # stdout; its reason comes now
    failure = stdout_failure()
    if isinstance(failure, BrokenPipeError):  # who reads has had enough
        code = 0
    leave_on(numbers, code)
    if code != 0 and failure is not None:
        print(f"spinn: cannot write to stdout: {failure.strerror}", file=sys.stderr)
    leave(code)


def call(arguments: list[str]) -> int:
    """Run a command line; gives the exit code: 0 done, 1 failed (one line says why), 2 wrong usage, 130 Ctrl-C."""
    debug = "--debug" in arguments
    try:
        return _call(arguments, debug)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except ReaderGone:
        return 0
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        elif stdout_failure() is None:  # or `main` says it
            print(f"spinn {arguments[0]}: {_in_words(error)}", file=sys.stderr)
        return 1


def _call(arguments: list[str], debug: bool) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        _show_help()
        return 0 if arguments else 2
    verb = arguments[0]
    if verb == "--version":
        _show_versions()
        return 0
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    function = _load(verb)
    if function is None:
        return 1 if verb in VERBS else 2
    app = _app(verb, function)
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # there may be something to tidy up from here on
    app(args=arguments[1:], prog_name=f"spinn {verb}")
    return 0


def _leave_on_interrupt() -> None:
    """Let Ctrl-C end the process at once before anything has begun: an exception would come up inside an import."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have it ignored
        signal.signal(signal.SIGINT, _leave)


def _leave(*_: object) -> None:
    os._exit(INTERRUPTED)


def _in_words(error: Exception) -> str:
    if isinstance(error, SlaError):  # it has escaped what it quotes, and points at a word on a line of its own
        return str(error)
    if isinstance(error, SpinnError):
        return printable(str(error))
    return printable(f"unexpected {type(error).__name__}: {error}; --debug shows where")


def _registered() -> dict[str, importlib.metadata.EntryPoint]:
    import importlib.metadata

    return {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}


def _show_help() -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print("Usage: [bold]spinn[/] VERB [OPTIONS]        [dim]spinn VERB --help says more[/]\n")
    table = Table(box=None, show_header=False, padding=(0, 2))
    registered = _registered()
    for verb, (package, text) in VERBS.items():
        table.add_row(f"[bold]{verb}[/]", text, "" if verb in registered else f"[yellow]needs pip install {package}[/]")
    console.print(table)


def _show_versions() -> None:
    """One line for each of our packages that is installed, and one for each engine that is."""
    import importlib.metadata

    from spinn_stream.runtime.engines.registry import ENGINES, installed

    for package in dict.fromkeys(package for package, _ in VERBS.values()):
        try:
            print(package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            continue
    for name in installed():
        package = ENGINES[name].package
        print(f"engine {name}: {package} {importlib.metadata.version(package)}")


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


def _app(verb: str, function: Callable[..., Any] | typer.Typer) -> typer.Typer:
    import typer

    if isinstance(function, typer.Typer):
        return function
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name=verb, context_settings={"help_option_names": ["-h", "--help"]})(function)
    return app


if __name__ == "__main__":
    main()
