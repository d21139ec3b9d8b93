"""A link, made once there is a server, and its first connection, or the decision to begin without it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from spinn_stream.bundle import Bundle
from spinn_stream.errors import ServerUnreachable
from spinn_stream.runtime.machine.host import Host

from .config import LinkConfig

if TYPE_CHECKING:
    from .link import Link
    from .server_link import Dial


def make_link(
    configs: Sequence[LinkConfig], bundle: Bundle, group_of: Sequence[int] | None, host: Host,
    rng: random.Random, dial: Dial | None,
) -> Link:  # fmt: skip
    """A link that is not open yet. In a thread: loading the network's library takes long; a device alone needs none.

    configs: as of `Link`. dial: opens connections; None: WebSockets.
    """
    from .dial import dial as dial_websocket
    from .link import Link

    return Link(configs, bundle, rng, group_of=group_of, host=host, dial=dial or dial_websocket)


async def open_first(link: Link, warn: Callable[[str], object]) -> None:
    """Connect, or say that the device begins alone, if that is allowed. The link tries again for as long as it runs.

    Raises:
        ConfigError: the URL is none. ServerUnreachable: nobody answers. ServerRefused: the server says no.
    """
    try:
        await link.open()
    except ServerUnreachable as error:
        if not any(server.config.allow_offline for server in link.servers):
            raise ServerUnreachable(f"{error} (--allow-offline begins without it)") from error
        warn(f"{error}; beginning alone, and trying again")
