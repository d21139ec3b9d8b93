"""Finished flights, one line each in a file, so that an interrupted experiment can continue."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spinn_drone.flight.lockstep import percentile_ms
from spinn_drone.flight.referee import Flight
from spinn_stream.errors import ConfigError

from .cells import Cell


@dataclass(frozen=True)
class Row:
    """One flight. See `Flight`; ages in ms, of the answers acted on."""

    policy: str
    network: str
    seed: int
    ending: str
    seconds: float
    metres: float
    clearance_m: float
    age_p50_ms: float
    age_p95_ms: float

    @classmethod
    def of(cls, cell: Cell, flight: Flight) -> Row:
        return cls(
            cell.policy, cell.network, flight.seed, flight.ending, flight.seconds, flight.metres, flight.clearance_m,
            percentile_ms(flight.ages_s, 50), percentile_ms(flight.ages_s, 95),
        )  # fmt: skip

    @property
    def crashed(self) -> bool:
        return self.ending == "crashed"


class Store:
    """Rows of one setting. If a line cannot be read (the last one of a killed process, say), its flight is done again.

    Args:
        key: of the setting; lines of others stay where they are. say: told of lines that cannot be read.
    """

    def __init__(self, path: Path, key: str, say: Callable[[str], object]) -> None:
        self._path, self._key = path, key
        self.rows: dict[tuple[Cell, int], Row] = {}
        try:
            lines = path.read_text("utf-8").splitlines() if path.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--state {path}: cannot be read: {error}") from error
        for number, line in enumerate(lines, 1):
            try:
                said: dict[str, Any] = json.loads(line)
                if said.pop("setting") == key:
                    self._keep(Row(**said))
            except (ValueError, KeyError, TypeError, AttributeError):
                say(f"{path}, line {number} is no flight; it is flown again")

    def add(self, row: Row) -> None:
        """Keep it, in the file, too."""
        self._keep(row)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"setting": self._key, **asdict(row)}) + "\n")
        except OSError as error:
            raise ConfigError(f"--state {self._path}: cannot be written: {error.strerror}") from error

    def _keep(self, row: Row) -> None:
        self.rows[Cell(row.policy, row.network), row.seed] = row
