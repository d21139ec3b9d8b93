"""Text from peers, in a form that can be logged."""

from __future__ import annotations

MOST_CHARACTERS = 300


def printable(text: str) -> str:
    """The text on one line, without control characters, and shortened."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:MOST_CHARACTERS])
    return shown if len(text) <= MOST_CHARACTERS else f"{shown} ..."
