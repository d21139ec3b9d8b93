"""Sender and receiver: whatever the channel loses, an activation arrives as it was sent, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from spinn_stream.codec import transform
from spinn_stream.codec.basis import Basis
from spinn_stream.codec.stream import MAX_SENT, Receiver, Sender
from spinn_stream.errors import CodecError, ReferenceMissing

from .bases import Floats, a_basis, an_activation, near

BASES = {1: a_basis((6, 8, 8), seed=1), 2: a_basis((6, 8, 8), seed=2), 3: a_basis((20, 1, 1), seed=3)}
"""Cut point -> its basis; the first two are of one shape."""

MAX_BYTES = 4 * BASES[1].elements * 2
BITS = transform.BITS[-3]


def held(receiver: Receiver) -> list[int]:
    return list(receiver._held)


def sent_as(sender: Sender, request: int) -> np.ndarray:
    """What the sender thinks that the receiver will hold."""
    return sender._sent[request][1]


def exact(cut: int, sender: Sender, request: int) -> Floats:
    return BASES[cut].from_grid(sent_as(sender, request))


class Streams(RuleBasedStateMachine):
    """A sender and a receiver, and between them a channel that loses, delays, doubles and reorders.

    Requests and acknowledgements under way belong to a connection; those of an earlier one are never delivered,
    as a closed socket delivers nothing.
    """

    requests = Bundle("requests")
    answers = Bundle("answers")

    def __init__(self) -> None:
        super().__init__()
        self.sender, self.receiver = Sender(), Receiver(MAX_BYTES)
        self.next = 0
        self.connection = 0
        self.seen = an_activation(BASES[1], 0)
        self.fresh = True  # nothing was sent since the connection began, or a reference was lost
        self.decoded = 0

    @initialize(cut=st.sampled_from(list(BASES)))
    def begin(self, cut: int) -> None:
        self.cut = cut

    @rule(target=requests, seed=st.integers(0, 1000), moves=st.sampled_from([True, True, True, False]))
    def send(self, seed: int, moves: bool) -> tuple[int, int, int, bytes, Floats]:
        basis = BASES[self.cut]
        still = self.seen if self.seen.shape == basis.shape else an_activation(basis, seed)
        self.seen = near(still, seed, 1.0) if moves else an_activation(basis, seed)
        request, self.next = self.next, self.next + 1 + seed % 3
        payload = self.sender.encode(request, self.cut, basis, BITS, self.seen)
        assert len(payload) <= transform.max_payload_bytes(basis.elements)
        if self.fresh:
            assert transform.is_key(payload), "it refers to what the receiver cannot hold"
        self.fresh = False
        return self.connection, request, self.cut, payload, exact(self.cut, self.sender, request)

    @rule(target=answers, one=requests)
    def deliver(self, one: tuple[int, int, int, bytes, Floats]) -> tuple[int, int, bool]:
        """A request arrives: in any order, again, or never."""
        connection, request, cut, payload, expected = one
        if connection != self.connection:
            return (connection, request, False)
        before = held(self.receiver)
        try:
            found = self.receiver.decode(request, cut, BASES[cut], payload)
        except ReferenceMissing:
            assert not transform.is_key(payload)
            assert held(self.receiver) == before
            return (connection, request, False)
        assert np.array_equal(found, expected), "another activation than was sent"
        assert held(self.receiver)[-1] == request
        if not transform.is_key(payload):
            used = int.from_bytes(payload[2:6], "little")
            assert min(set(held(self.receiver)) - {request}, default=used) >= used, "older than the reference"
        return (connection, request, True)

    @rule(answer=answers)
    def answer(self, answer: tuple[int, int, bool]) -> None:
        """The receiver's word comes back: in any order, again, or never."""
        connection, request, good = answer
        if connection != self.connection:
            return
        if good:
            self.sender.acknowledge(request)
        else:
            self.sender.reset()
            self.fresh = True

    @rule(answer=answers)
    def an_answer_of_an_earlier_connection_is_told_by_mistake(self, answer: tuple[int, int, bool]) -> None:
        if answer[0] != self.connection:
            self.sender.acknowledge(answer[1])

    @rule(request=st.integers(0, 10_000))
    def an_answer_to_what_was_never_sent(self, request: int) -> None:
        if request >= self.next:
            self.sender.acknowledge(request)

    @rule()
    def the_connection_is_lost(self) -> None:
        self.connection += 1
        self.sender.reset()
        self.receiver = Receiver(MAX_BYTES)
        self.fresh = True

    @rule()
    def the_receiver_forgets(self) -> None:
        self.receiver.clear()
        assert self.receiver.held_bytes == 0 and not held(self.receiver)

    @rule(cut=st.sampled_from(list(BASES)))
    def the_split_changes(self, cut: int) -> None:
        self.cut = cut

    @rule(one=requests, cut=st.sampled_from(list(BASES)))
    def a_payload_is_said_to_be_of_another_cut_point(self, one: tuple[int, int, int, bytes, Floats], cut: int) -> None:
        """A change is refused; a key frame names no cut point, and one of another size is refused."""
        _, _, right, payload, _ = one
        if cut != right and (not transform.is_key(payload) or BASES[cut].shape != BASES[right].shape):
            with pytest.raises(CodecError):
                Receiver(MAX_BYTES).decode(0, cut, BASES[cut], payload)

    @invariant()
    def memory_is_bounded(self) -> None:
        grids = [grid for _, grid in self.receiver._held.values()]
        assert self.receiver.held_bytes == sum(grid.nbytes for grid in grids)
        assert self.receiver.held_bytes <= MAX_BYTES + max((grid.nbytes for grid in grids), default=0)
        assert len(self.sender._sent) <= MAX_SENT


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


class Pair:
    """A sender and a receiver on a perfect line."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.sender, self.receiver = Sender(), Receiver(max_bytes)
        self.activation = an_activation(BASES[1], 1)

    def send(self, request: int, cut: int = 1) -> bytes:
        self.activation = near(an_activation(BASES[cut], 1), request, 1.0, anew=0.02)
        return self.sender.encode(request, cut, BASES[cut], BITS, self.activation)

    def carry(self, request: int, cut: int = 1, *, acknowledge: bool = True) -> bytes:
        payload = self.send(request, cut)
        found = self.receiver.decode(request, cut, BASES[cut], payload)
        assert np.array_equal(found, exact(cut, self.sender, request))
        if acknowledge:
            self.sender.acknowledge(request)
        return payload


def test_what_was_acknowledged_is_referred_to_and_nothing_else() -> None:
    pair = Pair()
    payloads = [pair.carry(request, acknowledge=request in (2, 3)) for request in range(8)]
    assert [transform.is_key(p) for p in payloads] == [True] * 3 + [False] * 5
    assert [int.from_bytes(p[2:6], "little") for p in payloads[3:]] == [2, 3, 3, 3, 3]


def test_a_late_acknowledgement_of_an_older_request_changes_nothing() -> None:
    pair = Pair()
    for request in range(4):
        pair.carry(request, acknowledge=False)
    for request in (2, 0, 1, 2):
        pair.sender.acknowledge(request)
    assert int.from_bytes(pair.carry(4)[2:6], "little") == 2


def test_the_receiver_keeps_nothing_older_than_the_reference_in_use() -> None:
    pair = Pair()
    for request in range(4):
        pair.carry(request, acknowledge=request == 2)
    assert held(pair.receiver) == [0, 1, 3] or held(pair.receiver) == [2, 3]
    pair.carry(4)
    assert held(pair.receiver) == [2, 3, 4]


def test_the_oldest_goes_where_memory_ends_and_a_single_activation_always_stays() -> None:
    one = BASES[1].elements * 2
    for bound, expected in ((3 * one, [7, 8, 9]), (3 * one - 1, [8, 9]), (one, [9]), (0, [9])):
        pair = Pair(bound)
        for request in range(10):
            pair.carry(request, acknowledge=False)
        assert held(pair.receiver) == expected and pair.receiver.held_bytes == len(expected) * one


def test_a_reference_that_memory_did_not_reach_for_is_missing_and_a_key_frame_repairs_it() -> None:
    pair = Pair(2 * BASES[1].elements * 2)
    pair.carry(0)
    for request in (1, 2):
        pair.receiver.decode(request, 1, BASES[1], pair.send(request))
    pair.receiver.clear()
    with pytest.raises(ReferenceMissing):
        pair.carry(3)
    pair.sender.reset()
    assert transform.is_key(pair.carry(4)) and not transform.is_key(pair.carry(5))


def test_after_a_reset_nothing_that_was_sent_before_is_referred_to() -> None:
    pair = Pair()
    pair.carry(0)
    pair.carry(1, acknowledge=False)
    pair.sender.reset()
    pair.sender.acknowledge(1)  # late, of the connection before
    assert transform.is_key(pair.carry(2, acknowledge=False))
    pair.sender.acknowledge(0)
    assert transform.is_key(pair.carry(3))
    assert not transform.is_key(pair.carry(4))


def test_another_split_begins_with_a_key_frame_and_so_does_the_way_back() -> None:
    pair = Pair()
    keys = [transform.is_key(pair.carry(request, cut)) for request, cut in enumerate([1, 1, 3, 3, 1, 1])]
    assert keys == [True, False, True, False, True, False]


def test_a_change_at_a_cut_point_of_the_same_shape_is_refused() -> None:
    pair = Pair()
    pair.carry(0)
    payload = pair.send(1)
    with pytest.raises(ReferenceMissing, match="reference 0 is not held"):
        pair.receiver.decode(1, 2, BASES[2], payload)


@pytest.mark.parametrize("value", [1, -1, 7])
def test_a_reference_that_is_another_one_here_is_missing(value: int) -> None:
    pair = Pair()
    pair.carry(0)
    payload = pair.send(1)
    pair.receiver._held[0][1][3, 5] += value
    with pytest.raises(ReferenceMissing, match="another one here"):
        pair.receiver.decode(1, 1, BASES[1], payload)
    assert held(pair.receiver) == [0]


@pytest.mark.parametrize(
    "damage",
    [lambda p: p[:-1], lambda p: p[:12], lambda p: p + b"\0", lambda p: b"\7" + p[1:]],
    ids=["a byte short", "short", "a byte long", "another kind"],
)
def test_a_damaged_payload_is_refused_and_nothing_is_forgotten(damage: Callable[[bytes], bytes]) -> None:
    pair = Pair()
    pair.carry(0)
    payload = pair.send(1)
    with pytest.raises(CodecError):
        pair.receiver.decode(1, 1, BASES[1], damage(payload))
    assert held(pair.receiver) == [0] and pair.receiver.held_bytes == BASES[1].elements * 2
    assert np.array_equal(pair.receiver.decode(1, 1, BASES[1], payload), exact(1, pair.sender, 1))


def test_a_request_that_arrives_twice_is_held_once() -> None:
    pair = Pair()
    payload = pair.carry(0)
    pair.receiver.decode(0, 1, BASES[1], payload)
    assert held(pair.receiver) == [0] and pair.receiver.held_bytes == BASES[1].elements * 2


def test_ids_beyond_32_bits_are_told_apart_by_what_they_are() -> None:
    """Two requests whose ids are alike modulo 2^32: the newer one is looked at, and it is another one."""
    pair = Pair()
    pair.carry(5)
    payload = pair.send(6)
    pair.receiver.decode(5 + 2**32, 1, BASES[1], Pair().send(9))
    with pytest.raises(ReferenceMissing, match="another one here"):
        pair.receiver.decode(6, 1, BASES[1], payload)


def test_the_sender_remembers_so_many_and_no_more() -> None:
    pair = Pair()
    for request in range(MAX_SENT + 10):
        pair.send(request)
    pair.sender.acknowledge(9)  # forgotten
    pair.send(1000)
    assert len(pair.sender._sent) == MAX_SENT and pair.sender._acknowledged is None
    pair.sender.acknowledge(40)
    assert not transform.is_key(pair.send(1001))


def test_acknowledgements_that_nothing_comes_of_are_not_collected() -> None:
    """A connection that sends frames in another codec for hours."""
    sender = Sender()
    for request in range(1000):
        sender.acknowledge(request)
        assert not sender._told


def test_errors_do_not_add_up_over_changes() -> None:
    """A hundred changes of changes: the last is as near as the first, at most 0.8 steps off in each component."""
    pair = Pair(2**20)
    basis: Basis = BASES[1]
    for request in range(100):
        payload = pair.carry(request)
        if not transform.is_key(payload):
            grid = sent_as(pair.sender, request)
            assert np.abs(grid - basis.to_grid(pair.activation)).max() <= 0.8 * 4 + 1e-3
    ids = held(pair.receiver)
    assert ids == [98, 99] and all(a < b for a, b in pairwise(ids))
