"""The result of a check of `spinn doctor`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, TypeVar

from spinn_stream.errors import SpinnError

log = logging.getLogger(__name__)

State = Literal["ok", "warning", "failed", "skipped"]

T = TypeVar("T")

HANGING = "may hang"
"""The name of threads that `within` has left behind, or still waits for."""


@dataclass(frozen=True)
class Finding:
    """One line of the report. to_do: what helps; empty if nothing need be done or `text` says it."""

    name: str
    state: State
    text: str
    to_do: str = ""


Findings = list[Finding]


def attempt(name: str, check: Callable[[], tuple[Findings, T]]) -> tuple[Findings, T | None]:
    """A check's findings, and what it made for later checks; if it raises, one failed finding."""
    try:
        return check()
    except SpinnError as error:
        return [Finding(name, "failed", str(error))], None
    except Exception as error:
        log.debug("%s failed", name, exc_info=True)
        return [Finding(name, "failed", f"unexpected {type(error).__name__}: {error}", "--debug shows where")], None


def within(limit_s: float, work: Callable[[], T]) -> T:
    """Run `work` in a thread. If it takes longer, the thread is left behind: a camera may hang for ever.

    Raises:
        TimeoutError: it took longer. Exception: what `work` raised.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=HANGING, daemon=True).start()
    return future.result(limit_s)
