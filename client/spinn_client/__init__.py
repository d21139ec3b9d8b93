"""Embed a stream: frames in, an answer for each by its deadline, from this device or a server.

    import spinn_client as spinn

    async with spinn.Stream("clip.mp4", server="ws://127.0.0.1:8765", deadline_ms=100) as stream:
        async for result in stream:
            print(result.frame, result.label, result.where)

`SyncStream` is the same for plain programs, `Pushed` a source for a program's own frames. See docs/embed.md.
"""

from spinn_client.device.opening import DeviceConfig
from spinn_client.events import (
    Event,
    Noted,
    PlanChanged,
    ServerBack,
    ServerChanged,
    ServerLost,
    ServerRefusedUs,
    SourceBack,
    SourceChanged,
    SourceEnded,
    SourceLost,
    Warned,
)
from spinn_client.frames.feed import FeedConfig
from spinn_client.frames.results import Result
from spinn_client.link.config import LinkConfig
from spinn_client.process import tune_process
from spinn_client.sinks.base import Sink, open_sink
from spinn_client.sources.base import Picture, Source, Unusable
from spinn_client.sources.pushed import Pushed
from spinn_client.sources.registry import open_source
from spinn_client.state import State
from spinn_client.steering.guide import FixedPlan
from spinn_client.stream import Stream
from spinn_client.sync import SyncStream
from spinn_stream.errors import (
    ConfigError,
    FrameDropped,
    ServerRefused,
    ServerUnreachable,
    SourceError,
    SpinnError,
    StreamEnded,
)
from spinn_stream.plan import Plan

__all__ = [
    "ConfigError",
    "DeviceConfig",
    "Event",
    "FeedConfig",
    "FixedPlan",
    "FrameDropped",
    "LinkConfig",
    "Noted",
    "Picture",
    "Plan",
    "PlanChanged",
    "Pushed",
    "Result",
    "ServerBack",
    "ServerChanged",
    "ServerLost",
    "ServerRefused",
    "ServerRefusedUs",
    "ServerUnreachable",
    "Sink",
    "Source",
    "SourceBack",
    "SourceChanged",
    "SourceEnded",
    "SourceError",
    "SourceLost",
    "SpinnError",
    "State",
    "Stream",
    "StreamEnded",
    "SyncStream",
    "Unusable",
    "Warned",
    "open_sink",
    "open_source",
    "tune_process",
]
