"""The fuzzer of the decoders finds nothing in a short run, and does find what is planted."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import fuzz_codec
from spinn_stream.codec import PayloadReceiver
from spinn_stream.errors import CodecError


def test_a_few_thousand_damaged_payloads_are_decoded_or_refused() -> None:
    found = fuzz_codec.measure(5000, 3)
    assert found["faults"] == []
    assert found["outcomes"].keys() == {"transform", "cnn-co", "jpeg", "png"}
    for codec, counts in found["outcomes"].items():
        assert counts["refused"] > 50 and counts["decoded"] > 0, codec
    assert found["outcomes"]["transform"]["reference missing"] > 50
    assert sum(sum(counts.values()) for counts in found["outcomes"].values()) == found["inputs"] == 5000


class Panic(BaseException):
    """What native code raises that nobody expects."""


def planted(receiver: PayloadReceiver, request: int, split: int, codec: str, payload: bytes) -> Any:
    if codec != "cnn-co":
        raise CodecError("not today")
    if request % 2:
        raise Panic("assertion failed")
    return fuzz_codec.np.zeros(3)


def test_exceptions_of_any_kind_and_wrong_shapes_are_faults_with_their_input(monkeypatch: pytest.MonkeyPatch) -> None:
    real = PayloadReceiver.decode
    monkeypatch.setattr(PayloadReceiver, "decode", lambda self, *a: real(self, *a) if a[0] == 0 else planted(self, *a))
    found = fuzz_codec.measure(200, 3)
    assert found["outcomes"]["cnn-co"].keys() == {"fault"} and "fault" not in found["outcomes"]["transform"]
    assert {fault["what"] for fault in found["faults"]} == {"Panic: assertion failed", "float64 (3,), or not finite"}
    one = found["faults"][0]
    assert one["seed"] == 3 and one["cut_point"] in fuzz_codec.SHARES and bytes.fromhex(one["bytes"])
    again = fuzz_codec.measure(200, 3)
    assert again["faults"] == found["faults"], "an input of a seed is always the same"


@pytest.mark.parametrize(
    ("limits", "said"),
    [({"SLOWEST_S": -1}, "s of CPU time"), ({"MEMORY_FACTOR": 0, "MEMORY_FIXED": 1}, "bytes allocated")],
)
def test_time_and_memory_are_looked_at(monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], said: str) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(fuzz_codec, name, value)
    assert any(said in fault["what"] for fault in fuzz_codec.measure(100, 1)["faults"])
