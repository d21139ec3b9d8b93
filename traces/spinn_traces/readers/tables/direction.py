"""The direction of a trace, from its name or a heading."""

from __future__ import annotations

import re
from pathlib import Path

UP, DOWN = "up_mbps", "down_mbps"
WORDS = {
    **dict.fromkeys(("up", "uplink", "upload", "upstream", "ul"), UP),
    **dict.fromkeys(("down", "downlink", "download", "downstream", "dl"), DOWN),
}
OPPOSITE = {"up": "down", "uplink": "downlink", "upload": "download", "upstream": "downstream", "ul": "dl"}
OPPOSITE |= {down: up for up, down in OPPOSITE.items()}


def words(text: str) -> list[str]:
    """The words of a text, in small letters; all that is not a letter separates them."""
    return re.findall(r"[a-z]+", text.lower())


def direction_in(text: str) -> str | None:
    """The field that the last word of a direction names."""
    return next((WORDS[word] for word in reversed(words(text)) if word in WORDS), None)


def direction_of(path: Path, usual: str) -> tuple[str, str]:
    """The field of a file of one direction, and a note on why. usual: the note if its name says nothing."""
    for word in reversed(words(path.name)):
        if word in WORDS:
            return WORDS[word], f"`{word}` in the name: taken as the {'uplink' if WORDS[word] == UP else 'downlink'}"
    return DOWN, usual


def other_direction(path: Path) -> Path | None:
    """The file beside it whose name differs in its last word of direction, which is the opposite; packed or not."""
    for match in reversed(list(re.finditer(r"[a-z]+", path.name, re.IGNORECASE))):
        word = match[0]
        if word.lower() in OPPOSITE:
            opposite = OPPOSITE[word.lower()]
            opposite = opposite.upper() if word.isupper() else opposite.title() if word.istitle() else opposite
            name = f"{path.name[: match.start()]}{opposite}{path.name[match.end() :]}"
            bare = name.removesuffix(".gz")
            names = dict.fromkeys((name, bare, f"{bare}.gz"))
            return next((beside for name in names if (beside := path.with_name(name)).is_file()), None)
    return None
