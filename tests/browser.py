"""A real browser, and what goes wrong on a page."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-extensions",
)  # fmt: skip


@dataclass
class Seen:
    """What went wrong on a page, and whom it asked."""

    errors: list[str] = field(default_factory=list)
    addresses: set[str] = field(default_factory=set)

    def watch(self, page: Any) -> None:
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.addresses.add(request.url.split("/")[2]))
        page.on("websocket", lambda socket: self.addresses.add(socket.url.split("/")[2]))


Browsers = Callable[..., contextlib.AbstractContextManager[Any]]


@pytest.fixture(scope="module")  # while it is there, nothing else in this process can run an event loop
def browser() -> Iterator[Browsers]:
    """Opens the distribution's Chromium, headless, with flags; skips if there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser's tests need playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("the browser's tests need chromium on the PATH")
    with playwright.sync_playwright() as driver:

        @contextlib.contextmanager
        def browser(*flags: str) -> Iterator[Any]:
            found = driver.chromium.launch(executable_path=chromium, headless=True, args=[*FLAGS, *flags])
            try:
                yield found
            finally:
                found.close()

        yield browser
