"""`spinn run`."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console
from spinn_stream.cli_options import read_token
from spinn_stream.errors import ConfigError, ServerUnreachable
from spinn_stream.model.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from spinn_stream.plan import Plan
from spinn_stream.runtime import open_engine

from .device import Device
from .feed import Feed, FeedConfig
from .ledger import Ledger
from .link import Link, LinkConfig
from .pipeline import SPARE_MS, Pipeline
from .report import LiveView, ResultLog, Tally, show_summary, summarise
from .results import FrameResult
from .sources import Source, open_source


def run(
    source: Annotated[str, typer.Option(help="video FILE, a camera's number, rtsp://... or demo")],
    server: Annotated[str | None, typer.Option(help="ws://HOST:PORT of `spinn serve`; without: the device alone")] = None,
    deadline_ms: Annotated[float, typer.Option(help="age by which every frame has its answer")] = 150.0,
    split: Annotated[str | None, typer.Option(help="cut point the device stops at, by name or number", show_default="middle")] = None,
    threshold: Annotated[str | None, typer.Option(help="confidence at which an exit answers, 0 to 1, or none", show_default="the bundle's")] = None,
    fps: Annotated[float | None, typer.Option(help="frames per second", show_default="the source's own")] = None,
    unpaced: Annotated[bool, typer.Option("--unpaced", help="every frame, as fast as they are taken")] = False,
    loop: Annotated[bool, typer.Option("--loop", help="begin again at the end of a file")] = False,
    frames: Annotated[int | None, typer.Option(help="stop after so many frames")] = None,
    bundle: Annotated[Path, typer.Option(help="folder of the bundle", show_default="built in")] = DEFAULT_BUNDLE,
    runtime: Annotated[str, typer.Option(help="auto or onnxruntime")] = "auto",
    threads: Annotated[int, typer.Option(help="engine threads")] = 1,
    max_in_flight: Annotated[int, typer.Option(help="frames that may wait for the server at once")] = 16,
    allow_offline: Annotated[bool, typer.Option("--allow-offline", help="begin alone where the server is not there yet")] = False,
    token_file: Annotated[Path | None, typer.Option(help="file with the token that the server asks for")] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="certificate authority to trust, PEM")] = None,
    provisional: Annotated[bool, typer.Option("--provisional", help="report exits that were not confident enough, too")] = False,
    late: Annotated[bool, typer.Option("--late", help="report server answers that came after the deadline, too")] = False,
    jsonl: Annotated[Path | None, typer.Option(help="write results here, one JSON object a line; - for standard output")] = None,
    summary: Annotated[Path | None, typer.Option(help="write the run's figures here, as JSON")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no live table")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks and what happens")] = False,
) -> None:  # fmt: skip
    """Classify a camera, stream or clip: the first layers here, the rest on a server, an answer by every deadline."""
    console = Console(stderr=True)
    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG if debug else logging.ERROR,
                        format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("websockets").setLevel(logging.ERROR)
    if not 1 <= deadline_ms <= 600_000:
        raise ConfigError(f"--deadline-ms is {deadline_ms}, expected 1 to 600000")
    try:
        feed_config = FeedConfig(fps=fps, unpaced=unpaced, loop=loop, max_frames=frames)
        link_config = None if server is None else LinkConfig(
            server, token=read_token(token_file), tls_ca=tls_ca, max_in_flight=max_in_flight)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    opened = open_source(source)
    model = load_bundle(bundle)
    plan = _plan(model, split, threshold, has_server=server is not None)
    session = _Run(console, model, plan, opened, feed_config, link_config, deadline_ms, runtime, threads,
                   provisional, late, allow_offline, quiet)
    results = ResultLog(jsonl) if jsonl is not None else None
    _check_writable(summary)
    try:
        figures = uvloop.run(session.main(results))
    finally:
        if results is not None:
            results.close()
    if summary is not None:
        _write_summary(summary, figures)
    if session.error is not None:
        raise session.error


def _plan(bundle: Bundle, split: str | None, threshold: str | None, *, has_server: bool) -> Plan:
    """The fixed plan that the command line asks for."""
    index = bundle.last if not has_server else bundle.last // 2
    if split is not None:
        index = bundle.split_index(split)
    if not has_server and index != bundle.last:
        raise ConfigError(f"--split {split} leaves work for a server: add --server ws://HOST:PORT, or leave out --split")
    value: float | None = bundle.default_threshold
    if threshold is not None:
        try:
            value = None if threshold == "none" else float(threshold)
            return Plan(1, index, value)
        except ValueError:
            raise ConfigError(f"--threshold is {threshold!r}, expected a number from 0 to 1, or none") from None
    return Plan(1, index, value)


def _check_writable(path: Path | None) -> None:
    if path is not None and not path.absolute().parent.is_dir():
        raise ConfigError(f"cannot write {path}: there is no folder {path.absolute().parent}")


def _write_summary(path: Path, figures: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(figures, indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


class _Run:
    """One call of `spinn run`: puts the parts together and takes them apart."""

    def __init__(
        self, console: Console, bundle: Bundle, plan: Plan, source: Source, feed: FeedConfig, link: LinkConfig | None,
        deadline_ms: float, runtime: str, threads: int, provisional: bool, late: bool, allow_offline: bool, quiet: bool,
    ) -> None:
        self._console = console
        self._bundle = bundle
        self._plan = plan
        self._source = source
        self._feed_config = feed
        self._link_config = link
        self._deadline_ms = deadline_ms
        self._device = Device(bundle, open_engine(bundle, runtime, threads=threads))
        self._ledger = Ledger(bundle.labels, provisional=provisional, late=late)
        self._late = late
        self._allow_offline = allow_offline
        self._quiet = quiet
        self._tally = Tally()
        self._link: Link | None = None
        self._traffic: tuple[float, int] = (time.monotonic(), 0)
        self._up_mbps = 0.0
        self.error: Exception | None = None

    async def main(self, results: ResultLog | None) -> dict[str, Any]:
        """Run to the end; gives the summary. A source that failed half-way is left in `error`."""
        self._say(f"bundle {self._bundle.name} {self._bundle.hash[:12]}, source {self._source.name}: building the network ...")
        await asyncio.get_running_loop().run_in_executor(None, self._device.prepare, self._plan)
        self._warn_of_deadline()

        def emit(result: FrameResult) -> None:
            self._tally.add(result)
            if results is not None:
                results.add(result)

        feed = Feed(self._source, self._feed_config)
        pipeline = Pipeline(
            self._bundle, self._device, feed, self._ledger, self._plan, deadline_ms=self._deadline_ms,
            unpaced=self._feed_config.unpaced, keep_late=self._late, emit=emit,
        )
        if self._link_config is not None:
            self._link = Link(self._link_config, self._bundle, pipeline, random.Random())
            await self._open(self._link)
            pipeline.use_link(self._link)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, feed.stop)
        view = LiveView(self._console, self._tally, self._state)
        if not self._quiet:
            view.start()
        began = time.monotonic()
        try:
            await pipeline.run()
        except Exception as error:  # every frame was answered; the figures are still worth showing
            self.error = error
        finally:
            if not self._quiet:
                view.stop()
            self._device.close()
        figures = summarise(
            self._tally, bundle=self._bundle, plans=[self._plan], captured=feed.captured, taken=pipeline.taken,
            dropped=feed.dropped, late=self._ledger.late_answers,
            bytes_up=self._link.bytes_up if self._link else 0, bytes_down=self._link.bytes_down if self._link else 0,
        )
        if not self._quiet:
            show_summary(self._console, figures, time.monotonic() - began)
        return figures

    async def _open(self, link: Link) -> None:
        try:
            await link.open()
        except ServerUnreachable as error:
            if not self._allow_offline:
                raise ServerUnreachable(f"{error} (--allow-offline begins without it)") from error
            self._say(f"{error}; beginning alone, and trying again")

    def _warn_of_deadline(self) -> None:
        first = self._device.first_exit_ms(0) + SPARE_MS
        if self._deadline_ms < first:
            self._say(f"warning: the deadline of {self._deadline_ms:.0f} ms is shorter than the {first:.0f} ms this device "
                      "needs for its first exit; frames will end in no_answer")

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._console.print(text, highlight=False, soft_wrap=True)

    def _state(self) -> dict[str, Any]:
        """What the live view shows besides results. Called from its thread, about every quarter of a second."""
        link, now = self._link, time.monotonic()
        sent = link.bytes_up if link else 0
        then, before = self._traffic
        if now - then >= 0.2:
            self._up_mbps = 0.5 * self._up_mbps + 0.5 * (sent - before) * 8e-6 / (now - then)
            self._traffic = (now, sent)
        threshold = self._plan.confidence_threshold
        return {
            "link": "none" if link is None else "up" if link.up else "away",
            "rtt_ms": link.rtt_ms if link is not None and link.up else None,
            "up_mbps": self._up_mbps,
            "plan": f"{self._plan.id}: split {self._bundle.cut_points[self._plan.split].name}, "
                    f"threshold {'none' if threshold is None else format(threshold, '.2f')}",
        }  # fmt: skip
