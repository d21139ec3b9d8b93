"""The first connection to a server, or the decision to begin without it."""

from __future__ import annotations

from collections.abc import Callable

from spinn_stream.errors import ServerUnreachable

from .connection import Link


async def open_first(link: Link, warn: Callable[[str], object]) -> None:
    """Connect, or say that the device begins alone, if that is allowed. The link tries again for as long as it runs.

    Raises:
        ConfigError: the URL is none. ServerUnreachable: nobody answers. ServerRefused: the server says no.
    """
    try:
        await link.open()
    except ServerUnreachable as error:
        if not link.config.allow_offline:
            raise ServerUnreachable(f"{error} (--allow-offline begins without it)") from error
        warn(f"{error}; beginning alone, and trying again")
