"""What verbs of several packages read and write in the same way. Part of the shell, not of the core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import ConfigError

MAX_TOKEN_CHARACTERS = 1024


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
