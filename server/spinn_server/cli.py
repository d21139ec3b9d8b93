"""`spinn serve`."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import traceback
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import Progress, TaskID

from spinn_server.admin import logs
from spinn_server.admin.metrics import Metrics
from spinn_server.carriers.peers import Front, read_networks
from spinn_server.work.scheduler import BatchLimits, Policy
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from spinn_stream.cli.options import Threads, read_threads, read_token
from spinn_stream.errors import ConfigError, SpinnError
from spinn_stream.runtime import open_engine, stored_profile
from spinn_stream.runtime.machine.host import Host
from spinn_stream.runtime.machine.threads import shorten_pauses, worker
from spinn_stream.wire import SessionLimits

from .process import first_signal, in_thread_of_its_own, leave_if_stuck, room_for_sockets
from .ray.config import ClusterConfig
from .ray.start import serve_until_signal
from .server import Reception, Server, ServerConfig, listen_for

LARGEST_PROFILED = 16


def serve(
    bundle: Annotated[
        list[Path] | None,
        typer.Option(help="folder of a bundle; give it again to serve several", show_default="built in"),
    ] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen on; 0: any free one")] = 8765,
    runtime: Annotated[str, typer.Option(help="auto, onnxruntime, openvino or torch")] = "auto",
    threads: Threads = "auto",
    max_batch_size: Annotated[int, typer.Option(help="requests run together")] = 16,
    max_wait_ms: Annotated[float, typer.Option(help="how long the first request of a batch waits for company")] = 2.0,
    max_queue: Annotated[int, typer.Option(help="requests of a bundle that may be open; one more is refused")] = 256,
    max_in_flight: Annotated[int, typer.Option(help="requests one client may have without an answer")] = 32,
    max_sessions: Annotated[int, typer.Option(help="sessions at once; a new one takes the place of an idle one")] = 256,
    policy: Annotated[
        Policy, typer.Option(help="segments: requests join others on the way; run-to-end: they do not")
    ] = Policy.SEGMENTS,
    token_file: Annotated[Path | None, typer.Option(help="file with the token that clients must show")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="certificate chain, PEM")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="private key, PEM")] = None,
    path_prefix: Annotated[str, typer.Option(help="what a reverse proxy leaves on the paths, like /spinn")] = "",
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(help="network whose X-Forwarded-For is believed, like 10.0.0.0/8; may be repeated"),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="web pages that may begin sessions, like https://example.org; may be repeated"),
    ] = None,
    log_format: Annotated[logs.Form, typer.Option(help="how log lines look")] = logs.Form.TEXT,
    log_level: Annotated[
        logs.Level, typer.Option(help="info: sessions, too; debug: why each request is refused")
    ] = logs.Level.WARNING,
    ray: Annotated[bool, typer.Option("--ray", help="on a cluster of Ray; see docs/cluster.md")] = False,
    replicas: Annotated[int, typer.Option(help="with --ray: at least this number of engines")] = 1,
    most_replicas: Annotated[int, typer.Option(help="with --ray: at most this number; 0: no more than the least")] = 0,
    ingresses: Annotated[int, typer.Option(help="with --ray: processes that hold sessions")] = 1,
    debug: Annotated[bool, typer.Option(help="show tracebacks")] = False,
) -> None:
    """Finish what devices began: run the tails of their networks, batched across clients.

    Prints `ready ws://HOST:PORT` once it accepts. /healthz, /readyz and /metrics are on the same port, and answer while
    the engine is still being set up, too.
    """
    logs.set_up(log_format, logs.Level.DEBUG if debug else log_level)
    try:
        config = ServerConfig(
            host=host,
            port=port,
            token=read_token(token_file),
            max_sessions=max_sessions,
            max_sockets=room_for_sockets(),
            session=SessionLimits(max_in_flight=max_in_flight),
            batch=BatchLimits(
                max_batch_size=max_batch_size, max_wait_ms=max_wait_ms, max_queue=max_queue, policy=policy
            ),
            front=Front(path_prefix, read_networks(trusted_proxy or []), frozenset(allow_origin or [])),
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    tls = _tls(tls_cert, tls_key)
    models = _load(bundle or [DEFAULT_BUNDLE])
    if ray:
        if len(models) > 1 or tls is not None or config.port == 0:
            raise ConfigError("--ray takes one --bundle, a --port, and no TLS: a proxy before it has that")
        serve_on_ray(models[0], config, runtime, threads, replicas, most_replicas, ingresses)
        return
    metrics = Metrics()
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    def set_up() -> list[TailEngine]:
        """Set up engines and networks. Takes seconds, in a thread; meanwhile the port says that the server is not
        ready."""
        engine_threads = read_threads(threads)
        host = Host(worker=cache(worker))  # the bundles' engines take turns on one thread
        tails = []
        for model in models:
            opened = open_engine(
                model, runtime, threads=engine_threads, say=say, warn=lambda text: say(f"warning: {text}")
            )
            profile = stored_profile(model, opened, threads=engine_threads, batches=_batches(max_batch_size), say=say)
            tail = TailEngine(model, opened, config.batch, metrics, profile, host=host)
            with Progress(console=console, transient=True) as progress:
                task = progress.add_task(f"building the segments of {model.name}")
                tail.prepare(partial(_show, progress, task))
            tails.append(tail)
        return tails

    async def main() -> None:
        stop = first_signal()
        reception = Reception(metrics)
        async with listen_for(reception, models, config, tls, metrics) as address:
            setting_up = in_thread_of_its_own(set_up)
            await asyncio.wait((setting_up, stop), return_when=asyncio.FIRST_COMPLETED)
            if not setting_up.done():
                setting_up.cancel()
                console.show_cursor()  # which the progress bar has hidden
                return
            server = Server(setting_up.result(), metrics, config)
            shorten_pauses()
            reception.hand_to(server)
            async with server.running() as running:
                print(f"ready {address}", flush=True)
                await asyncio.wait((running, stop), return_when=asyncio.FIRST_COMPLETED)

    try:
        uvloop.run(main())
    except SpinnError as error:
        leave_if_stuck(1, traceback.format_exc() if debug else f"spinn serve: {error}")
        raise
    leave_if_stuck(0)


def serve_on_ray(
    model: Bundle, config: ServerConfig, runtime: str, threads: str, replicas: int, most_replicas: int, ingresses: int
) -> None:
    """Serve until a signal, on the cluster that this machine belongs to or, if there is none, on this machine alone."""
    try:
        cluster = ClusterConfig(
            model.graph_path.parent.resolve(), secrets.token_hex(16), config, runtime,
            1 if threads == "auto" else read_threads(threads) or 1, replicas, max(replicas, most_replicas), ingresses,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(str(error)) from error
    serve_until_signal(cluster)


def _load(folders: Sequence[Path]) -> list[Bundle]:
    models = [load_bundle(folder) for folder in folders]
    names = [model.name for model in models]
    if len({model.hash for model in models}) < len(models) or len(set(names)) < len(names):
        raise ConfigError(f"bundles {', '.join(names)} were given, expected each once, and no two of one name")
    return models


def _show(progress: Progress, task: TaskID, done: int, total: int) -> None:
    progress.update(task, completed=done, total=total)


def _batches(most: int) -> list[int]:
    """Batch sizes to profile: powers of two up to the largest that is run."""
    sizes = [1]
    while sizes[-1] * 2 <= min(most, LARGEST_PROFILED):
        sizes.append(sizes[-1] * 2)
    return sizes


def _tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ConfigError("--tls-cert and --tls-key go together; one is missing")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def no_pass_phrase() -> str:  # asked for only if the key has one; without this, at the terminal
        raise ConfigError(f"{key} has a pass-phrase; expected a key without one, as `openssl pkey` writes it")

    try:
        context.load_cert_chain(cert, key, no_pass_phrase)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use {cert} and {key} for TLS: {error}") from error
    return context
