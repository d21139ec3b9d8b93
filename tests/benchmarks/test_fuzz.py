"""The fuzzers of sessions and port find nothing in a short run, and do find what is planted."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzzing import ends, port, rounds
from spinn_server.carriers.peers import Front
from spinn_stream.bundle import Bundle
from spinn_stream.wire import ServerSession
from spinn_stream.wire import messages as wire_messages

FEW = 2000


@pytest.mark.parametrize("end", ends.GAMES)
def test_a_session_keeps_its_rules_whatever_it_is_told(bundle: Bundle, end: str) -> None:
    found = rounds.Found()
    game = ends.GAMES[end](bundle, found)

    @settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def play(rng: random.Random) -> None:
        game(rng)

    play()
    assert found.messages > 500 and len(found.outcomes) >= 6


def test_a_game_of_a_seed_is_always_the_same() -> None:
    first, again = (ends.measure("server", FEW, 3) for _ in range(2))
    assert first.faults == [] and first.messages >= FEW
    assert first.outcomes == again.outcomes != ends.measure("server", FEW, 4).outcomes


def test_requests_and_frames_harm_no_server() -> None:
    found = port.measure(FEW, 3)
    assert found.faults == [] and found.messages >= FEW
    assert {"101", "200", "404", "closed"} <= found.outcomes.keys()


def test_what_escapes_a_session_is_a_fault_with_the_game_that_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ServerSession._infer

    def planted(self: ServerSession, infer: Any, now: float) -> Any:
        return real(self, infer, now) if infer.id != 3 else {}[infer.id]

    monkeypatch.setattr(ServerSession, "_infer", planted)
    found = ends.measure("server", FEW, 3)
    assert len(found.faults) == rounds.FAULTS_TOLD
    assert found.faults[0].startswith("game ") and "of seed 3: KeyError: 3" in found.faults[0]


def test_a_session_that_miscounts_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServerSession, "in_flight", property(lambda self: 0))
    assert any("AssertionError" in fault for fault in ends.measure("server", FEW, 3).faults)


def test_what_a_handler_of_the_port_raises_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Front, "path", lambda self, path: {}[path])
    assert any("500" in fault for fault in port.measure(200, 3).faults)


@pytest.mark.parametrize(
    ("limits", "said"), [({"SLOWEST_S": -1}, "s of CPU time"), ({"MEMORY_FIXED": 1, "MEMORY_FACTOR": 0}, "allocated")]
)
def test_time_and_memory_are_looked_at(monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], said: str) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(rounds, name, value)
    assert any(said in fault for fault in ends.measure("server", 200, 1).faults)


def test_deep_and_lying_headers_are_among_the_messages() -> None:
    rng, valid = random.Random(1), [wire_messages.Cancel(1)]
    made = {ends.message(rng, valid) for _ in range(2000)}
    assert any(b"\x91" * 600 in data for data in made)
    assert any(int.from_bytes(data[:2], "big") > len(data) for data in made)
