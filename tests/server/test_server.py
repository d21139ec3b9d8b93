"""Sessions of a server over carriers in memory: whose failure is whose, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus

import numpy as np
import numpy.typing as npt
import pytest

from spinn_server.server import ServerConfig
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.codec import SUPPORTED, CodecSetting, PayloadSender, transform
from spinn_stream.errors import EngineError
from spinn_stream.runtime import Engine, answers
from spinn_stream.wire import Cancel, Hello, Infer, Reject, Result, ServerSession, encode

from .carriers import Client
from .engines import Failing, Held
from .worlds import BOTH_CARRIERS, SPLIT, World, Worlds

NO_PICTURE = np.empty((0, 0, 3), np.uint8)


@pytest.fixture
def labels(bundle: Bundle, engine: Engine, inputs: npt.NDArray[np.float32]) -> list[int]:
    """The final exit's answer for each picture."""
    x = inputs
    for start, stop in bundle.pieces(0, bundle.last):
        x, output = engine.run(start, stop, x)
    assert output is not None
    final = bundle.exits[-1]
    return [answer.top[0][0] for answer in answers(final.name, output, final.temperature)]


@BOTH_CARRIERS
def test_a_request_is_answered(world: Worlds, labels: list[int]) -> None:
    async def main() -> None:
        async with world() as w:
            client = await w.client()
            client.say(w.infer(3, image=2))
            said = await client.hear()
            assert isinstance(said, Result) and said.id == 3 and said.top[0][0] == labels[2]
            client.leave()

    asyncio.run(main())


@BOTH_CARRIERS
def test_an_id_that_is_used_again_while_the_cancelled_request_runs_gets_its_own_answer(
    world: Worlds, engine: Engine, labels: list[int]
) -> None:
    assert labels[0] != labels[1]
    held = Held(engine)

    async def main() -> None:
        async with world(held) as w:
            client = await w.client()
            client.say(w.infer(7, image=0))
            await asyncio.to_thread(held.running.wait, 20)
            client.say(Cancel(7))
            said = await client.hear()
            assert isinstance(said, Reject) and (said.id, said.reason) == (7, "cancelled")
            client.say(w.infer(7, image=1))
            client.say(w.infer(8, image=0))
            held.let_go.set()
            seventh, eighth = await client.hear(), await client.hear()
            assert isinstance(seventh, Result) and (seventh.id, seventh.top[0][0]) == (7, labels[1])
            assert isinstance(eighth, Result) and (eighth.id, eighth.top[0][0]) == (8, labels[0])

    asyncio.run(main())


@pytest.mark.parametrize("method", ["receive", "result"])
@BOTH_CARRIERS
def test_a_fault_of_our_own_ends_its_session_is_logged_once_and_harms_nobody_else(
    world: Worlds, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """In the task that reads, and in the engine's when it answers; both clients are in one batch."""
    honest = getattr(ServerSession, method)
    broken: list[ServerSession] = []

    def stumbling(self: ServerSession, *args: object, **more: object) -> object:
        if self in broken:
            raise IndexError("beyond the end")
        return honest(self, *args, **more)

    def breaking(self: ServerSession, *args: object) -> object:
        """The session of the first who says hello is broken from then on."""
        event = honest_hello(self, *args)
        broken.append(self) if not broken else None
        return event

    honest_hello = ServerSession._hello

    async def main() -> None:
        async with world(limits=BatchLimits(max_batch_size=2, max_wait_ms=200)) as w:
            first, other = await w.client(), await w.client()
            first.say(w.infer(1))
            first.say(w.infer(2))
            other.say(w.infer(1))
            said = await first.hear()
            assert isinstance(said, Reject) and (said.id, said.reason) == (None, "internal")
            assert await first.hear() is None and first.closed == (1011, "internal")
            assert isinstance(await other.hear(), Result)
            assert w.http("/readyz")[0] == HTTPStatus.OK

    monkeypatch.setattr(ServerSession, "_hello", breaking)
    monkeypatch.setattr(ServerSession, method, stumbling)
    asyncio.run(main())
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [IndexError]


@BOTH_CARRIERS
def test_a_dead_engine_is_told_to_everybody(world: Worlds, engine: Engine) -> None:
    failing = Failing(engine, RuntimeError("the device\nis gone"))
    why = "failing does not run any more: RuntimeError: the device\\nis gone"

    async def main() -> None:
        with pytest.raises(EngineError) as caught:
            async with world(failing) as w:
                clients = [await w.client() for _ in range(2)]
                assert w.http("/readyz") == (HTTPStatus.OK, "ok\n")
                failing.failures = 1000
                for id in range(3):
                    clients[0].say(w.infer(id))
                for id in range(3):
                    said = await clients[0].hear()
                    assert isinstance(said, Reject) and (said.id, said.reason) == (id, "internal")
                for client in clients:  # the one that asked, and the one that did not
                    said = await client.hear()
                    assert isinstance(said, Reject) and (said.id, said.reason, said.detail) == (None, "internal", why)
                    assert await client.hear() is None and client.closed == (1011, "internal")
                await asyncio.wait([w.running])
                assert w.http("/healthz") == (HTTPStatus.OK, "ok\n")
                assert w.http("/readyz") == (HTTPStatus.SERVICE_UNAVAILABLE, f"failed: {why}\n")
                assert w.http("/") == (HTTPStatus.SERVICE_UNAVAILABLE, f"failed: {why}\n")
        assert str(caught.value) == why

    asyncio.run(main())


@pytest.mark.parametrize("error", [SystemError("bad"), BaseExceptionGroup("native code", [GeneratorExit()])])
@BOTH_CARRIERS
def test_an_engine_s_task_that_ends_in_whatever_way_is_a_dead_engine(
    world: Worlds, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    async def end(self: TailEngine) -> None:
        raise error

    monkeypatch.setattr(TailEngine, "_take_turn", end)

    async def main() -> None:
        with pytest.raises(EngineError, match=f"the tail engine stopped: {type(error).__name__}: "):
            async with world() as w:
                await asyncio.wait([w.running])

    asyncio.run(main())


@BOTH_CARRIERS
def test_what_is_open_is_finished_and_nothing_new_is_taken_while_it_ends(world: Worlds, engine: Engine) -> None:
    held = Held(engine)

    async def meanwhile(w: World, client: Client) -> None:
        while w.server.answer("/") is None:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0)
        assert w.http("/readyz") == w.http("/") == (HTTPStatus.SERVICE_UNAVAILABLE, "ending: asked to end\n")
        assert w.http("/healthz")[0] == HTTPStatus.OK
        client.say(w.infer(2))
        said = await client.hear()
        assert isinstance(said, Reject) and (said.id, said.reason) == (2, "overloaded")
        held.let_go.set()
        said = await client.hear()
        assert isinstance(said, Result) and said.id == 1
        assert await client.hear() is None and client.closed == (1001, "the server is ending")

    async def main() -> None:
        async with world(held) as w:
            client = await w.client()
            client.say(w.infer(1))
            await asyncio.to_thread(held.running.wait, 20)
            w.tasks.append(asyncio.create_task(meanwhile(w, client)))

    asyncio.run(main())


@BOTH_CARRIERS
def test_what_a_stranger_writes_is_logged_on_one_line_without_what_a_terminal_obeys(
    world: Worlds, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with world() as w:
            stranger = w.stranger()
            stranger.say(Hello("a\n\x1b[31mb", SUPPORTED, None, "test"))
            said = await stranger.hear()
            assert isinstance(said, Reject) and said.reason == "bundle_mismatch"
            assert await stranger.hear() is None and stranger.closed == (1008, "bundle_mismatch")

    asyncio.run(main())
    (line,) = [record.getMessage() for record in caplog.records]
    assert (
        line.startswith("session 1 ")
        and ": bundle_mismatch: " in line
        and "a\\n\\x1b[31mb" in line
        and line.isprintable()
    )


@BOTH_CARRIERS
def test_the_longest_refusal_fits_its_message(world: Worlds, bundle: Bundle) -> None:
    async def main() -> None:
        async with world() as w:
            stranger = w.stranger()
            stranger.say(Hello(bundle.hash, {"\N{GRINNING FACE}" * 30 + str(n): 1 for n in range(25)}, None, "test"))
            said = await stranger.hear()
            assert isinstance(said, Reject) and said.reason == "codec_mismatch"

    asyncio.run(main())


@pytest.mark.parametrize("token", ["wrong horse", "w" * 2000, 77])
@BOTH_CARRIERS
def test_a_token_is_never_logged_or_sent_back(
    world: Worlds, bundle: Bundle, caplog: pytest.LogCaptureFixture, token: object
) -> None:
    async def main() -> None:
        async with world(token="right horse") as w:
            stranger = w.stranger()
            stranger.say_bytes(encode(Hello(bundle.hash, SUPPORTED, token, "test")))  # type: ignore[arg-type]
            said = await stranger.hear()
            assert isinstance(said, Reject) and said.reason in ("unauthorised", "bad_message")
            for text in (said.detail, caplog.text):
                assert "horse" not in text and "www" not in text and "77" not in text

    caplog.set_level(logging.DEBUG)
    asyncio.run(main())


def test_a_configuration_does_not_show_its_token() -> None:
    assert "sesame" not in repr(ServerConfig(token="sesame"))


@BOTH_CARRIERS
def test_changes_refer_to_what_came_before_in_their_own_session(
    world: Worlds, bundle: Bundle, engine: Engine, inputs: npt.NDArray[np.float32]
) -> None:
    """A key frame and changes of it are answered; the same changes are refused in a session that has no key frame."""
    head = engine.run(0, SPLIT, inputs[:1], exit=False)[0].copy()
    rng = np.random.default_rng(1)

    async def main() -> None:
        async with world() as w:
            client, other, sender = await w.client(), await w.client(), PayloadSender(bundle)
            for id in range(4):
                moved = (head + rng.normal(size=head.shape) * 0.01).astype(np.float32)
                payload = sender.encode(id, SPLIT, CodecSetting(transform.NAME, 7), moved, NO_PICTURE)
                assert transform.is_key(payload) == (id == 0)
                for asking in (client, other):
                    asking.say(Infer(id, SPLIT, transform.NAME, None, 10_000, payload))
                answered = await client.hear()
                assert isinstance(answered, Result) and answered.id == id
                sender.acknowledge(id)
                said = await other.hear()
                if id == 0:
                    assert isinstance(said, Result)
                    other.leave()
                    other = await w.client()
                else:
                    assert isinstance(said, Reject) and (said.id, said.reason) == (id, "no_reference")
            for asking in (client, other):
                asking.leave()

    asyncio.run(main())
