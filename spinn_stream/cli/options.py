"""Options and output that verbs of several packages share. Part of the shell, not of the core."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from spinn_stream.errors import ConfigError

MAX_TOKEN_CHARACTERS = 1024

MAX_THREADS = 1024

Threads = Annotated[str, typer.Option(help="engine threads; auto: the cores this process has but one, at most 4")]
"""Read it with `read_threads`."""


def plain_console(*, stderr: bool = False) -> Console:
    """A console that shows names unchanged: it takes brackets for no style, and `:cat:` for no emoji."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def read_threads(text: str) -> int:
    """The number of threads; for `auto`, the one that suits this machine.

    Raises:
        ConfigError: neither a number from 1 nor `auto`.
    """
    if text == "auto":
        from spinn_stream.runtime.machine.cores import default_threads

        return default_threads()
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MAX_THREADS):
        raise ConfigError(f"threads is {text}, expected a number from 1 to {MAX_THREADS}, or auto")
    return int(text)


def read_token(path: Path | None) -> str | None:
    """The token in a file, without the white space around it; None for no file.

    Raises:
        ConfigError: the file cannot be read, is empty, or holds more than a token.
    """
    if path is None:
        return None
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the token file {path}: {error}") from error
    if not 0 < len(token) <= MAX_TOKEN_CHARACTERS:
        raise ConfigError(f"{path} holds {len(token)} characters, expected a token of 1 to {MAX_TOKEN_CHARACTERS}")
    return token


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure of matplotlib's as the file's name says, and close it.

    Raises:
        ConfigError: no such format, or a place that cannot be written.
    """
    import matplotlib.pyplot as plt

    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot draw {path}: {error}") from error
    finally:
        plt.close(figure)
