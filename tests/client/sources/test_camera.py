"""Cameras that are not there: what is said. A real one is not at hand in tests."""

from __future__ import annotations

import pytest

from spinn_client.sources.registry import open_source
from spinn_stream.errors import SourceError


@pytest.mark.parametrize("text", ["96", "/dev/null"])
def test_a_camera_that_cannot_be_opened_is_named(text: str) -> None:
    source = open_source(text)
    assert source.live and source.fps is None and source.name == f"camera {text}"
    with pytest.raises(SourceError, match=f"camera {text} cannot be opened; is it plugged in"):
        next(iter(source.pictures()))
