"""Lines for a person, on stderr: above the live table if there is one."""

from __future__ import annotations

import contextlib
from typing import Self

from rich.console import Console
from rich.text import Text

from spinn_stream.text import printable

from .background import Background

MAX_WAITING = 200
"""Most lines that may wait for a stopped terminal; then the oldest is dropped."""

LAST_LINES_S = 0.5


class ConsoleLines:
    """Prints lines in a thread of its own, so that a stopped terminal (Ctrl-S, a pager) delays nothing else.

    Every text is shown as it is: brackets are no markup, and nothing in it moves the cursor. If a `LiveView` draws
    on the same console, lines come above its table. Any thread may give one.
    quiet: show what a user must know, and nothing else.
    """

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._thread: Background[str] = Background(self._print, name="console lines", bound=MAX_WAITING)

    def info(self, text: str) -> None:
        """A line about progress; not shown with `--quiet`."""
        if not self._quiet:
            self.event(text)

    def event(self, text: str) -> None:
        """A line that a user must see, even with `--quiet`: server or source lost or back, a refusal, a warning, the
        end."""
        self._thread.put_newest(text)

    def close(self) -> None:
        """Print what is left, for LAST_LINES_S at most."""
        self._thread.close(LAST_LINES_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _print(self, texts: list[str]) -> None:
        with contextlib.suppress(OSError, ValueError, SystemExit):  # stderr is gone: there is nobody to tell
            for text in texts:
                self._console.print(Text(printable(text)), highlight=False, soft_wrap=True)
