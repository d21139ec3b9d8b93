"""A source's name for people: on one line, and without its secrets."""

from __future__ import annotations

import re

_SCHEME = r"(?<![a-z0-9+.-])([a-z0-9+.-]+://)"  # found from its start alone, else long texts take quadratic time
_LOGIN = re.compile(_SCHEME + r"([^/?#\s]*)@", re.IGNORECASE)
_ODD_LOGIN = re.compile(_SCHEME + r"([^/?#@\s:]*:(?!\d+[/?#])[^@\s]*)@", re.IGNORECASE)
"""A password with a / or ? in it: not allowed in an address, but a user may type it."""

_NAME = r"[^=&;?\s]"
_SECRET = re.compile(
    rf"([?&;](?={_NAME}{{1,64}}=){_NAME}*(?:pass|pwd|secret|token|key|auth|sig){_NAME}*=)[^&;#\s]+", re.IGNORECASE
)
"""The look ahead ends the search in a text that is no query, which would take quadratic time."""


def masked(text: str) -> str:
    """The text with `***` in place of every password of an address, and of secrets behind a `?`.

    Every text about a source that reaches people, files or other programs goes through this.
    """

    def mask(login: re.Match[str]) -> str:
        user, colon, _ = login[2].partition(":")
        return f"{login[1]}{user}:***@" if colon else f"{login[1]}***@"

    return _SECRET.sub(r"\1***", _ODD_LOGIN.sub(mask, _LOGIN.sub(mask, text)))


def shown(text: str) -> str:
    """The name of a source for people."""
    return one_line(masked(text))


def one_line(text: str) -> str:
    """The text, with escapes for all that does not print: line ends, bytes that are not UTF-8."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
