"""A plan: what the scheduler picks, or a user fixes."""

from __future__ import annotations

from dataclasses import dataclass

from spinn_stream.codec.settings import CodecSetting


@dataclass(frozen=True)
class Plan:
    """One way to treat frames.

    split: index of the cut point the device stops at; 0 sends the frame, the bundle's last one nothing.
    confidence_threshold: how sure an early exit must be to answer; the bundle says what that asks of each exit
        (`Bundle.needed`). None: no early exit answers.
    codec: how the payload is coded; None: as fits the bundle (`codec.default_setting`).
    """

    id: int
    split: int
    confidence_threshold: float | None
    codec: CodecSetting | None = None

    def __post_init__(self) -> None:
        if self.split < 0:
            raise ValueError(f"split is {self.split}, expected 0 or more")
        if self.confidence_threshold is not None and not 0 <= self.confidence_threshold <= 1:
            raise ValueError(f"the threshold is {self.confidence_threshold}, expected 0 to 1, or none")
        if self.codec is not None:
            self.codec.check_split(self.split)
