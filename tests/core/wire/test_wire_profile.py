"""A server's profile crosses the wire; one that does not fit the bundle, or has times that are none, is refused."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinn_stream.bundle import Bundle, CutPoint, Exit, load_bundle
from spinn_stream.codec import SUPPORTED
from spinn_stream.errors import LocalProtocolError, RemoteProtocolError
from spinn_stream.profile import BatchProfile, Profile, Timing
from spinn_stream.wire import (
    ClientSession,
    Opened,
    ProfileReceived,
    Reply,
    ServerProfile,
    ServerSession,
    SessionLimits,
    decode,
    encode,
    max_server_message_bytes,
    profile_message,
    read_profile,
)
from spinn_stream.wire.messages import MAX_BATCHES

from ...bundles import LITE2_200

BUNDLE = load_bundle(LITE2_200)
CUTS = tuple(e.cut for e in BUNDLE.exits[:-1])
COLUMNS = BUNDLE.last + len(CUTS) + 1


def made_up(bundle: Bundle, sizes: tuple[int, ...] = (1, 2, 16), seed: int = 0) -> Profile:
    """A profile of random times; preprocessing takes nothing, as it comes out of the wire."""
    rng = np.random.default_rng(seed)

    def timings(count: int) -> tuple[Timing, ...]:
        medians = rng.gamma(1.0, 5.0, count).astype(np.float32)  # what float32 holds comes back equal
        return tuple(Timing(float(m), float(np.float32(1.5) * m)) for m in medians)

    exits = tuple(e.cut for e in bundle.exits[:-1])
    rows = [BatchProfile(size, timings(bundle.last), timings(len(exits)), 0.125) for size in sizes]
    return Profile("engine", exits, tuple(rows), Timing(0, 0))


def message(table: npt.NDArray[np.float32], sizes: tuple[int, ...] = (1,)) -> ServerProfile:
    return ServerProfile("engine", sizes, table.astype("<f4").tobytes())


@given(
    st.lists(st.integers(1, 4096), min_size=1, max_size=MAX_BATCHES, unique=True).map(sorted).map(tuple),
    st.integers(0, 2**32),
)
@settings(max_examples=100, deadline=None)
def test_a_profile_comes_back_equal(sizes: tuple[int, ...], seed: int) -> None:
    profile = made_up(BUNDLE, sizes, seed)
    decoded = decode(encode(profile_message(profile, BUNDLE)))
    assert isinstance(decoded, ServerProfile)
    assert read_profile(decoded, BUNDLE) == profile


def test_the_table_has_medians_over_percentiles_and_the_price_of_a_cut_last() -> None:
    profile = made_up(BUNDLE, (1, 4))
    table = np.frombuffer(profile_message(profile, BUNDLE).payload, "<f4").reshape(2, 2, COLUMNS)
    row = profile.batches[1]
    assert table[1, 0].tolist() == [*(t.median_ms for t in (*row.segments, *row.exits)), row.call_ms]
    assert table[1, 1].tolist() == [*(t.p95_ms for t in (*row.segments, *row.exits)), row.call_ms]


def test_preprocessing_stays_at_home_and_a_long_name_is_cut() -> None:
    mine = dataclasses.replace(made_up(BUNDLE), runtime="x" * 200, preprocess=Timing(3, 4))
    read = read_profile(profile_message(mine, BUNDLE), BUNDLE)
    assert read.preprocess == Timing(0, 0) and read.runtime == "x" * 100


def test_a_profile_that_no_client_would_take_is_not_sent() -> None:
    good = made_up(BUNDLE)
    row = good.batches[0]
    for bad in (
        dataclasses.replace(good, exit_cuts=tuple(cut - 1 for cut in CUTS)),
        dataclasses.replace(good, batches=(dataclasses.replace(row, segments=row.segments[1:]),)),
        dataclasses.replace(good, batches=(dataclasses.replace(row, batch=5000),)),
        dataclasses.replace(good, batches=tuple(dataclasses.replace(row, batch=1 + i) for i in range(17))),
        dataclasses.replace(good, batches=(dataclasses.replace(row, call_ms=float("nan")),)),
        dataclasses.replace(good, batches=(dataclasses.replace(row, call_ms=-1.0),)),
    ):
        with pytest.raises(LocalProtocolError):
            profile_message(bad, BUNDLE)


GOOD = np.ones((1, 2, COLUMNS), np.float32)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (ServerProfile("", (1,), b""), f"0 bytes for this bundle, expected {8 * COLUMNS}"),
        (ServerProfile("", (1,), bytes(8 * COLUMNS - 1)), f"{8 * COLUMNS - 1} bytes"),
        (ServerProfile("", (1,), bytes(8 * COLUMNS + 4)), f"{8 * COLUMNS + 4} bytes"),
        (message(GOOD, (1, 2)), f"{8 * COLUMNS} bytes for this bundle, expected {16 * COLUMNS}"),
        (message(GOOD[:, :, 1:]), f"expected {8 * COLUMNS}"),
        (message(-GOOD), "times that are not"),
        (message(GOOD * np.float32("nan")), "times that are not"),
        (message(GOOD * np.float32("inf")), "times that are not"),
        (message(GOOD * np.float32(4e6)), "times that are not"),
        (ServerProfile("", (1,), b"\x01\x00\x80\x7f" * 2 * COLUMNS), "times that are not"),  # signalling NaN
        (message(np.arange(2 * COLUMNS, dtype=np.float32)), "two prices"),
    ],
)
def test_a_profile_that_is_none_ends_the_session(bad: ServerProfile, said: str) -> None:
    client, server = sessions(made_up(BUNDLE))
    open_both(client, server)
    with warnings.catch_warnings(), pytest.raises(RemoteProtocolError, match=said) as caught:
        warnings.simplefilter("error")
        client.receive(encode(bad))
    assert caught.value.reason == "bad_message"
    with pytest.raises(LocalProtocolError):
        client.receive(encode(bad))


@given(st.binary(max_size=16 * COLUMNS), st.sampled_from([8 * COLUMNS, 16 * COLUMNS]), st.booleans())
@settings(max_examples=500, deadline=None)
def test_any_payload_is_a_profile_or_refused(data: bytes, length: int, two: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for payload in (data, data.ljust(length, b"\0")):
            said = ServerProfile("", (1, 2) if two else (1,), payload)
            try:
                profile = read_profile(said, BUNDLE)
            except RemoteProtocolError:
                continue
            assert profile_message(profile, BUNDLE) == said


def sessions(profile: Profile | None) -> tuple[ClientSession, ServerSession]:
    said = None if profile is None else encode(profile_message(profile, BUNDLE))
    server = ServerSession({BUNDLE: said}, SessionLimits(), token=None, server="test", now=0.0)
    return ClientSession(BUNDLE, SUPPORTED, max_in_flight=1), server


def open_both(client: ClientSession, server: ServerSession) -> list[object]:
    """What the client makes of the answer to its hello."""
    reply = server.receive(client.hello(token=None, client="test"), 0.0)
    assert isinstance(reply, Reply)
    return [client.receive(data) for data in reply.data]


def test_the_profile_follows_the_welcome() -> None:
    profile = made_up(BUNDLE)
    opened, received = open_both(*sessions(profile))
    assert isinstance(opened, Opened) and received == ProfileReceived(profile)


def test_a_server_without_a_profile_sends_none() -> None:
    (opened,) = open_both(*sessions(None))
    assert isinstance(opened, Opened)


def test_the_largest_profile_of_the_largest_bundle_fits_the_client_s_limit() -> None:
    """1,000 cut points with an exit at each: more than 64 KiB."""
    cuts = tuple(CutPoint(str(i), (1,), i) for i in range(1000))
    exits = tuple(Exit(str(i), i, 0, 1.0) for i in range(1000))
    large = dataclasses.replace(BUNDLE, cut_points=cuts, exits=exits)
    sizes = tuple(4096 - i for i in reversed(range(MAX_BATCHES)))
    profile = dataclasses.replace(made_up(large, sizes), runtime="\N{GRINNING FACE}" * 100)
    data = encode(profile_message(profile, large))
    assert 64 * 1024 < len(data) <= max_server_message_bytes(large)
    decoded = decode(data)
    assert isinstance(decoded, ServerProfile) and read_profile(decoded, large) == profile
