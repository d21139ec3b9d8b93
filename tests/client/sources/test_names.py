"""What people are shown of a source."""

from __future__ import annotations

import pytest

from spinn_client.sources.names import masked, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://user:secret@host/cam", "rtsp://user:***@host/cam"),
        ("cannot open RTSP://u:se@cret@host:554/cam: refused", "cannot open RTSP://u:***@host:554/cam: refused"),
        ("http://secret@host/x", "http://***@host/x"),
        ("rtsp://u:se/cret@host/x", "rtsp://u:***@host/x"),
        ("http://host/video?user=me&pwd=secret&x=1", "http://host/video?user=me&pwd=***&x=1"),
        ("http://host/video?access_token=secret#part", "http://host/video?access_token=***#part"),
        ("http://host:8080/@me", "http://host:8080/@me"),
        ("clip@home.mp4", "clip@home.mp4"),
        ("one rtsp://a:b@c/d two rtsp://e:f@g/h", "one rtsp://a:***@c/d two rtsp://e:***@g/h"),
    ],
)
def test_passwords_are_masked_wherever_they_stand(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cam [front]/[/x] é 写.mp4", "cam [front]/[/x] é 写.mp4"),
        ("a\nb\x1b[31m", "a\\nb\\x1b[31m"),
        ("\udcff.mp4", "\\udcff.mp4"),
        ("gpj.\u202e4pm", "gpj.\\u202e4pm"),
    ],
)
def test_a_name_is_shown_verbatim_but_for_what_does_not_print(text: str, shown: str) -> None:
    assert one_line(text) == shown and shown.encode()


@pytest.mark.parametrize("piece", ["a", "a?", "?token", "://a:", "?a&key"])
def test_a_long_text_takes_no_longer_than_its_length_asks_for(piece: str) -> None:
    """A search that begins anew at every character would take minutes."""
    text = piece * (200_000 // len(piece))
    assert masked("rtsp://user:secret@host/" + text).startswith("rtsp://user:***@")
