"""Foreign text on a terminal."""

from __future__ import annotations

import pytest

from spinn_stream.text import printable


@pytest.mark.parametrize(
    "text", ["cam [front].mp4", "[red]x[/]", "C:\\clips", "Straße 猫 😀", "👩\u200d🚀", "a\u00a0b", ""]
)
def test_what_can_be_seen_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\r", "two\\x0alines\\x0d"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("gpj.\u202etxt", "gpj.\\u202etxt"),
        ("a\u2028b\ufeff", "a\\u2028b\\ufeff"),
        ("caf\udce9.mp4", "caf\\xe9.mp4"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown
