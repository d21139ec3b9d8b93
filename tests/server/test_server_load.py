"""What clients are told of the server's queue and load."""

from __future__ import annotations

import pytest

from spinn_server.work.load import ServerLoad
from spinn_stream.profile import BatchProfile, Profile, Timing

PROFILE = Profile(
    "onnxruntime",
    (1,),
    tuple(BatchProfile(n, (Timing(2.0 * n, 3.0 * n),) * 2, (Timing(1.0 * n, 1.0 * n),), 0.0) for n in (1, 4)),
    Timing(1, 1),
)


def test_an_idle_server_has_no_queue_and_runs_as_measured() -> None:
    assert ServerLoad(PROFILE).current(0.0) == (0.0, 1.0)


def test_the_queueing_delay_is_the_median_of_the_last_second() -> None:
    load = ServerLoad(PROFILE)
    for i in range(30):
        load.waited(100, i * 0.01)
    for i in range(9):
        load.waited(5 if i != 4 else 500, 2 + i * 0.01)
    assert load.current(2.1)[0] == 5
    assert load.current(9.0)[0] == 0


def test_the_load_factor_knows_batches_and_exits() -> None:
    load = ServerLoad(PROFILE)
    for i in range(40):
        load.ran(0, 1, batch=4, ms=2 * (8 + 4), now=i * 0.03)
        load.ran(1, 2, batch=1, ms=2 * 2, now=i * 0.03)
    assert load.current(1.2)[1] == pytest.approx(2.0)


def test_without_a_profile_there_is_no_load_factor() -> None:
    load = ServerLoad(None)
    for i in range(40):
        load.ran(0, 1, batch=1, ms=1000, now=i * 0.03)
    assert load.current(1.2)[1] == 1.0
