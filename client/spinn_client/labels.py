"""The names of a stream's answers: a bundle's classes, or groups of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spinn_stream.bundle import Bundle, label_map, load_labels


@dataclass(frozen=True)
class Names:
    """names: what an answer may be. group_of: for each class the index of its group; None: answers are classes."""

    names: tuple[str, ...]
    group_of: tuple[int, ...] | None = None


def labels_of(bundle: Bundle, asked: str | Path | Mapping[str, str] | None) -> Names:
    """The names for `labels=`. Raises ConfigError: there is no such map, or it does not fit the bundle."""
    if asked is None:
        return Names(bundle.labels)
    found = label_map(bundle.labels, asked) if isinstance(asked, Mapping) else load_labels(asked, bundle.labels)
    return Names(found.names, found.group_of)


def checked_level(level: float | None) -> float | None:
    """The level itself. Raises ValueError: it is not from 0 to 1."""
    if level is not None and not 0 <= level <= 1:
        raise ValueError(f"unknown_below is {level}, expected 0 to 1")
    return level
