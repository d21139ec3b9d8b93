"""spinn.v1: messages, limits and the state machine of each end. No sockets."""

from .client_session import ClientSession, Event, Opened, ProfileReceived
from .messages import (
    SUBPROTOCOL,
    Cancel,
    Hello,
    Infer,
    Load,
    Message,
    Reject,
    RejectReason,
    Result,
    ServerProfile,
    Welcome,
    decode,
    encode,
)
from .profile import max_server_message_bytes, profile_message, read_profile
from .server_session import Refused, Reply, ServerSession, SessionLimits

__all__ = [
    "SUBPROTOCOL",
    "Cancel",
    "ClientSession",
    "Event",
    "Hello",
    "Infer",
    "Load",
    "Message",
    "Opened",
    "ProfileReceived",
    "Refused",
    "Reject",
    "RejectReason",
    "Reply",
    "Result",
    "ServerProfile",
    "ServerSession",
    "SessionLimits",
    "Welcome",
    "decode",
    "encode",
    "max_server_message_bytes",
    "profile_message",
    "read_profile",
]
