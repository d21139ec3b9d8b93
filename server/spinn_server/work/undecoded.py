"""Why a request is refused whose payload could not be decoded."""

from __future__ import annotations

import logging

from spinn_stream.errors import CodecError, ReferenceMissing
from spinn_stream.wire import RejectReason

from .request import Request

log = logging.getLogger(__name__)


def refusal(request: Request, error: Exception) -> tuple[RejectReason, str]:
    """The reason and the detail for its client. An error of our own is logged.

    Args:
        error: what decoding raised, whatever it is.
    """
    if isinstance(error, ReferenceMissing):
        return "no_reference", str(error)
    if isinstance(error, CodecError):
        return "bad_payload", str(error)
    log.error("a payload of %s at split %d was not decoded", request.codec, request.split, exc_info=error)
    return "internal", "the server could not decode this payload"
