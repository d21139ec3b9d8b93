"""spinn.v1: two real sessions talk through memory; what breaks the rules is refused with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import FrozenInstanceError, dataclass, fields
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinn_stream.bundle import Bundle
from spinn_stream.codec import SUPPORTED, max_payload_bytes
from spinn_stream.errors import LocalProtocolError, RemoteProtocolError, ServerRefused
from spinn_stream.wire import (
    Cancel,
    ClientSession,
    Hello,
    Infer,
    Load,
    Message,
    Opened,
    Refused,
    Reject,
    Reply,
    Result,
    ServerProfile,
    ServerSession,
    SessionLimits,
    Welcome,
    decode,
    encode,
)
from spinn_stream.wire.messages import MAX_HEADER_BYTES

ACTIVATION, FRAME = "transform", "jpeg"

MESSAGES: list[Message] = [
    Hello("ab" * 32, {"cnn-co": 1}, "secret", "test"),
    Hello("", {}, None, "", bytes(range(200)) * 2),
    Welcome("ab" * 32, {"cnn-co": 1, "png": 1}, 32, 100_000, "test"),
    Infer(0, 0, "png", None, 0.0, b"x"),
    Infer(2**53, 9, "cnn-co", 0.5, 149.9, bytes(range(256))),
    Result(7, 5, ((3, 0.75), (4, 0.25)), 10.5, 12.25),
    Reject(None, "bundle_mismatch", "why"),
    Reject(3, "expired", ""),
    Infer(5, 9, "cnn-co", None, 100.0, b"x", may_shorten=True),
    Result(7, 5, ((3, 0.75),), 10.5, 12.25, shortened=True),
    Reject(3, "overloaded", "why", queue_ms=87.5),
    Cancel(3),
    Load(0.0, 1.0),
    Load(12.5, 2.75),
    ServerProfile("", (1,), b""),
    ServerProfile("onnxruntime", (1, 2, 4096), bytes(range(256))),
]


@dataclass
class Pair:
    """A client's and a server's session with a wire between them that loses nothing."""

    client: ClientSession
    server: ServerSession

    def open(self, token: str | None = None) -> Opened:
        reply = self.server.receive(self.client.hello(token=token, client="test"), 0.0)
        assert isinstance(reply, Reply)
        opened = self.client.receive(*reply.data)
        assert isinstance(opened, Opened)
        return opened

    def infer(self, request: int, split: int = 9, payload: bytes = b"payload", now: float = 1.0) -> Any:
        codec = FRAME if split == 0 else ACTIVATION
        return self.server.receive(self.client.infer(request, split, codec, 0.5, 100, payload), now)


def made_pair(bundle: Bundle, group_of: Sequence[int] | None = None) -> Pair:
    return Pair(
        ClientSession(bundle, SUPPORTED, max_in_flight=4, group_of=group_of),
        ServerSession({bundle: None}, SessionLimits(max_in_flight=2), token=None, server="test", now=0.0),
    )


@pytest.fixture
def pair(bundle: Bundle) -> Pair:
    return made_pair(bundle)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_every_message_comes_back_equal(message: Message) -> None:
    assert decode(encode(message)) == message


def test_what_has_its_default_takes_no_bytes_and_may_be_left_out() -> None:
    plain, told = Reject(3, "expired", ""), Reject(3, "expired", "", 87.5)
    assert len(encode(told)) - len(encode(plain)) == 9  # a float of msgpack
    assert decode(raw({"t": "reject", "id": 3, "reason": "expired", "detail": ""})) == plain
    assert decode(raw({"t": "reject", "id": 3, "reason": "expired", "detail": "", "queue_ms": 0})) == plain


def raw(header: Any, payload: bytes = b"") -> bytes:
    packed = msgpack.packb(list(header.values()) if isinstance(header, dict) else header)
    return len(packed).to_bytes(2, "big") + packed + payload


PROFILE = {"t": "profile", "runtime": "", "batches": [1, 4]}
INFER = {"t": "infer", "id": 1, "split": 9, "codec": "cnn-co", "threshold": 0.5, "budget_ms": 100.0}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "got 0 bytes"),
        (b"\x00", "got 1 bytes"),
        (b"\xff\xff" + bytes(70_000), "a header of 65535 bytes"),
        (b"\x00\x05abc", "3 are there"),
        (b"\x00\x01\xc1", "not msgpack"),
        (raw([1, 2]), "type 1"),
        (raw([]), "expected an array"),
        (raw(5), "header is of type int, expected an array"),
        (raw({"t": "boom"}), "type 'boom'"),
        (raw({"t": 5}), "type 5"),
        (raw([None]), "type None"),
        (raw({"t": "cancel"}), "got 0 fields, expected 1: id"),
        (raw({"t": "cancel", "id": 1, "x": 1}), "got 2 fields, expected 1: id"),
        (raw({"t": "cancel", "id": 1}, b"more"), "4 bytes behind"),
        (raw({**INFER, "id": -1}), "infer.id"),
        (raw({**INFER, "id": 1.0}), "infer.id"),
        (raw({**INFER, "id": True}), "infer.id"),
        (raw({**INFER, "id": 2**60}), "infer.id"),
        (raw({**INFER, "id": None}), "infer.id"),
        (raw({**INFER, "split": "nine"}), "infer.split"),
        (raw({**INFER, "codec": 3}), "infer.codec"),
        (raw({**INFER, "codec": "x" * 33}), "infer.codec"),
        (raw({**INFER, "threshold": 1.5}), "infer.threshold"),
        (raw({**INFER, "threshold": float("nan")}), "infer.threshold"),
        (raw({**INFER, "budget_ms": float("inf")}), "infer.budget_ms"),
        (raw({**INFER, "budget_ms": -1}), "infer.budget_ms"),
        (raw({**INFER, "may_shorten": 1}), "infer.may_shorten"),
        (raw({**INFER, "may_shorten": False, "more": 1}), "got 7 fields, expected 5 to 6"),
        (raw({"t": "reject", "id": 1, "reason": "expired", "detail": "", "queue_ms": -1}), "reject.queue_ms"),
        (raw({"t": "reject", "id": 1, "reason": "mood", "detail": ""}), "reject.reason"),
        (raw({"t": "reject", "id": 1, "reason": ["x"], "detail": ""}), "reject.reason"),
        (raw({"t": "result", "id": 1, "exit": 0, "top": [], "arrived_ms": 0, "left_ms": 0}), "result.top"),
        (raw({"t": "result", "id": 1, "exit": 0, "top": [[1]], "arrived_ms": 0, "left_ms": 0}), "result.top"),
        (raw({"t": "result", "id": 1, "exit": 0, "top": [[2**31 + 1, 1]], "arrived_ms": 0, "left_ms": 0}), "top"),
        (raw({"t": "hello", "bundle": "", "codecs": [1], "token": None, "client": ""}), "hello.codecs"),
        (raw({"t": "hello", "bundle": "", "codecs": {"a": "b"}, "token": None, "client": ""}), "hello.codecs"),
        (raw({"t": "load", "queue_ms": 1.0}), "got 1 fields, expected 2: queue_ms, factor"),
        (raw({"t": "load", "queue_ms": 1.0, "factor": 1.0}, b"more"), "4 bytes behind"),
        (raw({"t": "load", "queue_ms": -0.1, "factor": 1.0}), "load.queue_ms"),
        (raw({"t": "load", "queue_ms": 3_600_001, "factor": 1.0}), "load.queue_ms"),
        (raw({"t": "load", "queue_ms": "0", "factor": 1.0}), "load.queue_ms"),
        (raw({"t": "load", "queue_ms": 0, "factor": float("nan")}), "load.factor"),
        (raw({"t": "load", "queue_ms": 0, "factor": 1_000_001}), "load.factor"),
        (raw({"t": "load", "queue_ms": 0, "factor": -1}), "load.factor"),
        (raw({"t": "load", "queue_ms": 0, "factor": True}), "load.factor"),
        (raw({**PROFILE, "runtime": "x" * 101}), "profile.runtime"),
        (raw({**PROFILE, "runtime": None}), "profile.runtime"),
        (raw({**PROFILE, "batches": 1}), "profile.batches"),
        (raw({**PROFILE, "batches": []}), "profile.batches"),
        (raw({**PROFILE, "batches": list(range(1, 18))}), "profile.batches"),
        (raw({**PROFILE, "batches": [0, 1]}), "profile.batches"),
        (raw({**PROFILE, "batches": [1, 4097]}), "profile.batches"),
        (raw({**PROFILE, "batches": [1, 2.0]}), "profile.batches"),
        (raw({**PROFILE, "batches": [2, 1]}), "expected rising"),
        (raw({**PROFILE, "batches": [1, 1]}), "expected rising"),
        (raw({**PROFILE, "payload": 1}), "got 3 fields, expected 2: runtime, batches"),
        (raw({"t": "x", "deep": [[[[[[[[[[]]]]]]]]]]}), "type 'x'"),
        (b"\x0f\xff" + b"\x91" * 4095, "not msgpack"),  # lists in lists, 4,095 deep
        (b"\x00\x05\xdf\xff\xff\xff\xff", "not msgpack"),  # a map that announces 4 billion entries
        (b"\x00\x05\xc6\xff\xff\xff\xff", "not msgpack"),  # bytes that announce 4 GB
    ],
)
def test_what_is_no_message_is_refused_with_what_was_got(data: bytes, said: str) -> None:
    with pytest.raises(RemoteProtocolError, match=said) as caught:
        decode(data)
    assert caught.value.reason == "bad_message"


@given(st.binary(max_size=300))
@settings(max_examples=1000, deadline=None)
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        message = decode(data)
    except RemoteProtocolError:
        return
    assert decode(encode(message)) == message


@given(st.sampled_from(MESSAGES), st.integers(0, 500), st.integers(0, 255))
@settings(max_examples=1000, deadline=None)
def test_a_message_with_one_byte_changed_is_a_message_or_refused(message: Message, at: int, byte: int) -> None:
    data = bytearray(encode(message))
    data[at % len(data)] = byte
    try:
        decode(bytes(data))
    except RemoteProtocolError:
        return


def test_a_header_that_the_peer_would_refuse_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError):
        encode(Hello("", {}, "x" * MAX_HEADER_BYTES, ""))


def test_hello_and_welcome_agree_on_bundle_codecs_and_limits(pair: Pair, bundle: Bundle) -> None:
    welcome = pair.open().welcome
    assert welcome.bundle == bundle.hash
    assert welcome.codecs == SUPPORTED
    assert welcome.max_in_flight == 2
    assert welcome.max_payload_bytes == max(max_payload_bytes(bundle, s) for s in range(bundle.last))


def test_a_request_is_answered_once(pair: Pair) -> None:
    pair.open()
    event = pair.infer(5, now=1.0)
    assert event == Infer(5, 9, ACTIVATION, 0.5, 100, b"payload")
    data = pair.server.result(5, 2, ((3, 0.9),), 1.25)
    assert data is not None
    assert pair.client.receive(data) == Result(5, 2, ((3, 0.9),), 1000.0, 1250.0)  # ms since the session began at 0
    assert pair.server.result(5, 2, ((3, 0.9),), 1.5) is None
    assert pair.server.reject(5, "internal", "") is None
    assert pair.client.receive(data) is None  # a duplicate of an answer passes for nothing


def test_an_answer_to_nothing_is_ignored(pair: Pair) -> None:
    pair.open()
    assert pair.client.receive(encode(Result(99, 0, ((0, 1.0),), 0, 0))) is None


def test_only_so_many_requests_are_in_flight_and_an_acknowledgement_makes_room(pair: Pair) -> None:
    pair.open()  # the server grants 2, the client would take 4
    pair.infer(1)
    pair.infer(2)
    assert not pair.client.ready
    with pytest.raises(LocalProtocolError, match="no request may be sent"):
        pair.client.infer(3, 9, ACTIVATION, 0.5, 100, b"x")
    data = pair.server.reject(1, "expired", "late")
    assert data is not None
    assert pair.client.receive(data) == Reject(1, "expired", "late")
    assert pair.client.ready


def test_a_client_that_sends_more_than_agreed_is_refused_but_stays(pair: Pair) -> None:
    pair.open()
    pair.infer(1)
    pair.infer(2)
    reply = pair.server.receive(encode(Infer(3, 9, ACTIVATION, None, 100, b"x")), 1.0)
    assert isinstance(reply, Refused) and decode(reply.data) == Reject(3, "overloaded", "2 are in flight already")
    assert pair.server.in_flight == 2


@pytest.mark.parametrize(
    ("infer", "said"),
    [
        (Infer(1, 24, ACTIVATION, None, 1, b"x"), "split 24, expected 0 to 23"),
        (Infer(1, 9999, ACTIVATION, None, 1, b"x"), "split 9999"),
        (Infer(1, 9, FRAME, None, 1, b"x"), "expected one of transform, cnn-co"),
        (Infer(1, 0, ACTIVATION, None, 1, b"x"), "expected one of jpeg, png"),
        (Infer(1, 9, "zip", None, 1, b"x"), "codec 'zip'"),
        (Infer(1, 9, ACTIVATION, None, 1, b""), "a payload of 0 bytes"),
        (Infer(1, 16, ACTIVATION, None, 1, bytes(50_000)), "a payload of 50000 bytes at split 16"),
    ],
)
def test_a_request_that_does_not_fit_the_bundle_is_refused_and_the_session_goes_on(
    pair: Pair, infer: Infer, said: str
) -> None:
    pair.open()
    reply = pair.server.receive(encode(infer), 1.0)
    assert isinstance(reply, Refused) and reply.request == infer
    reject = decode(reply.data)
    assert isinstance(reject, Reject) and reject.reason == "bad_request" and said in reject.detail
    assert isinstance(pair.infer(2), Infer)


@pytest.mark.parametrize("message", [m for m in MESSAGES if not isinstance(m, Hello)], ids=lambda m: type(m).__name__)
def test_hello_comes_first(pair: Pair, message: Message) -> None:
    with pytest.raises(RemoteProtocolError, match="expected hello first"):
        pair.server.receive(encode(message), 0.0)
    with pytest.raises(LocalProtocolError):
        pair.server.receive(encode(message), 0.0)


@pytest.mark.parametrize("message", [m for m in MESSAGES if not isinstance(m, Infer | Cancel)])
def test_what_a_client_never_sends_ends_the_session(pair: Pair, message: Message) -> None:
    pair.open()
    with pytest.raises(RemoteProtocolError, match="a client does not send"):
        pair.server.receive(encode(message), 0.0)


def test_the_same_id_twice_ends_the_session(pair: Pair) -> None:
    pair.open()
    pair.infer(1)
    with pytest.raises(RemoteProtocolError, match="in flight already"):
        pair.server.receive(encode(Infer(1, 9, ACTIVATION, None, 100, b"x")), 1.0)


def test_another_bundle_is_refused_and_both_are_named(pair: Pair, bundle: Bundle) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        pair.server.receive(encode(Hello("f" * 64, SUPPORTED, None, "test")), 0.0)
    with pytest.raises(ServerRefused) as said:
        pair.client.receive(pair.server.farewell(caught.value.reason, caught.value.detail))
    assert bundle.hash[:12] in str(said.value) and "ffffffffffff" in str(said.value)


def test_a_welcome_to_another_bundle_is_refused_and_both_are_named(pair: Pair, bundle: Bundle) -> None:
    pair.client.hello(token=None, client="test")
    welcome = Welcome("ab" * 32, dict(SUPPORTED), 32, 100_000, "test")
    with pytest.raises(ServerRefused, match=f"has abababababab, the client {bundle.name} {bundle.hash[:12]}"):
        pair.client.receive(encode(welcome))
    assert not pair.client.ready


@pytest.mark.parametrize("token", [None, "", "wrong", "secret ", "\udcff"])
def test_a_wrong_token_is_refused(bundle: Bundle, token: str | None) -> None:
    server = ServerSession({bundle: None}, SessionLimits(), token="secret", server="test", now=0.0)
    with pytest.raises(RemoteProtocolError) as caught:
        server._hello(Hello(bundle.hash, SUPPORTED, token, "test"))
    assert caught.value.reason == "unauthorised"


def test_the_right_token_is_welcome(bundle: Bundle) -> None:
    server = ServerSession({bundle: None}, SessionLimits(), token="secret", server="test", now=0.0)
    Pair(ClientSession(bundle, SUPPORTED, max_in_flight=1), server).open(token="secret")


def test_no_common_codec_is_refused(pair: Pair, bundle: Bundle) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        pair.server.receive(encode(Hello(bundle.hash, {ACTIVATION: 99}, None, "test")), 0.0)
    assert caught.value.reason == "codec_mismatch"


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_does_not_change(message: Message) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(message, fields(message)[0].name, None)


def test_a_server_that_names_a_group_that_the_client_has_not_is_not_believed(bundle: Bundle) -> None:
    group_of = tuple(k % 3 for k in range(len(bundle.labels)))
    for label in (2, 3):
        pair = made_pair(bundle, group_of)
        pair.open()
        pair.infer(1)
        named = Result(1, 0, ((label, 1.0),), 0, 0)
        if label == 2:
            assert pair.client.receive(encode(named)) == named
        else:
            with pytest.raises(RemoteProtocolError, match="the bundle lacks"):
                pair.client.receive(encode(named))


def test_a_server_that_names_an_exit_or_a_class_the_bundle_lacks_is_not_believed(bundle: Bundle) -> None:
    exits, names = len(bundle.exits), len(bundle.labels)
    for exit, label in ((exits, 0), (exits + 3, 0), (0, names), (0, names + 3)):
        pair = made_pair(bundle)
        pair.open()
        pair.infer(1)
        with pytest.raises(RemoteProtocolError, match="the bundle lacks"):
            pair.client.receive(encode(Result(1, exit, ((label, 1.0),), 0, 0)))
    pair = made_pair(bundle)
    pair.open()
    pair.infer(1)
    last = Result(1, exits - 1, ((names - 1, 1.0),), 0, 0)
    assert pair.client.receive(encode(last)) == last


def test_cancelling_is_for_what_is_in_flight(pair: Pair) -> None:
    pair.open()
    assert pair.client.cancel(1) is None
    pair.infer(1)
    data = pair.client.cancel(1)
    assert data is not None and pair.server.receive(data, 2.0) == Cancel(1)
    pair.server.reject(1, "cancelled", "as asked")
    assert pair.server.receive(data, 3.0) is None  # it was answered meanwhile


def test_a_payload_that_was_not_agreed_to_is_not_sent(pair: Pair) -> None:
    largest = pair.open().welcome.max_payload_bytes
    assert pair.client.takes(ACTIVATION, largest) and pair.client.takes(FRAME, 1)
    assert not pair.client.takes(ACTIVATION, largest + 1) and not pair.client.takes("zip", 1)
    with pytest.raises(LocalProtocolError, match="the server takes"):
        pair.client.infer(1, 9, "zip", None, 100, b"x")


def test_closing_names_what_will_never_be_answered(pair: Pair) -> None:
    pair.open()
    pair.infer(2)
    pair.infer(1)
    assert pair.client.close() == [1, 2]
    assert not pair.client.ready


@pytest.mark.parametrize("message", [m for m in MESSAGES if isinstance(m, Hello | Infer | Cancel | Welcome)])
def test_what_a_server_never_sends_ends_the_session(pair: Pair, message: Message) -> None:
    pair.open()
    with pytest.raises(RemoteProtocolError, match="a server does not send"):
        pair.client.receive(encode(message))
    with pytest.raises(LocalProtocolError):
        pair.client.receive(encode(message))


@pytest.mark.parametrize("message", [m for m in MESSAGES if isinstance(m, Load | ServerProfile)])
def test_welcome_comes_first(pair: Pair, message: Message) -> None:
    with pytest.raises(RemoteProtocolError, match="expected welcome"):
        pair.client.receive(encode(message))


def test_the_client_learns_the_load(pair: Pair) -> None:
    assert pair.server.load(1.5, 1.0, 0.0) is None  # nobody there yet
    pair.open()
    pair.infer(1)
    data = pair.server.load(1.5, 2.0, 0.0)
    assert data is not None and pair.client.receive(data) == Load(1.5, 2.0)
    assert pair.client.in_flight == 1
    with pytest.raises(RemoteProtocolError):
        pair.server.receive(b"", 1.0)
    assert pair.server.load(100.0, 1.0, 2.0) is None  # it is over


@pytest.mark.parametrize(
    ("queue_ms", "factor", "after_s", "due"),
    [
        (20.0, 2.0, 0.0, False),
        (20.0, 2.0, 0.24, False),
        (20.0, 2.0, 0.26, True),
        (25.0, 2.19, 0.24, False),  # changed, not much
        (15.0, 1.81, 0.24, False),
        (25.1, 2.0, 0.06, True),  # changed much
        (14.9, 2.0, 0.06, True),
        (20.0, 2.21, 0.06, True),
        (20.0, 1.79, 0.06, True),
        (500.0, 9.0, 0.04, False),  # much, but too soon
    ],
)
def test_a_load_message_is_due_after_a_while_and_sooner_when_much_changed(
    pair: Pair, queue_ms: float, factor: float, after_s: float, due: bool
) -> None:
    pair.open()
    assert pair.server.load(20.0, 2.0, 10.0) is not None  # the first is always due
    data = pair.server.load(queue_ms, factor, 10.0 + after_s)
    assert (data is not None) is due
    if data is not None:
        assert decode(data) == Load(queue_ms, factor)


def test_small_changes_of_the_load_add_up_until_they_are_told(pair: Pair) -> None:
    pair.open()
    told = [pair.server.load(step, 1.0, step * 0.02) is not None for step in range(14)]
    assert [step for step, due in enumerate(told) if due] == [0, 6, 12]  # more than 5 ms since the last one told


@pytest.mark.parametrize("figure", [float("inf"), float("nan"), -1.0, 1e12])
def test_a_load_out_of_range_is_told_as_far_as_it_goes(pair: Pair, figure: float) -> None:
    pair.open()
    data = pair.server.load(figure, figure, 0.0)
    assert data is not None and isinstance(pair.client.receive(data), Load)


def test_what_answers_are_about_is_told_in_the_hello(bundle: Bundle) -> None:
    classes = len(bundle.labels)
    group_of = tuple(k // 2 for k in range(classes))
    client = ClientSession(bundle, SUPPORTED, max_in_flight=4, group_of=group_of)
    server = ServerSession({bundle: None}, SessionLimits(), token=None, server="test", now=0.0)
    server.receive(client.hello(token=None, client="test"), 0.0)
    assert server.group_of is not None and tuple(server.group_of.tolist()) == group_of


@pytest.mark.parametrize("payload", [b"\0", b"\0\0", b"\xff" * 400])
def test_groups_that_do_not_fit_the_bundle_end_the_session(bundle: Bundle, payload: bytes) -> None:
    server = ServerSession({bundle: None}, SessionLimits(), token=None, server="test", now=0.0)
    with pytest.raises(RemoteProtocolError, match="groups: "):
        server.receive(encode(Hello(bundle.hash, dict(SUPPORTED), None, "test", payload)), 0.0)
