"""Result lines in a file: `--jsonl`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from spinn_client.events import Event
from spinn_client.frames.results import Result

from .files import LAST_LINES_S, LineWriter, OutputFile


class ResultLog:
    """Writes a JSON object a line for each result, in a thread of its own.

    A line is the result, and at_s: its time on the machine's monotonic clock.

    Holds at most MAX_UNWRITTEN lines. Then `add` raises, since no line may be lost silently.

    Raises:
        ConfigError: the file cannot be written; it was not touched.
    """

    def __init__(self, output: OutputFile | Path) -> None:
        self.output = output if isinstance(output, OutputFile) else OutputFile(output)
        self._lines: LineWriter[tuple[float, Result]] = LineWriter(self.output, lambda given: f"{line(*given)}\n")

    def begin(self, tell: Callable[[str], object]) -> None:
        """Create or empty the file. The first result does that, too."""
        self._lines.begin()

    def add(self, result: Result) -> None:
        """Queue one line.

        Raises:
            ReaderGone: the reader of the pipe has left.
            ConfigError: the file cannot be written, or not fast enough.
        """
        self._lines.add((time.monotonic(), result))

    def event(self, event: Event) -> None:
        """Writes nothing: lines are results only."""

    def close(self, within_s: float = LAST_LINES_S) -> None:
        """Write what is left.

        Raises:
            ConfigError: the file could not be written, or not in time. A reader who left is no error.
        """
        self._lines.close(within_s)


def open_sink(path: str) -> ResultLog:
    """Raises ConfigError: the file cannot be written."""
    return ResultLog(OutputFile(Path(path), "--sink"))


def line(at_s: float, result: Result) -> str:
    """The line of a result. at_s: its time, in seconds of `time.monotonic`."""
    return json.dumps({**result.as_json(), "at_s": round(at_s, 6)})
