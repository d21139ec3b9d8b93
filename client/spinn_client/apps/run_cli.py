"""`spinn run`."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console

from spinn_client.frames.feed import FeedConfig
from spinn_client.link.connection import LinkConfig
from spinn_client.sinks.jsonl import ResultLog
from spinn_client.sinks.trace import TraceRecorder
from spinn_client.sources.quiet import quiet_decoders
from spinn_client.sources.registry import open_source
from spinn_client.steering.steering import Asked
from spinn_stream.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from spinn_stream.cli.options import Threads, read_threads, read_token
from spinn_stream.codec import CodecSetting, default_setting
from spinn_stream.codec.basis import basis_of
from spinn_stream.errors import CodecError, ConfigError
from spinn_stream.plan import DEFAULT_SLA, POLICIES, Plan, parse_sla
from spinn_stream.plan import policy as policy_of

from .run import Run, RunConfig


def run(
    source: Annotated[str, typer.Option(help="video FILE, FOLDER of images, a camera's number, rtsp://... or demo")],
    server: Annotated[str | None, typer.Option(help="ws://HOST:PORT; without: the device alone")] = None,
    deadline_ms: Annotated[float, typer.Option(help="age by which every frame has its answer")] = 150.0,
    split: Annotated[str | None, typer.Option(help="cut point the device stops at", show_default="decided")] = None,
    threshold: Annotated[str | None, typer.Option(help="confidence that answers, or none", show_default="auto")] = None,
    codec: Annotated[str | None, typer.Option(help="transform:7, cnn-co:8, jpeg:85, png", show_default="auto")] = None,
    policy: Annotated[str | None, typer.Option(help=f"decides: {', '.join(POLICIES)}", show_default="spinn")] = None,
    sla: Annotated[str | None, typer.Option(help="what is asked of the policy", show_default=DEFAULT_SLA)] = None,
    fps: Annotated[float | None, typer.Option(help="frames per second", show_default="the source's own")] = None,
    unpaced: Annotated[bool, typer.Option("--unpaced", help="every frame, as fast as they are taken")] = False,
    loop: Annotated[bool, typer.Option("--loop", help="begin again at the end of a file")] = False,
    frames: Annotated[int | None, typer.Option(help="stop after so many frames")] = None,
    bundle: Annotated[Path, typer.Option(help="folder of the bundle", show_default="built in")] = DEFAULT_BUNDLE,
    runtime: Annotated[str, typer.Option(help="auto, onnxruntime, openvino or torch")] = "auto",
    threads: Threads = "auto",
    device_slowdown: Annotated[float, typer.Option(help="work so many times slower, as a small board does")] = 1.0,
    max_in_flight: Annotated[int, typer.Option(help="frames that may wait for the server at once")] = 16,
    allow_offline: Annotated[bool, typer.Option("--allow-offline", help="begin without the server")] = False,
    token_file: Annotated[Path | None, typer.Option(help="file with the token that the server asks for")] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="certificate authority to trust, PEM")] = None,
    provisional: Annotated[bool, typer.Option("--provisional", help="report unsure local exits, too")] = False,
    late: Annotated[bool, typer.Option("--late", help="report answers after the deadline, too")] = False,
    jsonl: Annotated[Path | None, typer.Option(help="write results here, a JSON object a line; - for stdout")] = None,
    summary: Annotated[Path | None, typer.Option(help="write the run's figures here, as JSON")] = None,
    record_trace: Annotated[Path | None, typer.Option(help="write what the link shows here, as a trace")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no live table")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks and what happens")] = False,
) -> None:  # fmt: skip
    """Classify a camera, stream or clip: the first layers here, the rest on a server, an answer by every deadline."""
    console = Console(stderr=True)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if debug else logging.ERROR,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("websockets").setLevel(logging.ERROR)
    try:
        feed_config = FeedConfig(fps=fps, unpaced=unpaced, loop=loop, max_frames=frames)
        link_config = (
            None
            if server is None
            else LinkConfig(
                server,
                token=read_token(token_file),
                tls_ca=tls_ca,
                max_in_flight=max_in_flight,
            )
        )
        if record_trace is not None and server is None:
            raise ConfigError("--record-trace records the link to a server: add --server ws://HOST:PORT")
        model = load_bundle(bundle)
        config = RunConfig(
            plan=_plan(model, (split, threshold, codec), policy, sla, has_server=server is not None),
            deadline_ms=deadline_ms,
            runtime=runtime,
            threads=read_threads(threads),
            slowdown=device_slowdown,
            provisional=provisional,
            late=late,
            allow_offline=allow_offline,
            quiet=quiet,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    quiet_decoders()
    opened = open_source(source)
    session = Run(console, model, opened, feed_config, link_config, config)
    results = ResultLog(jsonl) if jsonl is not None else None
    _check_writable(summary)
    recorder = TraceRecorder(record_trace) if record_trace is not None else None
    try:
        figures = uvloop.run(session.main(results, recorder))
    finally:
        if recorder is not None:
            recorder.close()
        if results is not None:
            results.close()
    if summary is not None:
        _write_summary(summary, figures)
    if session.error is not None:
        raise session.error


Fixed = tuple[str | None, str | None, str | None]
"""--split, --threshold and --codec."""


def _plan(bundle: Bundle, fixed: Fixed, policy_name: str | None, sla: str | None, *, has_server: bool) -> Plan | Asked:
    """The fixed plan that the command line asks for, or who decides on plans."""
    given = [name for name, value in zip(("--split", "--threshold", "--codec"), fixed, strict=True) if value]
    if given and (policy_name or sla):
        raise ConfigError(
            f"{', '.join(given)} fix the plan, which --policy and --sla leave open: give one or the other"
        )
    if not given:
        return Asked(policy_of(policy_name or "spinn"), parse_sla(sla or DEFAULT_SLA))
    return _fixed_plan(bundle, *fixed, has_server=has_server)


def _fixed_plan(
    bundle: Bundle, split: str | None, threshold: str | None, codec: str | None, *, has_server: bool
) -> Plan:
    value: float | None = bundle.default_threshold
    if threshold is not None:
        try:
            value = None if threshold == "none" else float(threshold)
        except ValueError:
            raise ConfigError(f"--threshold is {threshold!r}, expected a number from 0 to 1, or none") from None
    index = default_split(bundle, value) if has_server else bundle.last
    if split is not None:
        index = bundle.split_index(split)
    if not has_server and index != bundle.last:
        raise ConfigError(
            f"--split {split} leaves work for a server: add --server ws://HOST:PORT, or leave out --split"
        )
    setting = default_setting(bundle, index) if index < bundle.last else None  # None: nothing is sent
    if codec is not None:
        try:
            setting = CodecSetting.parse(codec)
            setting.check_split(index)
            if index and setting.codec == "transform":
                basis_of(bundle, index)
        except CodecError as error:
            raise ConfigError(f"--codec: {error}") from error
    try:
        return Plan(1, index, value, setting)
    except ValueError:
        raise ConfigError(f"--threshold is {threshold!r}, expected a number from 0 to 1, or none") from None


def default_split(bundle: Bundle, threshold: float | None) -> int:
    """The early exit nearest to the middle that may answer, so that the device can; where none may, the middle."""
    middle = bundle.last // 2
    return min(bundle.needed(threshold), key=lambda cut: abs(cut - middle), default=middle)


def _check_writable(path: Path | None) -> None:
    if path is not None and not path.absolute().parent.is_dir():
        raise ConfigError(f"cannot write {path}: there is no folder {path.absolute().parent}")


def _write_summary(path: Path, figures: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(figures, indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
