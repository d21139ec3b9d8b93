"""Result lines in a file: `--jsonl`."""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from spinn_client.frames.results import FrameResult
from spinn_stream.errors import ConfigError

MAX_UNWRITTEN = 10_000


class ResultLog:
    """Writes result lines in a thread of its own, so that a slow disk delays no answer.

    To what a result says of itself a line adds at_s: when it was given, on the machine's monotonic clock.

    Holds at most MAX_UNWRITTEN lines; beyond that `add` raises, since no line may be lost silently.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file: TextIO = sys.stdout if str(path) == "-" else path.open("w")
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from error
        self._lines: queue.Queue[tuple[float, FrameResult] | None] = queue.Queue(MAX_UNWRITTEN)
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._write, name="result log", daemon=True)
        self._thread.start()

    def add(self, result: FrameResult) -> None:
        """Queue one line.

        Raises:
            ConfigError: the file cannot be written, or not fast enough.
        """
        if self._error is not None:
            raise ConfigError(f"cannot write {self._path}: {self._error.strerror}")
        try:
            self._lines.put_nowait((time.monotonic(), result))
        except queue.Full as error:
            raise ConfigError(f"{self._path} takes lines too slowly: {MAX_UNWRITTEN} are waiting") from error

    def close(self) -> None:
        """Write what is left.

        Raises:
            ConfigError: the file could not be written.
        """
        self._lines.put(None, timeout=10)
        self._thread.join(timeout=10)
        if self._error is not None:
            raise ConfigError(f"cannot write {self._path}: {self._error.strerror}") from self._error

    def _write(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                at_s, result = line
                self._file.write(json.dumps({**result.as_json(), "at_s": round(at_s, 6)}) + "\n")
                if self._lines.empty():
                    self._file.flush()
            if self._file is not sys.stdout:
                self._file.close()
        except OSError as error:
            self._error = error
