"""The stream as a program embeds it: a real device, a real server in this process, and clocks that are left to run."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

import spinn_client as spinn
from spinn_client.device.device import Device
from spinn_client.events import Event
from spinn_client.sources.base import Picture
from spinn_client.steering.steering import Steering
from spinn_server.admin.metrics import Metrics
from spinn_server.server import Server, ServerConfig
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.profile import Profile
from spinn_stream.runtime import Engine

from ..bundles import LITE2_200

Pixels = npt.NDArray[np.uint8]

ONNX = spinn.DeviceConfig(bundle=LITE2_200, runtime="onnxruntime")
PATIENCE_MS = 20_000.0
"""A deadline that no machine misses, however busy."""


@asynccontextmanager
async def serving(bundle: Bundle, engine: Engine, profile: Profile) -> AsyncIterator[str]:
    config = ServerConfig(port=0)
    tail = TailEngine(bundle, engine, config.batch, Metrics(), profile)
    async with Server([tail], Metrics(), config).listen() as address:
        yield address


class Told:
    """Events as they come, and a wait for one of a kind."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()

    async def wait_for(self, kind: type[Event], count: int = 1) -> Event:
        while len(found := [e for e in self.events if isinstance(e, kind)]) < count:
            self._changed.clear()
            await self._changed.wait()
        return found[count - 1]


class Clip:
    """Photographs in turn, as a file of this many frames."""

    name, live, fps = "clip", False, None

    def __init__(self, pictures: list[Pixels], count: int) -> None:
        self._pictures, self._count = pictures, count

    def pictures(self) -> Iterator[Picture]:
        for n in range(self._count):
            yield Picture(self._pictures[n % len(self._pictures)])

    def close(self) -> None: ...


@pytest.mark.parametrize("split", ["block7", "final"])
def test_every_frame_gets_one_result_and_the_iteration_ends(
    bundle: Bundle, engine: Engine, profile: Profile, photographs: list[Pixels], split: str
) -> None:
    async def main() -> list[spinn.Result]:
        async with (
            serving(bundle, engine, profile) as address,
            spinn.Stream(
                Clip(photographs, 12), server=address, deadline_ms=PATIENCE_MS, device=ONNX,
                plan=spinn.FixedPlan(split, "none"), feed=spinn.FeedConfig(unpaced=True),
            ) as stream,
        ):  # fmt: skip
            results = [result async for result in stream]
            state = stream.state
        assert (state.taken, state.final, state.captured) == (12, 12, 12)
        assert state.plan.split == bundle.split_index(split)
        return results

    results = asyncio.run(main())
    assert sorted(r.frame for r in results) == list(range(12))
    assert {r.where for r in results} == {"server" if split == "block7" else "device"}


def test_two_streams_work_side_by_side(photographs: list[Pixels]) -> None:
    async def play(deadline_ms: float) -> list[int]:
        async with spinn.Stream(
            Clip(photographs, 8), deadline_ms=deadline_ms, device=ONNX, feed=spinn.FeedConfig(unpaced=True)
        ) as stream:
            return [result.frame async for result in stream]

    async def main() -> list[list[int]]:
        return await asyncio.gather(play(PATIENCE_MS), play(2 * PATIENCE_MS))

    assert asyncio.run(main()) == [list(range(8))] * 2


@pytest.mark.parametrize("split", ["block7", "final"])
def test_answers_are_about_what_the_user_asked_for_on_both_ends(
    bundle: Bundle, engine: Engine, profile: Profile, photographs: list[Pixels], split: str
) -> None:
    cats = {name: "a cat of some kind" for name in ("tabby", "Egyptian cat", "Persian cat") if name in bundle.labels}
    assert len(cats) >= 2

    async def ask(labels: dict[str, str] | None) -> spinn.Result:
        async with (
            serving(bundle, engine, profile) as address,
            spinn.Stream(spinn.Pushed(), server=address, deadline_ms=PATIENCE_MS, device=ONNX, labels=labels,
                         unknown_below=1.0 if labels is None else None, plan=spinn.FixedPlan(split, "none")) as stream,
        ):  # fmt: skip
            return await stream.ask(photographs[0])

    plain, mapped = asyncio.run(ask(None)), asyncio.run(ask(cats))
    assert plain.label == "unknown" and plain.top[0][0] == "tabby"
    assert mapped.label == "a cat of some kind" and mapped.where == ("server" if split == "block7" else "device")
    expected = sum(p for name, p in plain.top if name in cats)
    assert mapped.confidence == pytest.approx(expected, abs=0.05) and mapped.confidence > plain.top[0][1]


def test_a_pushed_picture_is_answered_and_its_age_counts_from_its_capture(photographs: list[Pixels]) -> None:
    async def main() -> spinn.Result:
        async with spinn.Stream(spinn.Pushed(), deadline_ms=PATIENCE_MS, device=ONNX) as stream:
            await stream.ask(photographs[0])
            return await stream.ask(photographs[1], captured=time.monotonic() - 3)

    result = asyncio.run(main())
    assert result.frame == 1 and result.label == "espresso" and result.age_ms >= 3000


def test_a_picture_whose_place_is_taken_is_told(photographs: list[Pixels]) -> None:
    async def main() -> list[object]:
        async with spinn.Stream(spinn.Pushed(), deadline_ms=PATIENCE_MS, device=ONNX) as stream:
            asked = [asyncio.create_task(stream.ask(photographs[n % 2])) for n in range(6)]
            return list(await asyncio.gather(*asked, return_exceptions=True))

    answers = asyncio.run(main())
    dropped = [a for a in answers if isinstance(a, spinn.FrameDropped)]
    assert dropped and all(a.reason == "superseded" for a in dropped)
    assert isinstance(answers[-1], spinn.Result) and len(dropped) < len(answers)


def test_asking_needs_a_pushed_source_and_a_stream_that_runs(photographs: list[Pixels]) -> None:
    async def main() -> None:
        stream = spinn.Stream(Clip(photographs, 1), device=ONNX)
        with pytest.raises(spinn.ConfigError, match="Pushed"):
            await stream.ask(photographs[0])
        stream = spinn.Stream(spinn.Pushed(), device=ONNX)
        with pytest.raises(spinn.StreamEnded):
            await stream.ask(photographs[0])

    asyncio.run(main())


def test_leaving_answers_whoever_still_waits(photographs: list[Pixels]) -> None:
    async def main() -> object:
        async with spinn.Stream(spinn.Pushed(), deadline_ms=PATIENCE_MS, device=replace(ONNX, slowdown=60)) as stream:
            asked = asyncio.create_task(stream.ask(photographs[0]))
            await asyncio.sleep(0.1)
        return (await asyncio.gather(asked, return_exceptions=True))[0]

    answer = asyncio.run(main())
    assert isinstance(answer, spinn.Result | spinn.StreamEnded)
    assert not isinstance(answer, spinn.Result) or answer.reason in ("no_answer", "deadline")


def test_another_agreement_deadline_and_plan_while_it_runs(
    bundle: Bundle, engine: Engine, profile: Profile, photographs: list[Pixels]
) -> None:
    async def main() -> list[spinn.Result]:
        results = []
        async with (
            serving(bundle, engine, profile) as address,
            spinn.Stream(spinn.Pushed(), server=address, deadline_ms=PATIENCE_MS, device=ONNX,
                         policy="device-only") as stream,
        ):  # fmt: skip

            async def ask() -> spinn.Result:
                results.append(await stream.ask(photographs[0]))
                return results[-1]

            async def until(where: str) -> None:
                while (await ask()).where != where:
                    pass

            assert (await ask()).where == "device"
            await stream.agree(policy="server-only")
            await until("server")
            await stream.agree(plan=spinn.FixedPlan("final", "0.0"))
            await until("device")
            assert stream.state.plan_reason is None
            await stream.agree("minimize uplink", deadline_ms=2 * PATIENCE_MS)
            assert "because something else is asked for now" in (stream.state.plan_reason or "")
            with pytest.raises(spinn.SpinnError, match="did you mean"):
                await stream.agree("minimise latenzy")
            with pytest.raises(ValueError, match="expected 1 to 600000"):
                await stream.agree(deadline_ms=0)
        return results

    plans = [result.plan for result in asyncio.run(asyncio.wait_for(main(), 120))]
    assert plans == sorted(plans), "plans are numbered through"


def test_a_server_that_dies_and_comes_back_is_told_and_no_frame_goes_without_an_answer(
    bundle: Bundle, engine: Engine, profile: Profile, photographs: list[Pixels]
) -> None:
    async def main() -> list[Event]:
        told = Told()

        def server(port: int) -> Server:
            tail = TailEngine(bundle, engine, ServerConfig().batch, Metrics(), profile)
            return Server([tail], Metrics(), ServerConfig(port=port))

        async with AsyncExitStack() as first:
            address = await first.enter_async_context(server(0).listen())
            stream = spinn.Stream(
                spinn.Pushed(), server=address, deadline_ms=PATIENCE_MS, device=ONNX,
                plan=spinn.FixedPlan("block7", "none"), on_event=told,
            )  # fmt: skip
            async with stream:
                assert (await stream.ask(photographs[0])).where == "server"
                await first.aclose()
                await told.wait_for(spinn.ServerLost)
                alone = await stream.ask(photographs[0])
                assert (alone.where, alone.reason) == ("device", "disconnected")
                async with server(int(address.rpartition(":")[2])).listen():
                    await told.wait_for(spinn.ServerBack, 2)
                    assert (await stream.ask(photographs[0])).where == "server"
        return told.events

    kinds = [type(event) for event in asyncio.run(asyncio.wait_for(main(), 120))]
    of_server = [kind for kind in kinds if kind in (spinn.ServerBack, spinn.ServerLost)]
    assert of_server[:3] == [spinn.ServerBack, spinn.ServerLost, spinn.ServerBack]


def test_a_server_that_refuses_later_is_told(
    bundle: Bundle, engine: Engine, profile: Profile, photographs: list[Pixels]
) -> None:
    """It comes back with a token that this client does not know."""

    async def main() -> Event:
        told, config = Told(), ServerConfig(port=0)
        async with AsyncExitStack() as first:
            address = await first.enter_async_context(serving(bundle, engine, profile))
            async with spinn.Stream(spinn.Pushed(), server=address, device=ONNX, on_event=told):
                await first.aclose()
                config = ServerConfig(port=int(address.rpartition(":")[2]), token="open sesame")
                tail = TailEngine(bundle, engine, config.batch, Metrics(), profile)
                async with Server([tail], Metrics(), config).listen():
                    return await told.wait_for(spinn.ServerRefusedUs)

    assert "unauthorised" in asyncio.run(asyncio.wait_for(main(), 120)).text


def test_a_dead_steering_task_is_told_and_frames_go_on(
    photographs: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Steering) -> None:
        raise ZeroDivisionError("a fault of ours")

    async def main() -> str:
        told = Told()
        async with spinn.Stream(spinn.Pushed(), deadline_ms=PATIENCE_MS, device=ONNX, on_event=told) as stream:
            monkeypatch.setattr(Steering, "look", broken)
            warned = await told.wait_for(spinn.Warned)
            assert (await stream.ask(photographs[0])).label is not None
        return warned.text

    told = asyncio.run(asyncio.wait_for(main(), 60))
    assert told == "warning: the scheduler failed: ZeroDivisionError: a fault of ours"


def test_a_callback_s_mistake_is_told_once_and_changes_nothing(photographs: list[Pixels]) -> None:
    async def main() -> tuple[int, list[str]]:
        told: list[str] = []

        def mistaken(result: spinn.Result) -> None:
            raise KeyError("a mistake of the program's")

        async with spinn.Stream(
            Clip(photographs, 5), deadline_ms=PATIENCE_MS, device=ONNX, feed=spinn.FeedConfig(unpaced=True),
            on_result=mistaken, on_event=lambda e: told.append(e.text) if isinstance(e, spinn.Warned) else None,
        ) as stream:  # fmt: skip
            await stream.ended()
            return stream.state.final, told

    final, told = asyncio.run(main())
    assert final == 5 and len(told) == 1 and "KeyError" in told[0]


def test_a_source_s_error_ends_the_iteration_after_its_results(photographs: list[Pixels]) -> None:
    class Breaks(Clip):
        def pictures(self) -> Iterator[Picture]:
            yield from super().pictures()
            raise spinn.SourceError("the tape is torn")

    async def main() -> int:
        count = 0
        async with spinn.Stream(
            Breaks(photographs, 4), deadline_ms=PATIENCE_MS, device=ONNX, feed=spinn.FeedConfig(unpaced=True)
        ) as stream:
            with pytest.raises(spinn.SourceError, match="torn"):
                async for _ in stream:
                    count += 1
        return count

    assert asyncio.run(main()) == 4


def test_results_that_nobody_reads_are_dropped_and_counted_and_every_frame_waits_for_a_reader_if_wanted(
    photographs: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spinn_client.outlets.MOST_UNREAD", 4)

    async def main(unpaced: bool) -> tuple[int, int]:
        feed = spinn.FeedConfig(unpaced=True) if unpaced else spinn.FeedConfig(fps=30, loop=True)
        async with spinn.Stream(Clip(photographs, 40), deadline_ms=PATIENCE_MS, device=ONNX, feed=feed) as stream:
            while stream.state.final < (2 if unpaced else 10):  # noqa: ASYNC110  nobody reads, so nobody tells
                await asyncio.sleep(0.05)
            if not unpaced:
                stream.stop()
                await stream.ended()
            unread = stream.state.unread
            return unread, len([result async for result in stream])

    assert asyncio.run(main(unpaced=True)) == (0, 40)
    unread, read = asyncio.run(main(unpaced=False))
    assert unread >= 6 and read == 4


class Swallowing:
    """An address that accepts connections and says nothing."""

    def __enter__(self) -> str:
        self._socket = socket.create_server(("127.0.0.1", 0))
        return f"ws://127.0.0.1:{self._socket.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def test_a_stream_can_be_left_while_it_opens(photographs: list[Pixels]) -> None:
    async def main(address: str) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3), spinn.Stream(spinn.Pushed(), server=address, device=ONNX):
                pytest.fail("nobody welcomed us")

    with Swallowing() as address:
        asyncio.run(asyncio.wait_for(main(address), 20))


def test_measuring_is_given_up_when_the_stream_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def measuring(bundle: Bundle, config: object, say: object, warn: object, stop: object) -> None:
        while not stop():  # type: ignore[operator]
            time.sleep(0.01)
        asked.set()
        raise spinn.SpinnError("given up")

    monkeypatch.setattr("spinn_client.stream.open_here", measuring)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3), spinn.Stream(spinn.Pushed()):
                pass

    asyncio.run(asyncio.wait_for(main(), 20))
    assert asked.wait(5)


def test_a_frame_that_cannot_be_built_for_goes_to_the_next_plan(
    photographs: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan whose graphs cannot be built is told; the one before stays in force."""

    async def refused(self: Device, plan: spinn.Plan) -> None:
        from spinn_stream.errors import EngineError

        raise EngineError("no such kernel")

    async def main() -> tuple[spinn.Result, str]:
        told = Told()
        async with spinn.Stream(
            spinn.Pushed(), deadline_ms=PATIENCE_MS, device=ONNX, plan=spinn.FixedPlan("final", "none"), on_event=told
        ) as stream:
            monkeypatch.setattr(Device, "build", refused)
            monkeypatch.setattr(Device, "runs", lambda self, plan: False)
            await stream.agree(plan=spinn.FixedPlan("final", "0.0"))
            warned = await told.wait_for(spinn.Warned)
            return await stream.ask(photographs[0]), warned.text

    result, told = asyncio.run(asyncio.wait_for(main(), 60))
    assert result.plan == 1 and "cannot be built: no such kernel; frames go on under plan 1" in told


def test_the_plain_form_iterates_asks_and_tells_events(photographs: list[Pixels]) -> None:
    seen: list[str] = []
    with spinn.SyncStream(
        Clip(photographs, 6), deadline_ms=PATIENCE_MS, device=ONNX, feed=spinn.FeedConfig(unpaced=True),
        on_event=lambda event: seen.append(type(event).__name__),
    ) as stream:  # fmt: skip
        assert [result.frame for result in stream] == list(range(6))
        assert stream.state.final == 6
    assert "PlanChanged" in seen
    with spinn.SyncStream(spinn.Pushed(), deadline_ms=PATIENCE_MS, device=ONNX) as stream:
        assert stream.ask(photographs[1]).label == "espresso"
        events = stream.events()
        stream.agree(plan=spinn.FixedPlan("final", "0.0"))
        stream.stop()
    with pytest.raises(spinn.StreamEnded):
        stream.ask(photographs[0])
    assert events is not None


def test_the_plain_form_may_be_closed_by_several_threads_at_once(photographs: list[Pixels]) -> None:
    failed: list[BaseException] = []

    def close(stream: spinn.SyncStream) -> None:
        try:
            stream.close()
        except BaseException as error:
            failed.append(error)

    stream = spinn.SyncStream(spinn.Pushed(), deadline_ms=PATIENCE_MS, device=ONNX)
    stream.open()
    threads = [threading.Thread(target=close, args=(stream,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    stream.close()
    assert failed == [] and not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"deadline_ms": 0}, ValueError, "deadline_ms is 0, expected 1 to 600000"),
        ({"sla": "minimize speed"}, spinn.ConfigError, "expected|did you mean"),
        ({"policy": "none"}, spinn.ConfigError, "expected one of spinn"),
        ({"policy": "spinn", "plan": spinn.FixedPlan("final")}, spinn.ConfigError, "give one or the other"),
    ],
)
def test_what_cannot_be_is_said_before_anything_opens(
    arguments: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        spinn.Stream("demo", **arguments)  # type: ignore[arg-type]
