"""Several `spinn serve --ray` on one cluster, which outlives them.

Not beside `test_ray`'s own Ray: on one machine, the proxies of two clusters would want the same ports.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.codec import cnn_co
from spinn_stream.wire import Infer, Result

from ..bundles import DEFAULT
from ..processes import SPINN, ServerProcess, server
from ..ray_head import free_port, ray_head
from .test_ray import SPLIT, Session, pytestmark  # noqa: F401  # for this module, too


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of the commands on one cluster."""
    with ray_head(processors=3):
        yield free_port()


async def is_answered(serving: ServerProcess, bundle: Bundle) -> bool:
    payload = cnn_co.encode(np.zeros(bundle.cut_points[SPLIT].shape, np.float32))
    session = await Session().open(serving, bundle)
    await session.say(Infer(1, SPLIT, cnn_co.NAME, None, 10_000, payload))
    said = await session.hear()
    await session.close()
    return isinstance(said, Result)


def test_a_second_command_replaces_the_parts_of_the_first_one_which_ends(port: int, bundle: Bundle) -> None:
    options = ("--ray", "--path-prefix", "/replaced")

    async def main(first: ServerProcess) -> None:
        session = await Session().open(first, bundle)

        def replace() -> None:
            with server(*options, "--max-queue", "128", port=port) as second:
                assert first.process.wait(timeout=30) == 0
                assert first.process.stdout is not None
                assert "replaced by another spinn serve\n" in first.process.stdout.read()
                assert asyncio.run(is_answered(second, bundle))

        await asyncio.to_thread(replace)
        with pytest.raises(ConnectionClosed) as closed:
            await session.hear()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012, "service restart"

    with server(*options, port=port) as first:
        asyncio.run(main(first))


def test_another_bundle_is_served_beside_and_not_in_the_place_of_the_first_one(port: int, bundle: Bundle) -> None:
    other = load_bundle()
    with server("--ray", "--path-prefix", "/small", port=port) as first:
        with server("--ray", "--path-prefix", "/default", *DEFAULT, port=port) as second:
            assert asyncio.run(is_answered(first, bundle)) and asyncio.run(is_answered(second, other))
        assert asyncio.run(is_answered(first, bundle)), "the end of the second one is no matter"
        refused = subprocess.run(
            [str(SPINN), "serve", "--ray", "--path-prefix", "/small", "--port", str(port), *DEFAULT],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert refused.returncode == 1 and f"spinn-small runs with the bundle {bundle.hash:.12}" in refused.stderr
        assert asyncio.run(is_answered(first, bundle))
