"""Activations, or the frame itself at split 0 <-> payloads, which cross the network.

A codec has a name and a version, which both ends agree on first. Its quality is the sender's choice, by a setting. Each
codec is one object in `registry`, and no other code mentions a codec's name:

    transform   activations in a basis fitted to data, near their entropy, as changes since an earlier one
    cnn-co      activations as SPINN sends them: the baseline
    jpeg, png   the frame, at split 0
"""

from .base import Codec, CodingCost, ReceiverEnd, SenderEnd, StatelessCodec
from .jpeg import NAME as JPEG
from .payloads import (
    PayloadReceiver,
    PayloadSender,
    decode_payload,
    default_setting,
    encode_payload,
    max_payload_bytes,
    prepare_codecs,
)
from .png import NAME as PNG
from .registry import CODECS, SUPPORTED, register
from .settings import CodecSetting

__all__ = [
    "CODECS", "JPEG", "PNG", "SUPPORTED", "Codec", "CodecSetting", "CodingCost", "PayloadReceiver", "PayloadSender",
    "ReceiverEnd", "SenderEnd", "StatelessCodec", "decode_payload", "default_setting", "encode_payload",
    "max_payload_bytes", "prepare_codecs", "register",
]  # fmt: skip
