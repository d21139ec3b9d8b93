"""The replaceable parts of a stream, besides its configuration: a simulation puts in its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spinn_client.frames.slot import FrameSource
from spinn_stream.profile import Profile
from spinn_stream.runtime import Engine
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host

if TYPE_CHECKING:
    from spinn_client.link.server_link import Dial


@dataclass(frozen=True)
class Parts:
    """Parts that a simulation replaces."""

    host: Host = THIS_MACHINE  # clock, threads, pace
    dial: Dial | None = None  # opens connections; None: WebSockets
    rng: random.Random = field(default_factory=random.Random)  # of the pauses between two tries to connect
    engine: tuple[Engine, Profile] | None = None  # instead of one that is opened and measured
    feed: Callable[[], FrameSource] | None = None  # instead of a source's own
    began: Callable[[], object] = lambda: None  # called when all is built and the first frame may be taken
