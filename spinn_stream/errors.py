"""Every error that spinn-stream raises on purpose, as one tree.

    SpinnError                what a user can be told in one line; exit code 1
    ├── BundleError           a bundle is missing, damaged or of another kind
    ├── TracingError          a network that cannot be cut: its code cannot be recorded, or does not run
    ├── EngineError           an engine cannot build or run a segment
    ├── Interrupted           measuring was given up, as its caller asked
    ├── CodecError            an activation or a payload that the codec refuses
    │   └── ReferenceMissing      ... a change since an activation that is not held
    ├── ProtocolError         the rules of spinn.v1 were broken
    │   ├── LocalProtocolError    ... by us: a bug in the caller
    │   └── RemoteProtocolError   ... by the peer: it is told why and the session ends
    ├── SourceError           a camera, stream or file gives no frames
    ├── FrameDropped          a frame that was asked about was never taken in
    ├── StreamEnded           a stream that was asked for something has ended
    ├── DataError             labelled images that cannot be learned from or scored
    ├── TraceError            a network trace that cannot be read; names the file, the line and the reason
    ├── ServerUnreachable     no server answers at the address
    ├── ServerRefused         a server answers and refuses
    └── ConfigError           a given value does not fit; the message says what would
        ├── SlaError              ... in an SLA; points at the word
        └── ReaderGone            ... an output lost its reader: this ends the run, and is no failure

Messages say what was got, what was expected and, if possible, what to do.
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "CodecError",
    "ConfigError",
    "DataError",
    "EngineError",
    "FrameDropped",
    "Interrupted",
    "LocalProtocolError",
    "ProtocolError",
    "ReaderGone",
    "ReferenceMissing",
    "RemoteProtocolError",
    "ServerRefused",
    "ServerUnreachable",
    "SlaError",
    "SourceError",
    "SpinnError",
    "StreamEnded",
    "TraceError",
    "TracingError",
]


class SpinnError(Exception):
    """What a user can be told in one line."""


class BundleError(SpinnError):
    """A bundle is missing, damaged or of another kind."""


class TracingError(SpinnError):
    """A network that cannot be cut: its code cannot be recorded, or does not run."""


class EngineError(SpinnError):
    """An engine cannot build or run a segment."""


class Interrupted(SpinnError):
    """Measuring was given up, as its caller asked."""


class CodecError(SpinnError):
    """An activation or a payload that the codec refuses."""


class ReferenceMissing(CodecError):
    """A payload is the change since an activation that is not held, or that is another one here."""


class ProtocolError(SpinnError):
    """The rules of spinn.v1 were broken."""


class LocalProtocolError(ProtocolError):
    """We broke the rules: a bug in the caller."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the rules.

    Args:
        reason: one of the closed list of `spinn_stream.wire.RejectReason`.
        detail: what was got and what was expected.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class SourceError(SpinnError):
    """A camera, stream or file gives no frames."""


class FrameDropped(SpinnError):
    """A frame that was asked about was never taken in. reason: as in the summary: superseded, expired, ..."""

    def __init__(self, frame: int, reason: str) -> None:
        super().__init__(f"frame {frame} was dropped: {reason}")
        self.frame = frame
        self.reason = reason


class StreamEnded(SpinnError):
    """A stream that was asked for something has ended, or was never opened."""


class DataError(SpinnError):
    """Labelled images that cannot be learned from or scored: damaged, mislabelled, too few or too many."""


class TraceError(SpinnError):
    """A network trace that cannot be read; the message names the file, the line and the reason."""


class ServerUnreachable(SpinnError):
    """No server answers at the address."""


class ServerRefused(SpinnError):
    """A server answers and refuses."""


class ConfigError(SpinnError):
    """A value that was given does not fit; the message says what would."""


class SlaError(ConfigError):
    """A service-level agreement that cannot be understood: its text, with a caret under the word that is wrong.

    Args:
        text: the whole SLA. position: index of the first character that is wrong. detail: got and expected.
    """

    def __init__(self, text: str, position: int, detail: str) -> None:
        begin = max(0, position - 60)  # a long text is shown around the place
        shown = "".join(c if c.isprintable() else " " for c in text[begin : position + 60])
        super().__init__(f"SLA, character {position + 1}: {detail}\n  {shown}\n  {' ' * (position - begin)}^")
        self.position = position
        self.detail = detail


class ReaderGone(ConfigError):
    """The reader of an output has left, as `head` does. The run ends well: exit code 0."""
