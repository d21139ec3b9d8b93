"""The names of answers: a bundle's own classes, or groups of them that mean something to the user.

A map is a JSON object, class name -> group name. A class that it does not name keeps its own name. The probabilities of
a group's classes are added up before a confidence is compared, so exits answer as soon as they are sure of the group.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from spinn_stream.errors import ConfigError

MAPS = Path(__file__).parent.parent / "bundles"
"""Folder of the built-in maps: `everyday` is everyday.json there."""

MAX_MAP_BYTES = 4 * 1024 * 1024
MAX_NAME = 200


@dataclass(frozen=True)
class LabelMap:
    """names: of the groups. group_of: for each class of the bundle the index of its group."""

    names: tuple[str, ...]
    group_of: tuple[int, ...]


def label_map(labels: Sequence[str], groups: Mapping[str, str]) -> LabelMap:
    """Groups of a bundle's classes.

    Raises:
        ConfigError: the map names a class that the bundle lacks, or a group's name is not valid.
    """
    known = set(labels)
    for name, group in groups.items():
        if not isinstance(group, str) or not 0 < len(group) <= MAX_NAME:
            raise ConfigError(
                f"labels: {name!r:.60} is in {group!r:.60}, expected a name of 1 to {MAX_NAME} characters"
            )
        if name not in known:
            near = get_close_matches(name, labels, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"labels: the bundle has no class {name!r:.60}{hint}")
    names = list(dict.fromkeys(groups.get(name, name) for name in labels))
    index = {name: k for k, name in enumerate(names)}
    return LabelMap(tuple(names), tuple(index[groups.get(name, name)] for name in labels))


def load_labels(source: str | Path, labels: Sequence[str]) -> LabelMap:
    """The map that `--labels` names: a built-in one, or a file.

    Raises:
        ConfigError: there is none, it cannot be read, or it does not fit the bundle.
    """
    path = Path(source)
    built_in = sorted(file.stem for file in MAPS.glob("*.json"))
    if str(source) in built_in and not path.exists():
        path = MAPS / f"{source}.json"
    try:
        if path.stat().st_size > MAX_MAP_BYTES:
            raise ConfigError(f"{path}: {path.stat().st_size} bytes, at most {MAX_MAP_BYTES} are read")
        groups = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the labels {source}: {error.strerror}; expected a JSON file or one of {', '.join(built_in)}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(groups, dict):
        raise ConfigError(f"{path}: got a {type(groups).__name__}, expected an object of class name -> group name")
    return label_map(labels, groups)
