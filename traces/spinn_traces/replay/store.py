"""Finished runs, one file each, so that an interrupted replay can continue."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spinn_stream.errors import ConfigError

from .record import RunRecord, RunSpec


class RunStore:
    """The folder of finished runs; `say` is told of files that cannot be used."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say

    def path(self, spec: RunSpec) -> Path:
        """The file of a run: trace, policy and repeat by name, and digits for the other settings."""
        words = "--".join((Path(spec.trace.name).stem, spec.policy, str(spec.repeat + 1)))
        return self._folder / f"{re.sub('[^A-Za-z0-9._=-]+', '_', words)[:120]}--{spec.key[:10]}.json"

    def load(self, spec: RunSpec) -> RunRecord | None:
        """The record of a run; None: it is not done yet."""
        path = self.path(spec)
        try:
            record = RunRecord.from_json(json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self._say(f"{path} cannot be used and is run again: {error}")
            return None
        return record if record.spec.key == spec.key else None

    def save(self, record: RunRecord) -> None:
        write_json(self.path(record.spec), record.as_json())


def write_json(path: Path, value: Any, *, indent: int | None = None) -> None:
    """Write a value as JSON, whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    write_text(path, json.dumps(value, indent=indent) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all. Raises ConfigError: it cannot be written."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, "utf-8")
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error
