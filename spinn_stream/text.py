"""Foreign text for a terminal, without anything that the terminal would obey."""

from __future__ import annotations

import unicodedata

__all__ = ["printable"]

_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of characters that a terminal obeys, that reorder text, or that cannot be encoded."""

_JOINERS = "\u200c\u200d"
"""They join several characters into one sign, as in emoji and in Persian, and do nothing else."""


def printable(text: str) -> str:
    r"""The text on one line, in its stored order, with invisible characters written as \x1b or \u202e.

    A file name, a label or what a server says may hold a line break, a terminal's commands, or a mark that turns
    the reading direction around. A byte of a file name that is no character is written as that byte.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNSEEN or character in _JOINERS:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that it cannot decode
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
