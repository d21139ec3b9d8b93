"""spinn.v1: messages, limits and the state machine of each end. No sockets."""

from .client_session import ClientSession, Opened
from .messages import SUBPROTOCOL, Cancel, Hello, Infer, Message, Reject, RejectReason, Result, Welcome, decode, encode
from .server_session import Reply, ServerSession, SessionLimits

__all__ = [
    "SUBPROTOCOL",
    "Cancel",
    "ClientSession",
    "Hello",
    "Infer",
    "Message",
    "Opened",
    "Reject",
    "RejectReason",
    "Reply",
    "Result",
    "ServerSession",
    "SessionLimits",
    "Welcome",
    "decode",
    "encode",
]
