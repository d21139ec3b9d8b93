"""`spinn run`."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from spinn_client import DeviceConfig, Event, FeedConfig, FixedPlan, LinkConfig, Result, Stream
from spinn_client.sinks.base import open_sink
from spinn_client.sinks.files import OutputFile, check_outputs
from spinn_client.sinks.jsonl import ResultLog
from spinn_client.sinks.trace import TraceRecorder
from spinn_client.sources.quiet import quiet_decoders
from spinn_stream.bundle import DEFAULT_BUNDLE
from spinn_stream.cli.options import Threads, read_threads, read_token
from spinn_stream.errors import ConfigError
from spinn_stream.plan import DEFAULT_SLA, POLICIES
from spinn_stream.repeat import DEFAULT_AUDIT_RATE

from .run import Run


def run(
    source: Annotated[str, typer.Option(help="video FILE, FOLDER of images, a camera's number, rtsp://... or demo")],
    server: Annotated[list[str] | None, typer.Option(help="ws://HOST:PORT, again for the next best")] = None,
    deadline_ms: Annotated[float, typer.Option(help="age by which every frame has its answer")] = 150.0,
    split: Annotated[str | None, typer.Option(help="cut point the device stops at", show_default="decided")] = None,
    threshold: Annotated[str | None, typer.Option(help="how careful exits are, or none", show_default="auto")] = None,
    codec: Annotated[str | None, typer.Option(help="transform:7, cnn-co:8, jpeg:85, png", show_default="auto")] = None,
    policy: Annotated[str | None, typer.Option(help=f"decides: {', '.join(POLICIES)}", show_default="spinn")] = None,
    sla: Annotated[str | None, typer.Option(help="the goal: constraints and targets", show_default=DEFAULT_SLA)] = None,
    fps: Annotated[float | None, typer.Option(help="frames per second", show_default="the source's own")] = None,
    unpaced: Annotated[bool, typer.Option("--unpaced", help="every frame, as fast as they are taken")] = False,
    loop: Annotated[bool, typer.Option("--loop", help="begin again at the end of a file")] = False,
    frames: Annotated[int | None, typer.Option(help="stop after this many frames")] = None,
    source_timeout_s: Annotated[float, typer.Option(help="silence of a live source, then it is re-opened")] = 5.0,
    give_up_after_s: Annotated[float | None, typer.Option(help="end if a live source is away for longer")] = None,
    bundle: Annotated[Path, typer.Option(help="folder of the bundle", show_default="built in")] = DEFAULT_BUNDLE,
    runtime: Annotated[str, typer.Option(help="auto, onnxruntime, openvino or torch")] = "auto",
    threads: Threads = "auto",
    device_slowdown: Annotated[float, typer.Option(help="take this many times as long, as a small board does")] = 1.0,
    repeat: Annotated[
        bool | None, typer.Option(help="same picture, same answer", show_default="for one camera")
    ] = None,
    audit_rate: Annotated[float, typer.Option(help="share of repeats that are checked")] = DEFAULT_AUDIT_RATE,
    max_in_flight: Annotated[int, typer.Option(help="frames that may wait for the server at once")] = 16,
    max_offload_fps: Annotated[float | None, typer.Option(help="frames a second a server gets at most")] = None,
    may_shorten: Annotated[bool, typer.Option("--may-shorten", help="let a busy server take earlier exits")] = False,
    warm_spare: Annotated[bool, typer.Option("--warm-spare", help="stay connected to the other servers")] = False,
    allow_offline: Annotated[bool, typer.Option("--allow-offline", help="begin without the server")] = False,
    token_file: Annotated[Path | None, typer.Option(help="file with the token that the server asks for")] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="certificate authority to trust, PEM")] = None,
    labels: Annotated[str | None, typer.Option(help="everyday, or a JSON FILE, class -> group")] = None,
    unknown_below: Annotated[float | None, typer.Option(help="less confident answers are called unknown")] = None,
    provisional: Annotated[bool, typer.Option("--provisional", help="report unsure local exits, too")] = False,
    late: Annotated[bool, typer.Option("--late", help="report answers after the deadline, too")] = False,
    jsonl: Annotated[Path | None, typer.Option(help="write results here, a JSON object a line; - for stdout")] = None,
    sink: Annotated[list[str] | None, typer.Option(help="send results here: mqtt://HOST/TOPIC, jsonl:FILE")] = None,
    summary: Annotated[Path | None, typer.Option(help="write the run's figures here, as JSON")] = None,
    record_trace: Annotated[Path | None, typer.Option(help="write what the link shows here, as a trace")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no live table")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks and what happens")] = False,
) -> None:  # fmt: skip
    """Classify a camera, stream or clip: first layers here, the rest on a server, an answer by every deadline."""
    console = Console(stderr=True)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if debug else logging.CRITICAL,  # what a user should know is told by events
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("websockets").setLevel(logging.ERROR if debug else logging.CRITICAL)
    if record_trace is not None and not server:
        raise ConfigError("--record-trace records the link to a server: add --server ws://HOST:PORT")
    fixed = FixedPlan(split, threshold, codec)
    if fixed != FixedPlan() and (policy or sla):
        given = [name for name, value in (("--split", split), ("--threshold", threshold), ("--codec", codec)) if value]
        raise ConfigError(
            f"{', '.join(given)} fix the plan, which --policy and --sla leave open: give one or the other"
        )
    named = {"--jsonl": jsonl, "--summary": summary, "--record-trace": record_trace}
    outputs = {name: OutputFile(path, name) for name, path in named.items() if path is not None}
    sinks = [open_sink(url) for url in sink or ()]
    files = [opened.output for opened in sinks if isinstance(opened, ResultLog)]
    check_outputs([*outputs.values(), *files], inputs={"--source": Path(source)})
    if not debug:
        quiet_decoders()

    def make(on_result: Callable[[Result], object], on_event: Callable[[Event], object]) -> Stream:
        token = read_token(token_file) if server else None
        links = [
            LinkConfig(url, token, tls_ca, max_in_flight, allow_offline, warm_spare, may_shorten, max_offload_fps)
            for url in server or ()
        ]
        return Stream(
            source,
            server=links,
            deadline_ms=deadline_ms,
            sla=sla,
            policy=policy,
            plan=fixed if fixed != FixedPlan() else None,
            labels=labels,
            unknown_below=unknown_below,
            provisional=provisional,
            late=late,
            feed=FeedConfig(
                fps=fps, unpaced=unpaced, loop=loop, max_frames=frames, source_timeout_s=source_timeout_s,
                give_up_after_s=give_up_after_s,
            ),
            device=DeviceConfig(bundle, runtime, read_threads(threads), device_slowdown, repeat, audit_rate),
            sinks=[*sinks, *([ResultLog(outputs["--jsonl"])] if "--jsonl" in outputs else [])],
            on_result=on_result,
            on_event=on_event,
        )  # fmt: skip

    recorder = TraceRecorder(outputs["--record-trace"]) if "--record-trace" in outputs else None
    try:
        session = Run(console, make, quiet=quiet, recorder=recorder)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    try:
        ended = uvloop.run(session.main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    if "--summary" in outputs:
        outputs["--summary"].write_whole(json.dumps(ended.figures, indent=1) + "\n")
    if ended.error is not None:
        raise ended.error
