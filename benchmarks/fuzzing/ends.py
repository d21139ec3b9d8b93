"""Fuzzes a session of spinn.v1, of the server or of the client, without sockets.

    python -m benchmarks.fuzzing.ends server|client [--messages 1000000] [--seed 0]

Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.codec import SUPPORTED, max_payload_bytes
from spinn_stream.errors import LocalProtocolError, RemoteProtocolError, ServerRefused
from spinn_stream.profile import BatchProfile, Profile, Timing
from spinn_stream.wire import (
    Cancel,
    ClientSession,
    Hello,
    Infer,
    Load,
    Message,
    Opened,
    ProfileReceived,
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
    profile_message,
    read_profile,
)
from spinn_stream.wire.client_session import State
from spinn_stream.wire.messages import MAX_BATCH, REJECT_REASONS

from .messages import message
from .rounds import Found, fuzz

BUNDLE = Path(__file__).parents[1] / "bundles" / "lite2-200"
TOKEN = "sesame"
IN_FLIGHT = 4  # so few that games reach the limit
LONGEST_GAME = 60


def profile_of(bundle: Bundle, sizes: tuple[int, ...] = (1, 4)) -> Profile:
    cuts = tuple(e.cut for e in bundle.exits[:-1])
    rows = tuple(BatchProfile(n, (Timing(1, 2),) * bundle.last, (Timing(1, 1),) * len(cuts), 0.25) for n in sizes)
    return Profile("numbers", cuts, rows, Timing(0, 0))


def of_client(bundle: Bundle) -> list[Message]:
    """Valid messages of a client; requests have few ids, so that they meet."""
    hello = Hello(bundle.hash, SUPPORTED, TOKEN, "test")
    groups = bytes(n % 2 and (n // 2 % 7) for n in range(2 * len(bundle.labels)))[::-1]
    found: list[Message] = [hello, replace(hello, payload=groups), replace(hello, codecs={"jpeg": 1, "x": 7})]
    found += [replace(hello, token=None), replace(hello, codecs={"jpeg": 99})]
    for request in range(IN_FLIGHT + 2):
        split = (0, 1, 9, bundle.last - 1)[request % 4]
        codec = "jpeg" if split == 0 else "transform"
        found.append(Infer(request, split, codec, None, 150.0, b"x", may_shorten=request % 2 == 0))
        found.append(Infer(request, split, codec, 0.5, 150.0, bytes(max_payload_bytes(bundle, split))))
        found += [Cancel(request)] * 2
    return found


def of_server(bundle: Bundle) -> list[Message]:
    """Valid messages of a server."""
    welcome = Welcome(bundle.hash, dict(SUPPORTED), IN_FLIGHT, 100_000, "test")
    profile = profile_message(profile_of(bundle), bundle)
    impossible = [replace(profile, payload=cell + profile.payload[4:]) for cell in (b"\xff" * 4, b"\0\0\x80\x7f")]
    two_prices = replace(profile, payload=profile.payload[:-4] + bytes(4))
    found: list[Message] = [welcome, profile, *impossible, two_prices, Load(12.5, 2.75)]
    for request in range(IN_FLIGHT + 2):
        found.append(Result(request, request % len(bundle.exits), ((3, 0.75), (4, 0.25)), 10.5, 12.25))
        found.append(Reject(request, "overloaded", "why", queue_ms=87.5))
    return found


def checked(data: bytes) -> Message | None:
    """What the bytes say, which is the same once it was packed again; None: they are no message."""
    try:
        message = decode(data)
    except RemoteProtocolError:
        return None
    assert decode(encode(message)) == message
    return message


class ServerGame:
    """A client that says anything to a server's session, which answers now and then."""

    def __init__(self, bundle: Bundle, found: Found) -> None:
        self._found = found
        self._bundle = bundle
        self._offered = {bundle: encode(profile_message(profile_of(bundle), bundle))}
        self._most = [max_payload_bytes(bundle, split) for split in range(bundle.last)]
        self._hellos = [m for m in of_client(bundle) if isinstance(m, Hello)]
        self._valid = [m for m in of_client(bundle) if not isinstance(m, Hello)]
        self._foreign = [*of_server(bundle), *self._hellos]

    def __call__(self, rng: random.Random) -> None:
        self._begin()
        if rng.random() < 0.5:
            self._say(message(rng, self._hellos), 0.0)
        else:
            self._say(encode(rng.choice(self._hellos)), 0.0)
        for number in range(rng.randrange(LONGEST_GAME)):
            now = number * rng.choice((0.0, 0.01, 0.1))
            way = rng.randrange(20)
            if way < 14:
                self._say(message(rng, self._valid), now)
            elif way == 14:
                self._say(message(rng, self._foreign), now)
            elif way == 15:
                figures = rng.choice((0.0, 7.5, 1e9, math.inf)), rng.choice((0.0, 1.0, 1.5, 1e9))
                self._sent(self._session.load(*figures, now, unasked=rng.random() < 0.5), Load)
            elif way < 18:
                request = rng.randrange(IN_FLIGHT + 2)
                told = self._session.result(request, 0, ((1, 0.5),), now, shortened=rng.random() < 0.5)
                self._answered(request, self._sent(told, Result))
            elif way < 19:
                request = rng.randrange(IN_FLIGHT + 2)
                told = self._session.reject(request, "expired", "x" * 2000, rng.choice((-1.0, 5.0, math.inf)))
                self._answered(request, self._sent(told, Reject))
            elif rng.random() < 0.1:
                self._ended("internal", "x" * 2000)
            assert self._session.in_flight == len(self._open) <= IN_FLIGHT

    def _begin(self) -> None:
        self._session = ServerSession(self._offered, SessionLimits(IN_FLIGHT), token=TOKEN, server="test", now=0.0)
        self._open: set[int] = set()

    def _say(self, data: bytes, now: float) -> None:
        """After the end of a session there is a new one, which is open."""
        try:
            with self._found.message(len(data)):
                event = self._session.receive(data, now)
        except RemoteProtocolError as error:
            assert error.reason in REJECT_REASONS and error.detail
            self._found.count(error.reason)
            self._ended(error.reason, error.detail)
            return
        said = checked(data)
        assert said is not None
        self._found.count("nothing" if event is None else type(event).__name__.lower())
        if isinstance(event, Infer):
            assert event == said and event.id not in self._open
            assert 0 < len(event.payload) <= self._most[event.split] and event.codec in SUPPORTED
            self._open.add(event.id)
        elif isinstance(event, Refused):
            assert event.request == said and event.request.id not in self._open
            self._sent(event.data, Reject)
        elif isinstance(event, Cancel):
            assert event.id in self._open
        elif isinstance(event, Reply):
            assert [type(decode(sent)) for sent in event.data] == [Welcome, ServerProfile]
            groups = self._session.group_of
            assert groups is None or (len(groups) == len(self._bundle.labels) and 0 <= groups.min() <= groups.max())

    def _ended(self, reason: str, detail: str) -> None:
        """Say so, and begin anew. A session that has ended takes nothing."""
        assert isinstance(decode(self._session.farewell(reason, detail)), Reject)
        expect_over(lambda: self._session.receive(b"", 0.0))
        self._begin()
        assert isinstance(self._session.receive(encode(self._hellos[0]), 0.0), Reply)

    def _answered(self, request: int, told: bool) -> None:
        assert told is (request in self._open)
        self._open.discard(request)

    def _sent(self, data: bytes | None, kind: type[Message]) -> bool:
        assert data is None or isinstance(decode(data), kind)
        return data is not None


class ClientGame:
    """A server that says anything to a client's session, which asks now and then."""

    def __init__(self, bundle: Bundle, found: Found) -> None:
        self._found = found
        self._bundle = bundle
        self._welcomes = [m for m in of_server(bundle) if isinstance(m, Welcome)]
        self._valid = [m for m in of_server(bundle) if not isinstance(m, Welcome)]
        self._foreign = [*of_client(bundle), *self._welcomes, Reject(None, "internal", "why")]
        self._group_of = [n % 7 for n in range(len(bundle.labels))]

    def __call__(self, rng: random.Random) -> None:
        self._names = rng.choice((7, len(self._bundle.labels)))
        self._begin()
        if rng.random() < 0.5:
            self._say(message(rng, self._welcomes))
        else:
            self._say(encode(rng.choice(self._welcomes)))
        for _ in range(rng.randrange(LONGEST_GAME)):
            way = rng.randrange(20)
            request = rng.randrange(IN_FLIGHT + 2)
            if way < 10:
                self._say(message(rng, self._valid))
            elif way == 10:
                self._say(message(rng, self._foreign))
            elif way < 17:
                self._infer(rng, request)
            elif way == 17:
                data = self._session.cancel(request)
                assert (data is not None) is (request in self._open and self._session.state is State.OPEN)
                assert data is None or decode(data) == Cancel(request)
            elif way == 18:
                self._session.give_up(request)
                self._open.discard(request)
            elif rng.random() < 0.2:
                assert self._session.close() == sorted(self._open)
                self._again()
            assert self._session.in_flight == len(self._open) <= IN_FLIGHT
        self._profile(rng)

    def _begin(self) -> None:
        grouped = self._names < len(self._bundle.labels)
        self._session = ClientSession(
            self._bundle, SUPPORTED, max_in_flight=IN_FLIGHT, group_of=self._group_of if grouped else None
        )
        self._open: set[int] = set()
        assert isinstance(decode(self._session.hello(token=None, client="test")), Hello)

    def _again(self) -> None:
        """A session that has ended takes nothing; the next one is open."""
        expect_over(lambda: self._session.receive(b""))
        self._begin()
        assert isinstance(self._session.receive(encode(self._welcomes[0])), Opened)

    def _infer(self, rng: random.Random, request: int) -> None:
        codec, size = rng.choice(("jpeg", "jpeg", "transform", "x")), rng.choice((1, 1, 100, 100_001))
        budget_ms = rng.choice((-1.0, 0.0, 149.9, 1e12, math.inf))
        may = self._session.ready and request not in self._open and self._session.takes(codec, size)
        try:
            data = self._session.infer(request, 0, codec, None, budget_ms, bytes(size))
        except LocalProtocolError:
            assert not may
            return
        assert may and isinstance(decode(data), Infer)
        self._open.add(request)

    def _say(self, data: bytes) -> None:
        """After the end of a session there is a new one, which is open."""
        try:
            with self._found.message(len(data)):
                event = self._session.receive(data)
        except (RemoteProtocolError, ServerRefused) as error:
            self._found.count(f"{type(error).__name__}: {str(error).partition(':')[0]}")
            self._again()
            return
        said = checked(data)
        assert said is not None
        self._found.count("nothing" if event is None else type(event).__name__.lower())
        if isinstance(event, Result | Reject):
            assert event == said and event.id in self._open
            self._open.discard(event.id)
        if isinstance(event, Result):
            assert event.exit < len(self._bundle.exits) and all(k < self._names for k, _ in event.top)
        elif isinstance(event, ProfileReceived):
            assert len(event.profile.batches[0].segments) == self._bundle.last

    def _profile(self, rng: random.Random) -> None:
        """A server's profile, which is told or refused."""
        sizes = tuple(sorted({rng.choice((1, 2, 16, MAX_BATCH, MAX_BATCH + 1)) for _ in range(3)}))
        profile = profile_of(self._bundle, sizes)
        odd = replace(profile.batches[0], call_ms=rng.choice((0.25, -1.0, math.nan, math.inf, 1e308)))
        profile = replace(profile, batches=(odd, *profile.batches[1:]))
        if rng.random() < 0.1:  # of another bundle
            cut = [replace(b, segments=b.segments[1:]) for b in profile.batches]
            profile = replace(profile, batches=tuple(cut))
        try:
            told = profile_message(profile, self._bundle)
        except LocalProtocolError:
            return
        assert read_profile(told, self._bundle).exit_cuts == profile.exit_cuts and decode(encode(told)) == told


def expect_over(attempt: Callable[[], Any]) -> None:
    try:
        attempt()
    except LocalProtocolError:
        return
    raise AssertionError("a session goes on after its end")


GAMES = {"server": ServerGame, "client": ClientGame}


def measure(end: str, count: int, seed: int) -> Found:
    """Fuzz one end with this many messages."""
    found = Found()
    fuzz(GAMES[end](load_bundle(BUNDLE), found), found, count, seed)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("end", choices=GAMES)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(json.dumps(measure(args.end, args.messages, args.seed).as_dict()))


if __name__ == "__main__":
    main()
