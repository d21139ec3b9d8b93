"""What crosses the network <-> payload: activations, and the frame itself at split 0.

A codec has a name and a version, which both ends agree on first; how fine it is, the sender chooses by its setting.
Each is one object in `registry`, and nobody else asks for a codec's name:

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
